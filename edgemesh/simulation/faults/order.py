"""Order: messages to one client overtake each other as far as MQTT allows.

A broker keeps the order of one publisher's messages under one topic (MQTT 5, 4.6), and no other.
"""

from __future__ import annotations

from random import Random

from edgemesh.simulation.broker import Broker, Message

_HELD_SHARE = 0.3


class Order:
    """Holds single messages back, and with them what follows under their topic."""

    def __init__(self, broker: Broker, random: Random) -> None:
        self.overtaken = 0
        """Messages that were held back."""
        self._broker = broker
        self._random = random
        self._most: dict[str, float] = {}
        """Client id to the longest that a message to it is held back."""
        self._free_at: dict[tuple[str, str, str], float] = {}
        """When what was held back last has gone, by client id, publisher and topic."""

    def disturb(self, client_id: str, seconds: float) -> None:
        """Hold messages to ``client_id`` back for up to ``seconds`` each."""
        self._most[client_id] = seconds
        self._broker.held_back = self._held_back

    def restore(self, client_id: str) -> None:
        """Hold nothing back any more that comes from now on."""
        self._most.pop(client_id, None)

    def end(self) -> None:
        """The same for all."""
        self._most.clear()

    def holds_back(self, client_id: str) -> bool:
        """Whether a message to the client is held back now."""
        now = self._broker.clock.now
        return any(due > now for (held_for, _, _), due in self._free_at.items() if held_for == client_id)

    def _held_back(self, client_id: str, message: Message) -> float:
        now = self._broker.clock.now
        key = client_id, message.publisher, message.topic
        free_at = self._free_at.get(key, now)
        most = self._most.get(client_id, 0.0)
        seconds = self._random.uniform(0.0, most) if most and self._random.random() < _HELD_SHARE else 0.0
        self.overtaken += seconds > 0.0
        due = max(now + seconds, free_at)
        if due > now:
            self._free_at[key] = due
        return due
