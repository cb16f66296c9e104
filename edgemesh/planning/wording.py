"""Figures in words, for sentences that people read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NAMED: Final = 8
"""Names in one sentence: a mesh may have thousands of devices, and a text that is too long is refused."""


def listed(names: Iterable[str], between: str = ", ") -> str:
    """``a, b, c``; of many the first eight, ``and 12 others``."""
    every = list(names)
    told = between.join(every[:NAMED])
    if len(every) <= NAMED:
        return told
    return f"{told} and {len(every) - NAMED} other{'s' * (len(every) > NAMED + 1)}"


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


def as_joules(joules: float) -> str:
    """``0.0123`` as ``12.3 mJ``."""
    if abs(joules) >= 1.0:
        return f"{joules:.2f} J"
    mj = joules * 1e3
    return f"{mj:.0f} mJ" if abs(mj) >= 100.0 else f"{mj:.1f} mJ" if abs(mj) >= 10.0 else f"{mj:.2f} mJ"


def as_money(money: float) -> str:
    """Per million jobs, because one job costs next to nothing."""
    return f"{money * 1e6:.2f} per million jobs"
