"""The edgemesh command (shell)."""
