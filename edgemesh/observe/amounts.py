"""Amounts as people read them: three significant digits and a unit."""

from __future__ import annotations

import math
from typing import Final

_BYTES: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))
_SECONDS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_COUNTS: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def bytes_text(amount: float) -> str:
    """``1.08 MB``: decimal units, as network and storage use them."""
    return _scaled(amount, _BYTES)


def seconds_text(amount: float) -> str:
    """``14.1 ms``."""
    return _scaled(amount, _SECONDS)


def count_text(amount: float) -> str:
    """``183 M``, for multiply-accumulates and the like."""
    return _scaled(amount, _COUNTS)


def _scaled(amount: float, units: tuple[tuple[float, str], ...]) -> str:
    if not math.isfinite(amount):
        return "-"
    # 999.5 rounds up to the next unit: "1 MB" and not "1000 KB".
    size, unit = next((u for u in units if abs(amount) >= u[0] * 0.9995), units[-1])
    value = amount / size
    whole = amount == int(amount) and size == 1.0
    digits = 0 if whole or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {unit}".strip()
