"""Virtual clock: time is a number that jumps to the next thing that happens."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Entry:
    """Something that will happen, unless it is cancelled before."""

    __slots__ = ("arguments", "at", "call", "cancelled", "order")

    def __init__(
        self, at: float, order: int, call: Callable[..., object], arguments: tuple[Any, ...]
    ) -> None:
        self.at = at
        self.order = order
        self.call = call
        self.arguments = arguments
        self.cancelled = False

    def __lt__(self, other: Entry) -> bool:
        return (self.at, self.order) < (other.at, other.order)

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class VirtualClock:
    """What happens at the same time happens in the order in which it was arranged."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.happened = 0
        self._entries: list[Entry] = []
        self._order = 0

    def call_at(self, at: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Call at ``at``, or at once after everything arranged for now when that has passed."""
        self._order += 1
        entry = Entry(max(at, self.now), self._order, call, arguments)
        heapq.heappush(self._entries, entry)
        return entry

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Call in ``delay`` seconds."""
        return self.call_at(self.now + delay, call, *arguments)

    def run_until(self, at: float, condition: Callable[[], bool] = lambda: False) -> bool:
        """Let happen what happens until ``at``, or until ``condition`` holds; whether it did."""
        if condition():
            return True
        while self._entries and self._entries[0].at <= at:
            entry = heapq.heappop(self._entries)
            if entry.cancelled:
                continue
            self.now = entry.at
            self.happened += 1
            entry.call(*entry.arguments)
            if condition():
                return True
        self.now = max(self.now, at)
        return False
