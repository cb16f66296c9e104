"""The modelled shell: carries out a role's actions and hands it events, as ``node/shell.py`` does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from edgemesh.errors import DecodeError
from edgemesh.protocol.history import HistoryRecord
from edgemesh.protocol.presence import Resources
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import (
    Acknowledge,
    Action,
    AnswerHistory,
    CancelTimer,
    DropContent,
    FindContent,
    FindProfile,
    JobEnded,
    LoadUnits,
    Log,
    MeasureUnits,
    Publish,
    ReadResources,
    Remember,
    RunUnits,
    SendChunk,
    SetTimer,
    StoreChunk,
    StoreProfile,
    Subscribe,
    UnloadUnits,
    Unsubscribe,
)
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    MessageReceived,
    ProfileFound,
    PublishAcknowledged,
    PublishRefused,
    Refusal,
    ResourcesRead,
    TimerFired,
)
from edgemesh.roles.role import Role
from edgemesh.simulation.broker import Broker, Message
from edgemesh.simulation.clock import Entry, VirtualClock
from edgemesh.simulation.connection import Callbacks, ModelledConnection
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import DISK_SECONDS, Disk, Executor, resources

_REFUSAL = Refusal(reason="not authorized")
_WORDS_OF_DEVICES = frozenset({"state", "about", "heartbeat"})


class ModelledShell:
    """Drives one role. ``handlers`` carry out what only some roles want done."""

    def __init__(self, name: str, role: Role, clock: VirtualClock, broker: Broker, topics: Topics) -> None:
        self.name = name
        self.role = role
        self.connection: ModelledConnection | None = None
        self.logs: list[Log] = []
        self.ended: list[JobEnded] = []
        self.remembered: list[HistoryRecord] = []
        self.timers: dict[str, Entry] = {}
        self.alive = True
        self.paused = False
        self.away_since: float | None = None
        """When its process was told that it has no connection any more; None before, and while it has one."""
        self.handled = 0
        """Events that the role has seen: while it stays, the role is as it was."""
        self.heard: dict[str, float] = {}
        """When each device's last word of itself arrived."""
        self._clock = clock
        self._broker = broker
        self._topics = topics
        self._queue: deque[Event] = deque()
        self._late: list[str] = []
        """Timers that fell due while the process was stopped."""
        self._delivering = False
        self.handlers: dict[type, Callable[[Any], None]] = {
            Publish: self._publish,
            Subscribe: self._subscribe,
            Unsubscribe: self._unsubscribe,
            Acknowledge: self._acknowledge,
            SetTimer: self._set_timer,
            CancelTimer: lambda action: self._cancel(action.name),
            Log: self.logs.append,
            JobEnded: self.ended.append,
            Remember: lambda action: self.remembered.append(action.record),
            AnswerHistory: lambda action: None,  # there is no disk here to read from
        }

    def connect(
        self,
        client_id: str,
        link: Link,
        *,
        on_lost: Callable[[], None] | None = None,
        on_taken_over: Callable[[], None] | None = None,
        **session: Any,
    ) -> None:
        """Connect, for ever; ``session`` as ``ModelledConnection`` takes it."""

        def connected() -> None:
            self.away_since = None
            self.deliver(Connected())

        def disconnected() -> None:
            self.away_since = self._clock.now
            self.deliver(Disconnected())
            if on_lost is not None:
                on_lost()

        callbacks = Callbacks(
            connected,
            disconnected,
            self._arrived,
            lambda token: self.deliver(PublishAcknowledged(token)),
            on_taken_over,
            lambda message: self.deliver(PublishRefused(message, _REFUSAL)),
        )
        self.connection = ModelledConnection(self._clock, self._broker, client_id, callbacks, link, **session)

    def deliver(self, event: Event) -> None:
        """Hand an event to the role and carry out what it wants, one event at a time."""
        if not self.alive:
            return
        self._queue.append(event)
        self._work()

    def _work(self) -> None:
        if self._delivering or self.paused:
            return
        self._delivering = True
        while self._queue and self.alive:
            self.handled += 1
            self.carry_out(self.role.handle(self._queue.popleft(), self._clock.now))
        self._delivering = False

    def deliver_later(self, delay: float, event: Event) -> None:
        """Hand over an event in ``delay`` seconds."""
        self._clock.call_later(delay, self.deliver, event)

    def carry_out(self, actions: list[Action]) -> None:
        """Carry out actions in order."""
        for action in actions:
            self.handlers[type(action)](action)

    def stop(self, farewell: list[Action]) -> None:
        """End cleanly, with last words."""
        self.carry_out(farewell)
        if self.connection is not None:
            self.connection.close()
        self._end()

    def kill(self) -> None:
        """The process dies."""
        if self.connection is not None:
            self.connection.kill()
        self._end()

    def silence(self) -> None:
        """The machine is gone without a word."""
        if self.connection is not None:
            self.connection.silence()
        self._end()

    def pause(self) -> None:
        """The process stops (SIGSTOP): events wait, timers fire late."""
        self.paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        """The process goes on (SIGCONT)."""
        self.paused = False
        if self.connection is not None:
            self.connection.resume()
        late, self._late = self._late, []
        for name in late:
            if name in self.timers:
                self.timers[name] = self._clock.call_later(0.0, self._fire, name)
        self._clock.call_later(0.0, self._work)

    def _end(self) -> None:
        self.alive = False
        for name in list(self.timers):
            self._cancel(name)

    # --- actions -----------------------------------------------------------------------------------------

    def _publish(self, action: Publish) -> None:
        if self.connection is not None:
            self.connection.publish(action)

    def _subscribe(self, action: Subscribe) -> None:
        assert self.connection is not None
        if self.connection.connected:
            self.connection.subscribe(action.filter, action.qos)

    def _unsubscribe(self, action: Unsubscribe) -> None:
        assert self.connection is not None
        if self.connection.connected:
            self.connection.unsubscribe(action.filter)

    def _acknowledge(self, action: Acknowledge) -> None:
        assert self.connection is not None
        self.connection.acknowledge(action.acknowledgement)

    def _set_timer(self, action: SetTimer) -> None:
        self._cancel(action.name)
        self.timers[action.name] = self._clock.call_at(action.at, self._fire, action.name)

    def _cancel(self, name: str) -> None:
        entry = self.timers.pop(name, None)
        if entry is not None:
            entry.cancel()

    def _fire(self, name: str) -> None:
        if self.paused:
            self._late.append(name)
            return
        del self.timers[name]
        self.deliver(TimerFired(name))

    def _arrived(self, message: Message, packet: int) -> None:
        try:
            topic = self._topics.parse(message.topic)
        except DecodeError:
            if packet and self.connection is not None:
                self.connection.acknowledge(packet)
            return
        if topic.kind in _WORDS_OF_DEVICES:
            self.heard[topic.names["device"]] = self._clock.now
        self.deliver(
            MessageReceived(
                topic,
                message.payload,
                message.retain,
                message.duplicate,
                message.content_type,
                message.response_topic,
                message.correlation,
                self._broker.left(message),
                packet or None,
            )
        )


