"""Bench: a device that fails repeatedly sits out for a while, longer each time, and comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_FAILURES = 3
"""In a row; one or two may be the fault of a job, and a job that kills executors ends after three."""
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 60.0
_DEVICES = 4096


@dataclass
class _Record:
    failures: int = 0
    """Since its last success."""
    seconds: float = _FIRST_SECONDS
    """How long it sits out next time."""
    until: float = float("-inf")


class Bench:
    """What one requester thinks of the devices that failed it. Refusing for want of room is no failure."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def failed(self, device: str, now: float) -> float | None:
        """A job failed on ``device``; the seconds that it sits out for that from now on, or None.

        What fails while it sits out was sent before, and tells nothing new. After its time one more failure
        is enough to sit out for twice as long.
        """
        if len(self._records) >= _DEVICES:
            self._records.clear()
        record = self._records.setdefault(device, _Record())
        if now < record.until:
            return None
        record.failures += 1
        if record.failures < _FAILURES:
            return None
        seconds, record.seconds = record.seconds, min(_MOST_SECONDS, 2.0 * record.seconds)
        record.until = now + seconds
        return seconds

    def succeeded(self, devices: Iterable[str]) -> None:
        """A job went well on them: whatever was held against them is forgotten."""
        if self._records:
            for device in devices:
                self._records.pop(device, None)

    def sits_out(self, devices: Iterable[str], now: float) -> bool:
        """Whether one of the devices is to be left alone where there is another way."""
        return any((record := self._records.get(d)) is not None and now < record.until for d in devices)
