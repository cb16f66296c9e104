"""Links: how long a client's messages take to the broker and back."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

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
    jitter: float = 0.0
    """Standard deviation of a message's time, as a share of it."""
    random: Random | None = None
    """Where ``jitter`` comes from."""

    def noise(self) -> float:
        """What a message's time is multiplied with."""
        if self.random is None or not self.jitter:
            return 1.0
        return max(0.2, self.random.gauss(1.0, self.jitter))


class Way:
    """One direction of a link: messages queue for the rate and stay in order."""

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        """Airtime: seconds in which bytes were under way."""
        self.free_at = 0.0
        """When its sender has let go of all that was handed over."""
        self.clear_at = 0.0
        """When all that was handed over has arrived."""

    def clear(self, now: float) -> None:
        """Nothing is under way any more."""
        self.free_at = self.clear_at = now

    def arrival(self, now: float, nbytes: int, rate: float, latency: float, noise: float = 1.0) -> float:
        """When a message of ``nbytes`` that is handed over at ``now`` has arrived whole."""
        airtime = (nbytes + PACKET_BYTES) / rate * noise
        self.busy_seconds += airtime
        self.free_at = (self.free_at if self.free_at > now else now) + airtime
        # TCP keeps order: a message with a lucky delay waits for the one before it.
        self.clear_at = max(self.clear_at, self.free_at + latency * noise)
        return self.clear_at
