"""Text of other machines, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` in one line, with a space for each character that steers a terminal or cannot be written."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def printable_lines(text: str) -> str:
    """The same, line by line."""
    return "\n".join(map(printable, text.split("\n")))
