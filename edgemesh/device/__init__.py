"""Boards, resource readings and emulation (shell)."""
