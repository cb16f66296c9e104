"""Figures in words, for sentences that people read."""

from __future__ import annotations


def as_milliseconds(seconds: float) -> str:
    """``0.01234`` as ``12.3 ms``; more digits when it is short."""
    ms = seconds * 1e3
    return f"{ms:.1f} ms" if abs(ms) >= 10.0 else f"{ms:.2f} ms"


def as_bytes(count: float) -> str:
    """``3400000`` as ``3.4 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
