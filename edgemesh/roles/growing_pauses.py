"""Growing pauses: what was refused is tried again ever more seldom, and its reason is told once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class GrowingPauses(Generic[K]):
    """Per key: why it was refused last, and how long it had to wait then. In seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._last: dict[K, tuple[str, float]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._last

    def refused(self, key: K, text: str) -> tuple[float, bool]:
        """Seconds until ``key`` is tried again, twice as many as before, and whether ``text`` is new."""
        before, pause = self._last.get(key, (None, self._first / 2.0))
        pause = min(self._longest, 2.0 * pause)
        self._last[key] = text, pause
        return pause, text != before

    def forget(self, key: K) -> None:
        """It worked, or is wanted no more: the next refusal is a first one."""
        self._last.pop(key, None)

    def keep(self, keys: Iterable[K]) -> None:
        """Forget all but ``keys``."""
        self._last = {key: self._last[key] for key in keys if key in self._last}
