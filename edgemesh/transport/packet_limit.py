"""How large a message one connection's broker takes, as far as that is known."""

from __future__ import annotations

from edgemesh.roles.actions import Publish

_HEAD_BYTES = 24
"""The most that a PUBLISH has beside topic, payload and what its properties say (MQTT 5, 3.3): 5 bytes of
header, 2 each for the length of the topic and the packet id, 4 for the length of the properties, 5 of expiry,
3 each around content type and correlation."""


def packet_bytes(message: Publish) -> int:
    """Size of the whole PUBLISH, or a few bytes more."""
    content_type = (message.content_type or "").encode()
    told = len(content_type) + len(message.correlation or b"")
    return len(message.payload) + len(message.topic.encode()) + told + _HEAD_BYTES


class PacketLimit:
    """Begins anew with each connection: what is too much is changed at the broker, and that may have been."""

    def __init__(self) -> None:
        self.announced: int | None = None
        """Largest packet by the broker's own word (MQTT 5, 3.2.2.3.6)."""
        self._refused: int | None = None
        """Size of the smallest payload that it refused."""

    def connected(self, announced: int | None) -> None:
        """A broker accepted the connection, with this limit or none."""
        self.announced = announced
        self._refused = None

    def refused(self, message: Publish) -> None:
        """The broker does not take a message of this size, whatever it announced."""
        nbytes = len(message.payload)
        self._refused = nbytes if self._refused is None else min(nbytes, self._refused)

    def forbids(self, message: Publish) -> bool:
        """Whether the broker is known not to take the message."""
        if self._refused is not None and len(message.payload) >= self._refused:
            return True
        return self.of(message) is not None

    def of(self, message: Publish) -> int | None:
        """The announced limit that the message exceeds; None where there is none, or it exceeds another."""
        exceeds = self.announced is not None and packet_bytes(message) > self.announced
        return self.announced if exceeds else None
