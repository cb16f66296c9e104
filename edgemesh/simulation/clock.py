"""Virtual clock: time is a number that jumps to the next thing that happens."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Entry:
    """Something that will happen, unless it is cancelled before."""

    __slots__ = ("arguments", "call", "cancelled")

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.call = call
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        """Let it not happen."""
        self.cancelled = True


class VirtualClock:
    """What happens at the same time happens in the order in which it was arranged."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.happened = 0
        # Tuples: the heap compares them without calling anything, and the number settles every tie.
        self._entries: list[tuple[float, int, Entry]] = []
        self._order = 0

    def call_at(self, at: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Call at ``at``, or at once after everything arranged for now when that has passed."""
        self._order += 1
        entry = Entry(call, arguments)
        heapq.heappush(self._entries, (at if at > self.now else self.now, self._order, entry))
        return entry

    def call_later(self, delay: float, call: Callable[..., object], *arguments: Any) -> Entry:
        """Call in ``delay`` seconds."""
        return self.call_at(self.now + delay, call, *arguments)

    def run_until(self, at: float, condition: Callable[[], bool] | None = None) -> bool:
        """Let happen what happens until ``at``, or until ``condition`` holds; whether it did."""
        if condition is not None and condition():
            return True
        entries = self._entries
        while entries and entries[0][0] <= at:
            due, _, entry = heapq.heappop(entries)
            if entry.cancelled:
                continue
            self.now = due
            self.happened += 1
            entry.call(*entry.arguments)
            if condition is not None and condition():
                return True
        self.now = max(self.now, at)
        return False
