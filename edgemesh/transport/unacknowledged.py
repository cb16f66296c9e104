"""Messages at QoS 1 that the broker owes an acknowledgement for, by packet id."""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.roles.actions import Publish


class Unacknowledged:
    """What one client has sent and may have to send again; ``now`` is any steady clock in seconds."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[Publish, float]] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, mid: int, message: Publish, now: float) -> None:
        """The client has it."""
        self._sent[mid] = message, now

    def pop(self, mid: int) -> Publish | None:
        """The broker answered for it; None where nothing is known of such a message."""
        message, _ = self._sent.pop(mid, (None, 0.0))
        return message

    def forget_lost(self, now: float) -> list[int]:
        """Packet ids of what the next connection does not send again: its owner does, or it has expired."""
        lost = [mid for mid, (message, at) in self._sent.items() if not _lasts(message, now - at)]
        for mid in lost:
            del self._sent[mid]
        return lost

    def take(self, unfit: Callable[[Publish], bool]) -> dict[int, Publish]:
        """Messages that are ``unfit`` for this connection, by packet id; they are forgotten."""
        taken = {mid: message for mid, (message, _) in self._sent.items() if unfit(message)}
        for mid in taken:
            del self._sent[mid]
        return taken


def _lasts(message: Publish, seconds: float) -> bool:
    return message.resend and (message.expiry is None or seconds <= message.expiry)
