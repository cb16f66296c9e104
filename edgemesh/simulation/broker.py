"""A modelled MQTT 5 broker: what edgemesh relies on of one, in virtual time.

Retained messages, ``+`` and ``#``, shared subscriptions (round robin, also to absent members with a session,
as Mosquitto does), QoS 0 and 1, Wills, sessions that redeliver, takeover of a client id, message expiry.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from edgemesh.protocol.topics import topic_matches
from edgemesh.simulation.clock import VirtualClock

if TYPE_CHECKING:
    from edgemesh.simulation.connection import ModelledConnection

ABSENT_MESSAGES = 1000
"""What is kept for a client that is absent with a session, or whose window is full; more is dropped silently
(``max_queued_messages``)."""
MOST_IN_FLIGHT = 65_535
"""What MQTT 5 allows."""

MOST_SLASHES = 200
"""Mosquitto ends the connection of whoever publishes on a topic of more levels (measured)."""

_GOODBYE_SECONDS = 0.02
"""Between its last words and its end."""

_matches = lru_cache(65_536)(topic_matches)
"""Clients come back with the same subscriptions, again and again."""


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
    publisher: str = ""
    """Client id of who published it."""
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

    def copy(self) -> Session:
        """The same without its connection, as it is written to disk."""
        return replace(
            self,
            connection=None,
            filters=dict(self.filters),
            unacknowledged=dict(self.unacknowledged),
            queue=deque(self.queue),
        )


@dataclass(frozen=True)
class Stored:
    """What a broker wrote to disk."""

    retained: dict[str, Message]
    sessions: dict[str, Session]


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
        self.dropped_over_limit = 0
        """Those among them that were too many to be kept."""
        self.absent_messages = ABSENT_MESSAGES
        """What is kept for a client that is absent or slow; more is dropped."""
        self.may_drop: Callable[[Message], bool] = lambda message: True
        """What is among that where a client is slow; it must hear of all else."""
        self.in_flight = MOST_IN_FLIGHT
        """Messages that a client may have unacknowledged; others wait (``max_inflight_messages``)."""
        self.on_drop: Callable[[str, Message], None] | None = None
        """Is told of what is dropped, and for which client id, over the limit of what is kept."""
        self.refuse: Callable[[str, Message], bool] | None = None
        """Whether access rules keep a client from publishing a message."""
        self.spoil: Callable[[str, Message], Message | None] | None = None
        """What a message becomes on its way to a client id; None is a drop over some limit."""
        self.held_back: Callable[[str, Message], float] | None = None
        """Until when a message on its way to a client id is held back, and others overtake it."""
        self.waited = 0
        """Messages that waited for a client that was there."""
        self.restarts = 0
        self.wiped_at: list[float] = []
        """When it lost what it was to keep, or some of it."""
        self.back_at = clock.now
        """When it came back last, or will."""
        self.stopping = False
        """Whether it has said its last words, and reads nothing any more."""
        self._saved = Stored({}, {})
        self._sessions: dict[str, Session] = {}
        self._turns: dict[str, int] = {}
        self._matching: dict[str, list[tuple[str, str]]] = {}
        """Topic to (client id, filter) of those who subscribed to it."""

    # --- connections -------------------------------------------------------------------------------------

    def connect(self, connection: ModelledConnection) -> bool:
        """CONNECT arrived; False when nobody listens."""
        if not self.up or self.stopping:
            return False
        client_id = connection.client_id
        known = self._sessions.get(client_id)
        if known is not None and known.connection is not None:
            self._drop(known, taken_over=True)
            known = self._sessions.get(client_id)
        if known is None or connection.clean_start:
            if known is not None:
                self._forget(known.filters)
            known = self._sessions[client_id] = Session(client_id)
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

    def save(self) -> None:
        """Write the store, as brokers do at intervals."""
        lasting = {name: session.copy() for name, session in self._sessions.items() if session.lasts}
        self._saved = Stored(dict(self.retained), lasting)

    def stop(self, *, wiped: bool, pause: float = 1.0) -> None:
        """SIGTERM, and a restart: it publishes the Wills, reads nothing any more, and closes.

        As Mosquitto does (measured); whoever is killed says nothing.
        """
        self.stopping = True
        for session in list(self._sessions.values()):
            if session.connection is not None and session.connection.will is not None:
                self._route(session.connection.will)
        self.clock.call_later(_GOODBYE_SECONDS, partial(self.restart, wiped=wiped, pause=pause))

    def restart(self, *, wiped: bool, older: bool = False, pause: float = 1.0) -> None:
        """Lose all connections, and with ``wiped`` everything that was kept, and be away for ``pause``.

        With ``older`` it comes back with what was written last: what it acknowledged since then is lost.
        """
        self.up = self.stopping = False
        self.restarts += 1
        for session in list(self._sessions.values()):
            connection, session.connection = session.connection, None
            if connection is not None:
                connection.ended("the broker went away")
            if wiped or not session.lasts:
                del self._sessions[session.client_id]
        if older:
            self.retained = dict(self._saved.retained)
            self._sessions = {name: session.copy() for name, session in self._saved.sessions.items()}
            self.wiped_at.append(self.clock.now)
        for session in self._sessions.values():
            # Mosquitto 2.0.11 writes other subscriptions of a session to its store, and not these (measured).
            for shared in [name for name in session.filters if name.startswith("$share/")]:
                del session.filters[shared]
        if wiped:
            self.retained.clear()
            self._saved = Stored({}, {})
            self.wiped_at.append(self.clock.now)
        self._matching.clear()
        self.back_at = self.clock.now + pause
        self.clock.call_later(pause, self._come_back)

    def _come_back(self) -> None:
        self.up = True

    def _session(self, connection: ModelledConnection) -> Session | None:
        if self.stopping:
            return None  # nothing is read any more
        session = self._sessions.get(connection.client_id)
        return session if session is not None and session.connection is connection else None

    def _drop(self, session: Session, *, clean: bool = False, taken_over: bool = False) -> None:
        connection, session.connection = session.connection, None
        assert connection is not None
        if not session.lasts:
            del self._sessions[session.client_id]
            self._forget(session.filters)
        if taken_over:
            connection.ended("taken over", taken_over=True)
        if not clean and connection.will is not None:
            self._route(connection.will)

    # --- messages ----------------------------------------------------------------------------------------

    def refuses(self, connection: ModelledConnection, message: Message) -> bool:
        """Whether it answers a PUBLISH that arrived with an error, and nobody gets the message."""
        refuses = self.refuse is not None and self.refuse(connection.client_id, message)
        return refuses and self._session(connection) is not None

    def publish(self, connection: ModelledConnection, message: Message) -> bool:
        """A PUBLISH arrived; whether its sender may be told that the broker has it."""
        if self._session(connection) is None:
            return False
        if message.topic.count("/") > MOST_SLASHES:
            connection.lose()
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
        if topic_filter not in session.filters:
            self._forget((topic_filter,))
        session.filters[topic_filter] = qos
        if topic_filter.startswith("$share/"):
            return
        for message in list(self.retained.values()):
            if _matches(topic_filter, message.topic) and not self._expired(message):
                self._deliver(session, message, min(qos, message.qos))

    def unsubscribe(self, connection: ModelledConnection, topic_filter: str) -> None:
        """An UNSUBSCRIBE arrived."""
        session = self._session(connection)
        if session is not None:
            session.filters.pop(topic_filter, None)
            self._forget((topic_filter,))

    def acknowledge(self, connection: ModelledConnection, packet: int) -> None:
        """A PUBACK arrived."""
        session = self._session(connection)
        if session is None:
            return
        session.unacknowledged.pop(packet, None)
        while session.queue and len(session.unacknowledged) < self.in_flight:
            message = session.queue.popleft()
            if not self._expired(message):
                self._hand_on(session, message, message.qos)

    def is_connected(self, connection: ModelledConnection) -> bool:
        """Whether it is still the one of its client id."""
        return self._session(connection) is not None

    def left(self, message: Message) -> float | None:
        """Whole seconds until the message expires."""
        if message.expires_at is None:
            return None
        return float(math.ceil(max(0.0, message.expires_at - self.clock.now)))

    def unacknowledged(self, client_id: str) -> int:
        """Messages that the client id has not acknowledged yet."""
        return len(self._sessions[client_id].unacknowledged)

    def under_way(self, client_id: str) -> list[Message] | None:
        """What a client has and has not acknowledged yet; None where it is not connected."""
        session = self._sessions.get(client_id)
        if session is None or session.connection is None:
            return None
        return list(session.unacknowledged.values())

    def listens(self, client_id: str, topic: str) -> bool:
        """Whether the client, here or absent with a session, has subscribed to a topic."""
        session = self._sessions.get(client_id)
        return session is not None and any(_matches(_without_share(f), topic) for f in session.filters)

    def waiting(self, client_id: str) -> list[Message]:
        """What is kept for a client id until it comes back."""
        session = self._sessions.get(client_id)
        return list(session.queue) if session is not None else []

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
                if _matches(_without_share(topic_filter), topic)
            ]
        return known

    def _forget(self, filters: Iterable[str]) -> None:
        """Who subscribed to what matches ``filters`` has changed: clients come and go, most topics stay."""
        for topic_filter in filters:
            bare = _without_share(topic_filter)
            for topic in [topic for topic in self._matching if _matches(bare, topic)]:
                del self._matching[topic]

    def _deliver(self, session: Session, message: Message, qos: int) -> None:
        if self._expired(message):
            return
        if qos != message.qos:
            message = replace(message, qos=qos)
        if self.spoil is not None:
            spoilt = self.spoil(session.client_id, message)
            if spoilt is None:
                self.dropped += 1
                return
            message = spoilt
        if session.connection is None or (qos and len(session.unacknowledged) >= self.in_flight):
            self._keep(session, message, qos)
        else:
            self._hand_on(session, message, qos)

    def _keep(self, session: Session, message: Message, qos: int) -> None:
        slow = session.connection is not None
        if qos and (len(session.queue) < self.absent_messages or (slow and not self.may_drop(message))):
            session.queue.append(message)
            self.waited += slow
            return
        self.dropped += 1
        self.dropped_over_limit += qos > 0
        if qos and self.on_drop is not None:
            self.on_drop(session.client_id, message)

    def _hand_on(self, session: Session, message: Message, qos: int) -> None:
        packet = 0
        if qos:
            packet = session.last_id = session.last_id % 65_535 + 1
            session.unacknowledged[packet] = message
        self._send(session, message, packet)

    def _send(self, session: Session, message: Message, packet: int) -> None:
        assert session.connection is not None
        until = self.held_back(session.client_id, message) if self.held_back is not None else self.clock.now
        if until > self.clock.now:
            self.clock.call_at(until, session.connection.carry_late, message, packet)
        else:
            session.connection.carry_down(message, packet)

    def _expired(self, message: Message) -> bool:
        return message.expires_at is not None and message.expires_at <= self.clock.now


@lru_cache(4096)
def _without_share(topic_filter: str) -> str:
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter
