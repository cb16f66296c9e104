"""Agents that carry out what roles decide (shell)."""
