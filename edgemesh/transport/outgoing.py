"""What waits to be written: in line for room at the broker, or in bulk until nothing else waits."""

from __future__ import annotations

from collections import deque
from typing import Final

from edgemesh.planning.link_estimate import LARGE_BYTES
from edgemesh.roles.actions import Publish

MOST_UNACKNOWLEDGED: Final = 65_535
"""What MQTT 5 allows where the receiver states no receive maximum: there are no more packet ids."""


def gives_way(message: Publish) -> bool:
    """Whether others may overtake the message. A small one delays nobody, and goes with the others."""
    return message.bulk and len(message.payload) >= LARGE_BYTES


class Outgoing:
    """What one connection has not handed to its client yet.

    Its line keeps messages and acknowledgements by hand in order, so that no acknowledgement overtakes a
    result that was published before it. Bulk keeps an order of its own.
    """

    def __init__(self) -> None:
        self.receive_maximum = MOST_UNACKNOWLEDGED
        """Messages that the broker takes before it has acknowledged the first (MQTT 5, 3.3.4)."""
        self._line: deque[Publish | int] = deque()
        self._bulk: deque[Publish] = deque()

    def __len__(self) -> int:
        return len(self._line) + len(self._bulk)

    def add(self, message: Publish) -> None:
        """Keep a message until it is its turn."""
        (self._bulk if gives_way(message) else self._line).append(message)

    def acknowledge(self, mid: int) -> None:
        """Keep an acknowledgement until what is in line before it has been handed over."""
        self._line.append(mid)

    def put_back(self, message: Publish) -> None:
        """It could not be handed over: it is the next again."""
        (self._bulk if gives_way(message) else self._line).appendleft(message)

    def take(self, unacknowledged: int, *, idle: bool) -> Publish | int | None:
        """A message or the id of one to acknowledge that may be written now; in bulk only where ``idle``."""
        room = unacknowledged < self.receive_maximum
        if self._line:
            return self._line.popleft() if room or isinstance(self._line[0], int) else None
        if self._bulk and idle and (room or not self._bulk[0].qos):
            return self._bulk.popleft()
        return None

    def lost(self) -> None:
        """The connection is gone, and with it all that is not to be sent again."""
        self._line = deque(entry for entry in self._line if isinstance(entry, Publish) and _lasts(entry))
        self._bulk = deque(message for message in self._bulk if _lasts(message))


def _lasts(message: Publish) -> bool:
    return message.qos > 0 and message.resend
