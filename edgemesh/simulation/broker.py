"""A modelled MQTT 5 broker: what edgemesh relies on of one, in virtual time.

Retained messages, ``+`` and ``#``, shared subscriptions (round robin, also to absent members with a session,
as Mosquitto does), QoS 0 and 1, Wills, sessions that redeliver, takeover of a client id, message expiry.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgemesh.protocol.topics import topic_matches
from edgemesh.simulation.clock import VirtualClock

if TYPE_CHECKING:
    from edgemesh.simulation.connection import ModelledConnection

ABSENT_MESSAGES = 1000
"""What is kept for an absent client with a session; more is dropped silently (``max_queued_messages``)."""


@dataclass(frozen=True)
class Message:
    """One PUBLISH with the properties that edgemesh uses."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expires_at: float | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    duplicate: bool = False
    nbytes: int = -1
    """Bytes that it counts as on a link; those of the payload unless it is said otherwise."""

    def __post_init__(self) -> None:
        if self.nbytes < 0:
            object.__setattr__(self, "nbytes", len(self.payload))


@dataclass
class Session:
    """What the broker keeps of one client id."""

    client_id: str
    connection: ModelledConnection | None = None
    lasts: bool = False
    """Whether it outlives its connection."""
    filters: dict[str, int] = field(default_factory=dict)
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    queue: deque[Message] = field(default_factory=deque)
    last_id: int = 0


