"""Links: how long a client's messages take to the broker and back."""

from __future__ import annotations

from dataclasses import dataclass

PACKET_BYTES = 40
"""Headers around each message."""


@dataclass
class Link:
    """One client's way to the broker; change the fields at any time, what is under way keeps its time."""

    latency: float = 0.0005
    """Seconds, each way."""
    rate_up: float = 12.5e6
    """Bytes per second."""
    rate_down: float = 12.5e6


class Way:
    """One direction of a link: messages queue for the rate and stay in order."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def arrival(self, now: float, nbytes: int, rate: float, latency: float) -> float:
        """When a message of ``nbytes`` that is handed over at ``now`` has arrived whole."""
        self._free_at = max(self._free_at, now) + (nbytes + PACKET_BYTES) / rate
        return self._free_at + latency
