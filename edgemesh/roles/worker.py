"""Worker: takes activations, runs its partition of their route, passes them on.

It holds no plan: what to do is in the activation. Its queue is bounded in predicted seconds of work, and
nothing waits in it past its deadline.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgemesh.errors import (
    BusyError,
    DeadlineError,
    DecodeError,
    EdgemeshError,
    RunError,
    SupersededError,
    UnknownModelError,
    VersionError,
)
from edgemesh.protocol.activation import (
    Activation,
    Reply,
    Timing,
    decode_activation,
    encode_activation,
    encode_reply,
)
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.ids import is_id
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.link import Receipt
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Publish, RunUnits, SetTimer
from edgemesh.roles.events import (
    Event,
    ExecutorLost,
    MessageReceived,
    RunFailed,
    RunFinished,
    TimerFired,
)
from edgemesh.roles.refusals import Refusals

QUEUE_SECONDS = 5.0
"""Predicted work that may wait; more answers ``busy`` at once instead of late."""
QUEUE_JOBS = 256
_REMEMBERED_JOBS = 4096
_UNKNOWN_SECONDS = 0.05
"""Assumed for a partition that never ran: small, so that a first burst is not refused."""
_DEADLINE_TIMER = "worker-deadline"


@dataclass
class _Task:
    header: Activation
    section: bytes | memoryview
    arrived: float
    deadline: float
    run: str

    @property
    def partition(self) -> tuple[str, int, int]:
        return self.header.digest, self.header.position, self.header.route[self.header.hop_index].stop


class Worker:
    """One device's worker. The caller carries out the actions in order."""

    def __init__(
        self,
        device: str,
        topics: Topics,
        *,
        queue_seconds: float = QUEUE_SECONDS,
        pace: Callable[[str, int, int], float] = lambda digest, start, stop: 0.0,
    ) -> None:
        """``pace(digest, start, stop)`` is the least seconds that a run may take (emulated boards)."""
        self.device = device
        self._pace = pace
        self.held: set[str] = set()
        """Digests whose content is on disk."""
        self._topics = topics
        self._queue_seconds = queue_seconds
        self._waiting: deque[_Task] = deque()
        self._running: _Task | None = None
        self._started = 0.0
        self._typical: dict[tuple[str, int, int], float] = {}
        self._seen: OrderedDict[tuple[str, int, int], None] = OrderedDict()
        self._runs = 0
        self._refusals = Refusals()
        self._busy_seconds = 0.0

    # --- what heartbeats say -----------------------------------------------------------------------------

    @property
    def jobs(self) -> int:
        """Jobs waiting or running."""
        return len(self._waiting) + (self._running is not None)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self.jobs == 0

    def queued_seconds(self, now: float) -> float:
        """Predicted seconds until a job that arrives now would start."""
        waiting = sum(self._predicted(task.partition) for task in self._waiting)
        if self._running is None:
            return waiting
        return waiting + max(0.0, self._predicted(self._running.partition) - (now - self._started))

    def take_busy_seconds(self) -> float:
        """Seconds of runs that ended since the last call."""
        busy, self._busy_seconds = self._busy_seconds, 0.0
        return busy

    def expect(self, digest: str, start: int, stop: int, seconds: float) -> None:
        """What a partition is predicted to take before it ever ran here."""
        self._typical.setdefault((digest, start, stop), seconds)

    # --- events ------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to an activation, the end of a run, or a deadline."""
        if isinstance(event, MessageReceived) and event.topic.kind == "work":
            return self._arrived(event, now)
        if isinstance(event, RunFinished):
            return self._finished(event, now)
        if isinstance(event, RunFailed):
            return self._failed(event, now)
        if isinstance(event, ExecutorLost) and self._running is not None:
            return self._failed(RunFailed(self._running.run, RunError.code, event.text), now)
        if isinstance(event, TimerFired) and event.name == _DEADLINE_TIMER:
            return self._expired(now)
        return []

    def _arrived(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            header, section = decode_activation(event.payload)
        except (DecodeError, VersionError) as error:
            return self._refused(event.payload, error, now)
        key = (header.job, header.attempt, header.position)
        if key in self._seen:
            return []  # delivered twice (QoS 1): the first one is answered
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED_JOBS:
            self._seen.popitem(last=False)

        actions: list[Action] = []
        if header.receipt:
            receipt = Receipt(header.job, header.attempt, self.device)
            topic = self._topics.build("receipt", requester=header.sender)
            actions.append(Publish(topic, encode_json(receipt), expiry=10.0))
        self._runs += 1
        task = _Task(header, section, now, now + header.left, f"{header.job}-{self._runs}")
        objection = self._objection(task, now)
        if objection is not None:
            return [*actions, self._reply_error(task, objection)]
        actions += self._superseded(header)
        self._waiting.append(task)
        return actions + self._start(now) + self._deadline_timer()

    def _objection(self, task: _Task, now: float) -> EdgemeshError | None:
        header = task.header
        hop = header.route[header.hop_index]
        if hop.device != self.device:
            return DecodeError(f"the route sends cut {header.position} to {hop.device}, not to {self.device}")
        if header.digest not in self.held:
            return UnknownModelError(f"{self.device} does not hold model {header.model}")
        if header.left <= 0.0:
            return DeadlineError(f"deadline passed before {header.model} reached {self.device}")
        queued = self.queued_seconds(now)
        if len(self._waiting) >= QUEUE_JOBS or queued > self._queue_seconds:
            return BusyError(f"{self.device} has {queued:.2f} s of work waiting")
        return None

    def _superseded(self, header: Activation) -> list[Action]:
        if header.stream is None:
            return []
        older = [
            task
            for task in self._waiting
            if task.header.stream == header.stream and task.header.requester == header.requester
            if task.header.job != header.job
        ]
        for task in older:
            self._waiting.remove(task)
        error = SupersededError(f"a newer frame of stream {header.stream} arrived")
        return [self._reply_error(task, error) for task in older]

    def _start(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._running is None and self._waiting:
            task = self._waiting.popleft()
            if now >= task.deadline:
                actions.append(self._reply_error(task, self._late(task)))
                continue
            self._running, self._started = task, now
            hop = task.header.route[task.header.hop_index]
            last = task.header.hop_index == len(task.header.route) - 1
            codec = "raw" if last else hop.codec
            digest, start, stop = task.partition
            pace = self._pace(digest, start, stop)
            actions.append(RunUnits(task.run, digest, start, stop, task.section, codec, pace))
        return actions

    def _finished(self, event: RunFinished, now: float) -> list[Action]:
        task = self._running
        if task is None or task.run != event.run:
            return []
        self._learn(task.partition, now - self._started)
        self._running = None
        header = task.header
        hop = header.route[header.hop_index]
        timing = Timing(
            self.device,
            header.position,
            hop.stop,
            queue=max(0.0, self._started - task.arrived),
            run=event.run_seconds,
            code=event.code_seconds,
        )
        timings = (*header.timings, timing)
        if hop.stop == header.route[-1].stop:
            reply = Reply(
                header.job, header.requester, header.attempt, self.device, position=hop.stop, timings=timings
            )
            topic = self._topics.build("reply", requester=header.requester)
            message = Publish(topic, encode_reply(reply, (event.section,)), qos=1, expiry=task.deadline - now)
        else:
            onward = replace(
                header,
                position=hop.stop,
                left=max(0.0, task.deadline - now),
                timings=timings,
                sender=self.device,
            )
            following = onward.route[onward.hop_index].device
            topic = self._topics.build("work", device=following)
            message = Publish(
                topic,
                encode_activation(onward, (event.section,)),
                qos=1,
                expiry=task.deadline - now,
                token=f"work:{header.job}:{header.attempt}:{hop.stop}" if header.receipt else None,
            )
        # The next run starts after this message is on its way: a job waiting here must not delay one that
        # is on its way home.
        return [message, *self._start(now), *self._deadline_timer()]

    def _failed(self, event: RunFailed, now: float) -> list[Action]:
        task = self._running
        if task is None or task.run != event.run:
            return []
        self._running = None
        reply = self._reply_error(task, RunError(event.text))
        if event.code != RunError.code:
            reply = self._reply_code(task, event.code, event.text)
        log = Log("warning", f"{task.header.model}: {event.text}", task.header.job)
        return [reply, log, *self._start(now), *self._deadline_timer()]

    def _expired(self, now: float) -> list[Action]:
        late = [task for task in self._waiting if now >= task.deadline]
        for task in late:
            self._waiting.remove(task)
        return [*(self._reply_error(task, self._late(task)) for task in late), *self._deadline_timer()]

    def _deadline_timer(self) -> list[Action]:
        if not self._waiting:
            return []
        return [SetTimer(_DEADLINE_TIMER, min(task.deadline for task in self._waiting))]

    # --- answers -----------------------------------------------------------------------------------------

    def _refused(self, payload: bytes | memoryview, error: EdgemeshError, now: float) -> list[Action]:
        actions = self._refusals.log("work", error, now)
        sender = sender_of(payload)
        if sender is not None and is_id(sender[0]) and is_id(sender[1]):
            reply = Reply(sender[1], sender[0], 0, self.device, error.code, str(error))
            topic = self._topics.build("reply", requester=sender[0])
            actions.append(Publish(topic, encode_reply(reply), qos=1, expiry=30.0))
        return actions

    def _late(self, task: _Task) -> EdgemeshError:
        return DeadlineError(f"deadline passed while {task.header.model} waited on {self.device}")

    def _reply_error(self, task: _Task, error: EdgemeshError) -> Publish:
        return self._reply_code(task, error.code, str(error))

    def _reply_code(self, task: _Task, code: str, text: str) -> Publish:
        header = task.header
        reply = Reply(
            header.job,
            header.requester,
            header.attempt,
            self.device,
            code,
            text[:1000],
            header.position,
            header.timings,
        )
        topic = self._topics.build("reply", requester=header.requester)
        return Publish(topic, encode_reply(reply), qos=1, expiry=30.0)

    def _predicted(self, partition: tuple[str, int, int]) -> float:
        return self._typical.get(partition, _UNKNOWN_SECONDS)

    def _learn(self, partition: tuple[str, int, int], seconds: float) -> None:
        known = self._typical.get(partition)
        self._typical[partition] = seconds if known is None else 0.7 * known + 0.3 * seconds
        self._busy_seconds += seconds