class Broker:
    """One broker."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.up = True
        self.retained: dict[str, Message] = {}
        self.log: list[tuple[float, str, Message]] = []
        """Time, client id and message of everything published with QoS 1, if ``keeps_log``."""
        self.keeps_log = True
        self.on_publish: Callable[[ModelledConnection, Message], None] | None = None
        """Is told of everything that is published."""
        self.dropped = 0
        self.wiped_at: list[float] = []
        self._sessions: dict[str, Session] = {}
        self._turns: dict[str, int] = {}
        self._matching: dict[str, list[tuple[str, str]]] = {}
        """Topic to (client id, filter) of those who subscribed to it."""

    # --- connections -------------------------------------------------------------------------------------

    def connect(self, connection: ModelledConnection) -> bool:
        """CONNECT arrived; False when nobody listens."""
        if not self.up:
            return False
        client_id = connection.client_id
        known = self._sessions.get(client_id)
        if known is not None and known.connection is not None:
            self._drop(known, taken_over=True)
            known = self._sessions.get(client_id)
        if known is None or connection.clean_start:
            known = self._sessions[client_id] = Session(client_id)
            self._matching.clear()
        known.connection = connection
        known.lasts = connection.session_lasts
        connection.accepted()
        for packet, message in list(known.unacknowledged.items()):
            self._send(known, replace(message, duplicate=True), packet)
        waiting, known.queue = known.queue, deque()
        for message in waiting:
            self._deliver(known, message, message.qos)
        return True

    def close(self, connection: ModelledConnection, *, clean: bool) -> None:
        """The TCP connection ended; without a DISCONNECT (``clean``) the Will is published."""
        session = self._session(connection)
        if session is not None:
            self._drop(session, clean=clean)

    def restart(self, *, wiped: bool, pause: float = 1.0) -> None:
        """Lose all connections, and with ``wiped`` everything that was kept, and be away for ``pause``."""
        self.up = False
        for session in list(self._sessions.values()):
            connection, session.connection = session.connection, None
            if connection is not None:
                connection.ended("the broker went away")
            if wiped or not session.lasts:
                del self._sessions[session.client_id]
        if wiped:
            self.retained.clear()
            self.wiped_at.append(self.clock.now)
        self._matching.clear()
        self.clock.call_later(pause, self._come_back)

    def _come_back(self) -> None:
        self.up = True

    def _session(self, connection: ModelledConnection) -> Session | None:
        session = self._sessions.get(connection.client_id)
        return session if session is not None and session.connection is connection else None

    def _drop(self, session: Session, *, clean: bool = False, taken_over: bool = False) -> None:
        connection, session.connection = session.connection, None
        assert connection is not None
        if not session.lasts:
            del self._sessions[session.client_id]
            self._matching.clear()
        if taken_over:
            connection.ended("taken over", taken_over=True)
        if not clean and connection.will is not None:
            self._route(connection.will)

    # --- messages ----------------------------------------------------------------------------------------

    def publish(self, connection: ModelledConnection, message: Message) -> bool:
        """A PUBLISH arrived; whether its sender may be told that the broker has it."""
        if self._session(connection) is None:
            return False
        if self.on_publish is not None:
            self.on_publish(connection, message)
        if message.qos and self.keeps_log:
            self.log.append((self.clock.now, connection.client_id, message))
        self._route(message)
        return True

    def subscribe(self, connection: ModelledConnection, topic_filter: str, qos: int) -> None:
        """A SUBSCRIBE arrived: retained messages follow, but not to shared subscriptions (MQTT 5, 4.8.2)."""
        session = self._session(connection)
        if session is None:
            return
        session.filters[topic_filter] = qos
        self._matching.clear()
        if topic_filter.startswith("$share/"):
            return
        for message in list(self.retained.values()):
            if topic_matches(topic_filter, message.topic) and not self._expired(message):
                self._deliver(session, message, min(qos, message.qos))

    def unsubscribe(self, connection: ModelledConnection, topic_filter: str) -> None:
        """An UNSUBSCRIBE arrived."""
        session = self._session(connection)
        if session is not None:
            session.filters.pop(topic_filter, None)
            self._matching.clear()

    def acknowledge(self, connection: ModelledConnection, packet: int) -> None:
        """A PUBACK arrived."""
        session = self._session(connection)
        if session is not None:
            session.unacknowledged.pop(packet, None)

    def left(self, message: Message) -> float | None:
        """Whole seconds until the message expires."""
        if message.expires_at is None:
            return None
        return float(math.ceil(max(0.0, message.expires_at - self.clock.now)))

    def unacknowledged(self, client_id: str) -> int:
        """Messages that the client id has not acknowledged yet."""
        return len(self._sessions[client_id].unacknowledged)

    def _route(self, message: Message) -> None:
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        live = replace(message, retain=False) if message.retain else message
        shared: dict[str, list[tuple[Session, int]]] = {}
        for client_id, topic_filter in self._subscribers(message.topic):
            session = self._sessions[client_id]
            qos = min(message.qos, session.filters[topic_filter])
            if topic_filter.startswith("$share/"):
                shared.setdefault(topic_filter, []).append((session, qos))
            else:
                self._deliver(session, live, qos)
        for topic_filter, members in shared.items():
            turn = self._turns[topic_filter] = self._turns.get(topic_filter, -1) + 1
            session, qos = members[turn % len(members)]
            self._deliver(session, live, qos)

    def _subscribers(self, topic: str) -> list[tuple[str, str]]:
        known = self._matching.get(topic)
        if known is None:
            known = self._matching[topic] = [
                (client_id, topic_filter)
                for client_id, session in self._sessions.items()
                for topic_filter in session.filters
                if topic_matches(_without_share(topic_filter), topic)
            ]
        return known

    def _deliver(self, session: Session, message: Message, qos: int) -> None:
        if self._expired(message):
            return
        if qos != message.qos:
            message = replace(message, qos=qos)
        if session.connection is None:
            if qos and len(session.queue) < ABSENT_MESSAGES:
                session.queue.append(message)
            else:
                self.dropped += 1
            return
        packet = 0
        if qos:
            packet = session.last_id = session.last_id % 65_535 + 1
            session.unacknowledged[packet] = message
        self._send(session, message, packet)

    def _send(self, session: Session, message: Message, packet: int) -> None:
        assert session.connection is not None
        session.connection.carry_down(message, packet)

    def _expired(self, message: Message) -> bool:
        return message.expires_at is not None and message.expires_at <= self.clock.now


def _without_share(topic_filter: str) -> str:
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
