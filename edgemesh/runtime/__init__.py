"""Executors that run a unit range, each in a process of its own (shell)."""
