"""Acknowledgements by hand, put back into the order in which the messages came."""

from __future__ import annotations

from collections import deque


class InOrder:
    """MQTT 5, 4.6 demands the order, and rumqttd ends the connection otherwise (measured)."""

    def __init__(self) -> None:
        self._came: deque[int] = deque()
        self._answered: set[int] = set()

    def came(self, mid: int) -> None:
        """A message that wants an acknowledgement."""
        self._came.append(mid)

    def answered(self, mid: int) -> list[int]:
        """What may be acknowledged now that ``mid`` is dealt with, in order; none while an earlier waits."""
        self._answered.add(mid)
        due = []
        while self._came and self._came[0] in self._answered:
            first = self._came.popleft()
            self._answered.discard(first)
            due.append(first)
        return due

    def clear(self) -> None:
        """The connection is lost: the broker repeats what it got no acknowledgement for."""
        self._came.clear()
        self._answered.clear()