def add_machine(
    shell: ModelledShell,
    executor: Executor,
    disk: Disk,
    read: Callable[[], Resources] = resources,
) -> None:
    """Handlers for what a device wants of its machine; ``read`` reads its resources."""

    def store(action: StoreChunk) -> None:
        event = disk.store(action)
        if event is not None:
            shell.deliver_later(DISK_SECONDS, event)

    def send(action: SendChunk) -> None:
        message = disk.chunk(action)
        if message is not None:
            shell.carry_out([message])

    def find_profile(action: FindProfile) -> None:
        digest = action.manifest.digest
        shell.deliver_later(DISK_SECONDS, ProfileFound(digest, disk.profiles.get(digest)))

    def store_profile(action: StoreProfile) -> None:
        disk.profiles[action.profile.digest] = action.profile

    shell.handlers |= {
        **dict.fromkeys((RunUnits, LoadUnits, UnloadUnits, MeasureUnits), executor.submit),
        FindContent: lambda action: shell.deliver_later(DISK_SECONDS, disk.find(action)),
        StoreChunk: store,
        SendChunk: send,
        DropContent: lambda action: disk.drop(action.digest),
        FindProfile: find_profile,
        StoreProfile: store_profile,
        ReadResources: lambda action: shell.deliver_later(DISK_SECONDS, ResourcesRead(read())),
    }
