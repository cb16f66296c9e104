"""The shell that drives one role on one connection: carries out actions, delivers events, keeps timers.

It decides nothing. What only some roles need (an executor, content on disk, images) is added as handlers
of the action types concerned.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from edgemesh.errors import DecodeError
from edgemesh.protocol.topics import Topics, topic_matches
from edgemesh.roles.actions import (
    Acknowledge,
    Action,
    CancelTimer,
    Log,
    Publish,
    SetTimer,
    Subscribe,
    Unsubscribe,
)
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    ForeignMessageReceived,
    MessageReceived,
    PublishAcknowledged,
    PublishRefused,
    TimerFired,
)
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.role import Role
from edgemesh.transport.broker_search import Whereabouts
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.session import SessionSettings

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_log = logging.getLogger("edgemesh")


class Shell:
    """Drives one role. Everything runs on the loop's thread."""

    def __init__(
        self,
        role: Role,
        topics: Topics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.role = role
        self.connection: Connection | None = None
        self._topics = topics
        self._loop = loop
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._queue: deque[Event] = deque()
        self._delivering = False
        self._refusals = Refusals()
        self._foreign: set[str] = set()
        """Filters outside of the mesh that the role subscribed to."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            Publish: self._publish,
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            Acknowledge: self._acknowledge,
            SetTimer: self._set_timer,
            CancelTimer: self._cancel_timer,
            Log: self._write_log,
        }

    def handle_also(self, handlers: dict[type, Callable[[Any], None]]) -> None:
        """Carry out further types of actions with these."""
        self._handlers.update(handlers)

    def connect(
        self,
        broker: Whereabouts,
        client_id: str,
        session: SessionSettings,
        *,
        on_taken_over: Callable[[], None] | None = None,
        on_refused: Callable[[str], None] = lambda text: None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        """Connect, for ever until ``close``; the role hears ``Connected`` and ``Disconnected``."""

        def disconnected(reason: str) -> None:
            _log.warning("lost the broker (%s); reconnecting", reason)
            self.deliver(Disconnected())
            if on_lost is not None:
                on_lost()

        callbacks = Callbacks(
            on_connected=lambda: self.deliver(Connected()),
            on_disconnected=disconnected,
            on_message=self._arrived,
            on_acknowledged=lambda token: self.deliver(PublishAcknowledged(token)),
            on_taken_over=on_taken_over,
            on_refused=on_refused,
            on_problem=_log.warning,
            on_message_refused=lambda message, refusal: self.deliver(PublishRefused(message, refusal)),
        )
        self.connection = Connection(broker, client_id, callbacks, session, self._loop)
        self.connection.start()

    def deliver(self, event: Event) -> None:
        """Hand an event to the role and carry out what it wants, one event at a time."""
        self._queue.append(event)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._queue:
                self.carry_out(self.role.handle(self._queue.popleft(), self._loop.time()))
        finally:
            self._delivering = False

    def carry_out(self, actions: list[Action]) -> None:
        """Carry out actions in order; what cannot be done of them is logged."""
        for action in actions:
            handler = self._handlers[type(action)]
            try:
                handler(action)
            # The edge to the machine: what it refuses must not cost a job its end, or a timer its next time.
            except Exception:
                _log.exception("cannot carry out %s", type(action).__name__)

    async def close(self, last_words: list[Action]) -> None:
        """Publish the last words and disconnect; timers are dropped."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self.connection is not None:
            messages = [action for action in last_words if isinstance(action, Publish)]
            await self.connection.close(messages)

    def _arrived(self, message: IncomingMessage) -> None:
        if not message.topic.startswith(self._topics.root) and any(
            topic_matches(each, message.topic) for each in self._foreign
        ):
            self.deliver(ForeignMessageReceived(message.topic, message.payload, message.retained))
            return
        try:
            topic = self._topics.parse(message.topic)
        except DecodeError as error:
            self.carry_out(self._refusals.log("an unknown topic", error, self._loop.time()))
            if self.connection is not None and message.qos:
                self.connection.acknowledge(message.mid, message.qos)
            return
        self.deliver(
            MessageReceived(
                topic,
                message.payload,
                message.retained,
                message.duplicate,
                message.content_type,
                message.response_topic,
                message.correlation,
                message.expiry,
                message.mid if message.qos else None,
            )
        )

    def _publish(self, action: Publish) -> None:
        if self.connection is not None:
            self.connection.publish(action)

    def _subscribe(self, action: Subscribe) -> None:
        if not action.filter.startswith((self._topics.root, "$share/")):
            self._foreign.add(action.filter)
        if self.connection is not None:
            self.connection.subscribe(action.filter, action.qos)

    def _unsubscribe(self, action: Unsubscribe) -> None:
        self._foreign.discard(action.filter)
        if self.connection is not None:
            self.connection.unsubscribe(action.filter)

    def _acknowledge(self, action: Acknowledge) -> None:
        if self.connection is not None:
            self.connection.acknowledge(action.acknowledgement, qos=1)

    def _set_timer(self, action: SetTimer) -> None:
        self._cancel(action.name)
        self._timers[action.name] = self._loop.call_at(action.at, self._fire, action.name)

    def _cancel_timer(self, action: CancelTimer) -> None:
        self._cancel(action.name)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _fire(self, name: str) -> None:
        self._timers.pop(name, None)
        self.deliver(TimerFired(name))

    def _write_log(self, action: Log) -> None:
        about = f" [{action.about[:20]}]" if action.about else ""
        _log.log(_LEVELS[action.level], "%s%s", action.text, about)
