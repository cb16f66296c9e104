"""Spoilers: what becomes of messages that a broker over its limits drops, or that arrive garbled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from edgemesh.simulation.broker import Message
from edgemesh.simulation.mesh import Mesh

Spoilt = Callable[[Message], Message | None]
_NOISE_BYTES = 64
_SPOILT_KINDS = frozenset({"work", "reply", "receipt"})
"""What is garbled or dropped. A broker that loses a retained message on the way to a connected client, too,
leaves that client wrong until the topic changes: nobody could tell."""


class Spoilers:
    """Spoils messages on their way to single clients, for as long as each spoiler lasts."""

    def __init__(self, mesh: Mesh, random: Random) -> None:
        self._mesh = mesh
        self._random = random
        self._active: list[tuple[str, float, Spoilt]] = []

    def begin(self, client_id: str, spoilt: Spoilt, share: float, seconds: float) -> None:
        """Do ``spoilt`` to a share of what ``client_id`` gets."""
        entry = client_id, share, spoilt
        self._active.append(entry)
        self._mesh.broker.spoil = self._spoil
        self._mesh.clock.call_later(seconds, self._end_one, entry)

    def end(self) -> None:
        """All arrives as it was sent."""
        self._active.clear()
        self._mesh.broker.spoil = None

    def may_lose(self, message: Message) -> bool:
        """Whether somebody notices when it is lost."""
        return self._mesh.topics.parse(message.topic).kind in _SPOILT_KINDS

    def dropped(self, message: Message) -> None:
        """Nothing is left of it."""

    def garbled(self, message: Message) -> Message:
        """Cut short, or noise."""
        size = len(message.payload)
        if self._random.random() < 0.5:
            payload = bytes(message.payload[: self._random.randrange(size)] if size else b"")
        else:
            payload = self._random.randbytes(min(size, _NOISE_BYTES))
        return replace(message, payload=payload, nbytes=len(payload))

    def _spoil(self, client_id: str, message: Message) -> Message | None:
        for target, share, spoilt in self._active:
            if target == client_id and self._hits(message, share):
                return spoilt(message)
        return message

    def _hits(self, message: Message, share: float) -> bool:
        return self.may_lose(message) and self._random.random() < share

    def _end_one(self, entry: tuple[str, float, Spoilt]) -> None:
        if entry in self._active:
            self._active.remove(entry)
        if not self._active:
            self._mesh.broker.spoil = None
