"""Pictures and tables for people (shell)."""
