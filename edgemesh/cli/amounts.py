"""Amounts that a person writes on the command line: rates, times, shares, prices."""

from __future__ import annotations

import re
from typing import Final

_BITS: Final = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "kbps": 1e3, "mbps": 1e6, "gbps": 1e9}
_BYTES: Final = {"B": 1.0, "KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9}
"""``Mb`` is not among them: some mean bits by it, and some bytes."""
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_AGES: Final = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z%]*)(/s)?")
_LARGEST: Final = 1e18


def rate(text: str) -> float | None:
    """``5Mbit``, ``5 Mbit/s`` or ``600KB/s`` in bytes per second; None for anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    amount, unit = float(match.group(1)), match.group(2)
    bits = _BITS.get(unit.lower())
    value = amount * _BYTES.get(unit, 0.0) if bits is None else amount / 8.0 * bits
    return value if 0.0 < value <= _LARGEST else None


def seconds(text: str) -> float | None:
    """``20ms`` or ``1.5 s`` in seconds; None for anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match.group(3) or match.group(2) not in _SECONDS:
        return None
    return _bounded(float(match.group(1)) * _SECONDS[match.group(2)])


def age(text: str) -> float | None:
    """``90s``, ``30min``, ``1h`` or ``2d`` in seconds; None for anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match.group(3) or match.group(2) not in _AGES:
        return None
    return _bounded(float(match.group(1)) * _AGES[match.group(2)])


def share(text: str) -> float | None:
    """``80%`` or ``0.8``, both 0.8; None for what is not between nothing and all."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match.group(3) or match.group(2) not in ("", "%"):
        return None
    value = float(match.group(1)) / (100.0 if match.group(2) else 1.0)
    return value if 0.0 <= value <= 1.0 else None


def price(text: str) -> tuple[float, str] | None:
    """``0.0001/s`` or ``0.09/GB`` as the amount and ``s`` or ``gb``; None for anything else."""
    amount, slash, per = text.strip().partition("/")
    match = _AMOUNT.fullmatch(amount)
    if not slash or match is None or match.group(2) or per.lower() not in ("s", "gb"):
        return None
    value = _bounded(float(match.group(1)))
    return None if value is None else (value, per.lower())


def _bounded(value: float) -> float | None:
    """None for what enough digits make infinite, and for what nobody means."""
    return value if value <= _LARGEST else None
