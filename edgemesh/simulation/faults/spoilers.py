"""Spoilers: messages that a broker over its limits drops, that it refuses, or that arrive garbled."""

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

_REFUSED_KINDS = frozenset({"work", "reply"})


class Spoilers:
    """Spoils messages on their way to single clients, for as long as each spoiler lasts."""

    def __init__(self, mesh: Mesh, random: Random) -> None:
        self._mesh = mesh
        self._random = random
        self._active: list[tuple[str, float, Spoilt]] = []
        self._refusing: list[tuple[str, float]] = []

    def begin(self, client_id: str, spoilt: Spoilt, share: float, seconds: float) -> None:
        """Do ``spoilt`` to a share of what ``client_id`` gets."""
        entry = client_id, share, spoilt
        self._active.append(entry)
        self._mesh.broker.spoil = self._spoil
        self._mesh.clock.call_later(seconds, self._end_one, entry)

    def refuse(self, client_id: str, share: float, seconds: float) -> None:
        """Somebody gets the broker's access rules wrong: it refuses a share of what a client sends others."""
        entry = client_id, share
        self._refusing.append(entry)
        self._mesh.broker.refuse = self._refuses
        self._mesh.clock.call_later(seconds, self._end_refusing, entry)

    def end(self) -> None:
        """All arrives as it was sent."""
        self._active.clear()
        self._refusing.clear()
        self._mesh.broker.spoil = self._mesh.broker.refuse = None

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

    def _refuses(self, client_id: str, message: Message) -> bool:
        shares = [share for target, share in self._refusing if target == client_id]
        if not shares or self._mesh.topics.parse(message.topic).kind not in _REFUSED_KINDS:
            return False
        return any(self._random.random() < share for share in shares)

    def _hits(self, message: Message, share: float) -> bool:
        return self.may_lose(message) and self._random.random() < share

    def _end_refusing(self, entry: tuple[str, float]) -> None:
        if entry in self._refusing:
            self._refusing.remove(entry)
        if not self._refusing:
            self._mesh.broker.refuse = None

    def _end_one(self, entry: tuple[str, float, Spoilt]) -> None:
        if entry in self._active:
            self._active.remove(entry)
        if not self._active:
            self._mesh.broker.spoil = None
