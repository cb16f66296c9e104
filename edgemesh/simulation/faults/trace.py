"""Trace: what happened in a run, line by line, and the part of it that tells of one job or device."""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.errors import EdgemeshError
from edgemesh.protocol.activation import decode_activation, decode_reply
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.simulation.broker import Message
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.people import ANSWERS
from edgemesh.simulation.faults.schedules import Deed
from edgemesh.simulation.faults.world import World

_UNTOLD = frozenset({"heartbeat", "resources", "link", "receipt", "probe", "chunk", "chunk-request"})


class Trace:
    """Give ``watch`` to a run; ``lines`` are what happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._world: World

    def watch(self, world: World) -> None:
        """Listen to a world."""
        self._world = world
        earlier = world.mesh.broker.on_publish
        do = world.do

        def published(connection: ModelledConnection, message: Message) -> None:
            self._published(connection, message)
            if earlier is not None:
                earlier(connection, message)

        def done(deed: Deed) -> None:
            self._add(told(deed))
            do(deed)

        world.mesh.broker.on_publish = published
        world.do = done  # type: ignore[method-assign]

    def about(self, name: str, most: int) -> list[str]:
        """The last lines that name ``name``; the last of all where it is empty."""
        return [line for line in self.lines if name in line][-most:]

    def _add(self, text: str) -> None:
        self.lines.append(f"{self._world.mesh.clock.now - self._world.began:9.4f}  {text}")

    def _published(self, connection: ModelledConnection, message: Message) -> None:
        if message.topic.startswith(ANSWERS):
            self._add(f"{connection.client_id} answers on {message.topic}")
            return
        topic = self._world.topics.parse(message.topic)
        if topic.kind in _UNTOLD:
            return
        names = " ".join(topic.names.values())
        tell = _TELLERS.get(topic.kind, _payload)
        try:
            text = tell(message)
        except EdgemeshError as error:
            text = f"unreadable: {error}"
        self._add(f"{connection.client_id} publishes {topic.kind} {names}: {text}")


def told(deed: Deed) -> str:
    """A deed in one line."""
    parts = [deed.kind, deed.target, deed.name]
    if deed.seconds:
        parts.append(f"{deed.seconds:.3f} s")
    if deed.amount:
        parts.append(f"({deed.amount:.2f})")
    return "** " + " ".join(part for part in parts if part)


def _work(message: Message) -> str:
    header, _ = decode_activation(message.payload)
    route = " > ".join(f"{hop.device} {hop.stop}" for hop in header.route)
    return f"{header.job} attempt {header.attempt} at cut {header.position} of {route}"


def _reply(message: Message) -> str:
    reply, _ = decode_reply(message.payload)
    return f"{reply.job} attempt {reply.attempt}: {reply.code or 'result'} {reply.text or ''}"


def _assignment(message: Message) -> str:
    if not message.payload:
        return "cleared"
    told = decode_json(Assignment, message.payload)
    route = " > ".join(f"{hop.device} {hop.stop}" for hop in told.route)
    return f"{told.epoch} {route} ({told.reason})"


def _submission(message: Message) -> str:
    return (message.correlation or b"").decode()


def _payload(message: Message) -> str:
    return bytes(message.payload[:100]).decode(errors="replace")


_TELLERS: dict[str, Callable[[Message], str]] = {
    "work": _work,
    "reply": _reply,
    "assignment": _assignment,
    "submit": _submission,
    "result": _submission,
}
