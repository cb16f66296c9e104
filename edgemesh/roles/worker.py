"""Worker: takes activations, runs its partition of their route, passes them on.

It holds no plan: what to do is in the activation. Its queue is bounded in predicted seconds of work, and
nothing is begun past its deadline. Where runs are short, the next one goes to the executor ahead of its turn,
so that nothing is idle in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf

from edgemesh.errors import (
    BusyError,
    DeadlineError,
    DecodeError,
    EdgemeshError,
    ModelError,
    RunError,
    SupersededError,
    UnknownModelError,
    VersionError,
)
from edgemesh.protocol import limits
from edgemesh.protocol.activation import (
    Activation,
    Reply,
    Timing,
    decode_activation,
    encode_activation,
    encode_reply,
)
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.link import Receipt
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish, RunUnits, SetTimer
from edgemesh.roles.addresses import Addresses
from edgemesh.roles.events import (
    Event,
    ExecutorLost,
    MessageReceived,
    PublishRefused,
    RunFailed,
    RunFinished,
    TimerFired,
)
from edgemesh.roles.kept_activations import KeptActivations
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.refused_messages import answer
from edgemesh.roles.work_queue import Partition, Task, WorkQueue

QUEUE_SECONDS = 5.0
"""Predicted work that may wait; more answers ``busy`` at once instead of late."""
QUEUE_JOBS = 256
_SHARE_OF_DEADLINE = 0.75
"""Of the time that is left a job may take here behind others: the way home takes some, and predictions err.
With all of it two of three jobs that were run under overload came too late (docs/benchmarks.md)."""
_REMEMBERED_JOBS = 4096
_REMEMBERED_PARTITIONS = 4096
_UNKNOWN_SECONDS = 0.05
"""Assumed for a partition that never ran: small, so that a first burst is not refused."""
_DEADLINE_TIMER = "worker-deadline"
_AHEAD_SECONDS = 0.1
"""Behind a run that takes longer nothing is sent ahead: what the executor has can be neither replaced nor
refused, and the milliseconds between two runs are few of so many."""
_AHEAD_LEFT_SECONDS = 1.0
"""Nor is what has less time left: it would be answered when the run before it ends, not at its deadline."""


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
        self.benched: Mapping[str, str] = {}
        """Digests that are left out for now, each with the reason that answers its jobs."""
        self._addresses = Addresses(topics)
        self._queue_seconds = queue_seconds
        self._waiting = WorkQueue()
        self._kept = KeptActivations()
        self._running: Task | None = None
        self._started = 0.0
        self._typical: dict[Partition, float] = {}
        self._seen: OrderedDict[tuple[str, str, int, int], None] = OrderedDict()
        self._runs = 0
        self._deadline_at: float | None = None
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

    @property
    def waiting_seconds(self) -> float:
        """Seconds of what waits, each job as it was predicted when it came."""
        return self._waiting.seconds

    def queued_seconds(self, now: float) -> float:
        """Predicted seconds until a job that arrives now would start."""
        if self._running is None:
            return self._waiting.seconds
        running = self._predicted(self._running.partition) - (now - self._started)
        return self._waiting.seconds + max(0.0, running)

    def take_busy_seconds(self) -> float:
        """Seconds of runs that ended since the last call."""
        busy, self._busy_seconds = self._busy_seconds, 0.0
        return busy

    def expect(self, digest: str, start: int, stop: int, seconds: float) -> None:
        """What a partition is predicted to take before it ever ran here."""
        if (digest, start, stop) not in self._typical:
            self._remember((digest, start, stop), seconds)

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
            if self._waiting and (task := self._waiting.first).ahead:
                # Lost, too, but not begun: it runs under another name, so that no answer can come twice.
                task.ahead, task.run = False, self._run_id(task.header.job)
            return self._failed(RunFailed(self._running.run, RunError.code, event.text), now)
        if isinstance(event, TimerFired) and event.name == _DEADLINE_TIMER:
            self._deadline_at = None
            return self._expired(now)
        if isinstance(event, PublishRefused):
            reply = answer(event.message, event.refusal, self.device)
            return [] if reply is None else [self._error(reply)]
        return []

    def _arrived(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            header, section = decode_activation(event.payload)
        except (DecodeError, VersionError) as error:
            return self._refused(event.payload, error, now)
        key = (header.requester, header.job, header.attempt, header.position)
        if key in self._seen:
            return []  # delivered twice (QoS 1): the first one is answered
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED_JOBS:
            self._seen.popitem(last=False)

        actions: list[Action] = []
        if header.receipt and header.sender != self.device:
            receipt = Receipt(header.job, header.attempt, self.device)
            topic = self._addresses.of("receipt", header.sender)
            actions.append(Publish(topic, encode_json(receipt), expiry=10.0))
        task = Task(header, section, now, self._run_id(header.job))
        if (passed_on := self._pass_on(task, now)) is not None:
            return [*actions, passed_on]
        older = self._waiting.older_frames(header)
        objection = self._objection(task, sum(frame.predicted for frame in older), now)
        if objection is not None:
            return [*actions, self._reply_error(task, objection)]
        for frame in older:
            self._waiting.remove(frame)
            replaced = SupersededError(f"a newer frame of stream {header.stream} arrived")
            actions.append(self._reply_error(frame, replaced))
        if self._running is None and not self._waiting:
            return [self._run(task, now), *actions]  # what the sender is told need not hold it up
        task.predicted = self._predicted(task.partition)
        self._waiting.add(task)
        return [*actions, *self._send_ahead(now), *self._deadline_timer()]

    def _pass_on(self, task: Task, now: float) -> Publish | None:
        """The job was here before: what came of it then goes on, over the route that it has now."""
        if task.hop.device != self.device or task.header.left <= 0.0:
            return None
        kept = self._kept.find(task)
        if kept is None:
            return None
        timing, section = kept
        timings = (*task.header.timings[1 - limits.TIMINGS :], timing)
        return self._onward(task, timings, section, now)

    def _run_id(self, job: str) -> str:
        self._runs += 1
        return f"{job}-{self._runs}"

    def _objection(self, task: Task, freed: float, now: float) -> EdgemeshError | None:
        """Why the task cannot be taken; older frames that would make room for it take ``freed`` seconds."""
        header = task.header
        if task.hop.device != self.device:
            return DecodeError(
                f"the route sends cut {header.position} to {task.hop.device}, not to {self.device}"
            )
        if header.digest not in self.held:
            return UnknownModelError(f"{self.device} does not hold model {header.model}")
        if header.digest in self.benched:
            return ModelError(self.benched[header.digest])
        if header.left <= 0.0:
            return DeadlineError(f"deadline passed before {header.model} reached {self.device}")
        queued = self.queued_seconds(now) - freed
        if len(self._waiting) >= QUEUE_JOBS or queued > self._queue_seconds:
            return BusyError(f"{self.device} has {queued:.2f} s of work waiting")
        # Taken in all the same, under overload every job would wait until it is too late for it, and what
        # still ran would be answered to nobody. An idle device runs what it is given: a prediction that was
        # once too long is corrected by runs only.
        if queued > 0.0 and queued + self._predicted(task.partition) > _SHARE_OF_DEADLINE * header.left:
            return BusyError(f"{self.device} has {queued:.2f} s of work waiting, too much for the deadline")
        return None

    def _start(self, now: float) -> list[Action]:
        """The next run; tasks whose deadline has passed are answered on the way to it."""
        actions: list[Action] = []
        while self._running is None and self._waiting:
            task = self._waiting.first
            self._waiting.remove(task)
            if task.ahead:
                self._running, self._started = task, now
            elif now >= task.deadline:
                actions.append(self._reply_error(task, self._late(task)))
            elif task.header.digest in self.benched:
                actions.append(self._reply_error(task, ModelError(self.benched[task.header.digest])))
            else:
                actions.append(self._run(task, now))
        return actions + self._send_ahead(now)

    def _send_ahead(self, now: float) -> list[Action]:
        """The run after the one under way, where it may go ahead."""
        if self._running is None or not self._waiting:
            return []
        task = self._waiting.first
        if (
            task.ahead
            or task.header.stream is not None  # a newer frame may replace it
            or task.header.digest in self.benched
            or task.deadline < now + _AHEAD_LEFT_SECONDS
            or self._typical.get(self._running.partition, _AHEAD_SECONDS) >= _AHEAD_SECONDS
        ):
            return []
        task.ahead = True
        return [self._units(task)]

    def _run(self, task: Task, now: float) -> RunUnits:
        self._running, self._started = task, now
        return self._units(task)

    def _units(self, task: Task) -> RunUnits:
        digest, start, stop = task.partition
        codec = "raw" if task.is_last else task.hop.codec
        pace = self._pace(digest, start, stop)
        # Nothing waits here for a load or a measurement that the executor is at; the run may.
        return RunUnits(task.run, digest, start, stop, task.section, codec, pace, task.deadline)

    def _finished(self, event: RunFinished, now: float) -> list[Action]:
        task = self._running
        if task is None or task.run != event.run:
            return []
        # The executor's own figures: on this side's clock a run may have waited for a load to end.
        self._learn(task.partition, event.run_seconds + event.code_seconds)
        # What went ahead may have begun before this side heard that the run before it had ended.
        began = min(self._started, now - event.run_seconds - event.code_seconds)
        queue = max(0.0, began - task.arrived)
        start, stop = task.header.position, task.hop.stop
        timing = Timing(self.device, start, stop, queue, event.run_seconds, event.code_seconds)
        # Some sender's header may be full already: the oldest give way.
        timings = (*task.header.timings[1 - limits.TIMINGS :], timing)
        self._running = None
        message = (self._result if task.is_last else self._onward)(task, timings, event.section, now)
        # The next run starts after this message is on its way: a job waiting here must not delay one that
        # is on its way home.
        return [message, *self._start(now)] if self._waiting else [message]

    def _result(
        self, task: Task, timings: tuple[Timing, ...], section: bytes | memoryview, now: float
    ) -> Publish:
        header, stop = task.header, task.hop.stop
        reply = Reply(
            header.job, header.requester, header.attempt, self.device, position=stop, timings=timings
        )
        expiry = max(1.0, task.deadline - now)
        return Publish(
            self._addresses.of("reply", header.requester),
            encode_reply(reply, (section,)),
            qos=1,
            expiry=expiry,
        )

    def _onward(
        self, task: Task, timings: tuple[Timing, ...], section: bytes | memoryview, now: float
    ) -> Publish:
        header, stop = task.header, task.hop.stop
        left = task.deadline - now
        if left <= 0.0:
            return self._reply_error(task, DeadlineError(f"deadline passed on {self.device}"))
        onward = Activation(
            header.job,
            header.requester,
            header.model,
            header.digest,
            stop,
            header.route,
            header.attempt,
            left,
            self.device,
            header.receipt,
            header.stream,
            timings,
            header.traceparent,
        )
        token = f"{'work' if header.receipt else 'sent'}:{header.job}:{header.attempt}:{stop}"
        following = header.route[onward.hop_index].device
        payload = encode_activation(onward, (section,))
        # A requester sends its own jobs anew when its connection is back; those of others are in our hands.
        others = header.requester != self.device
        topic = self._addresses.of("work", following)
        self._kept.keep(task, payload, now)
        return Publish(topic, payload, qos=1, expiry=left, token=token, resend=others, bulk=True)

    def _failed(self, event: RunFailed, now: float) -> list[Action]:
        task = self._running
        if task is None or task.run != event.run:
            return []
        self._running = None
        reply = self._reply_error(task, RunError(event.text))
        if event.code != RunError.code:
            reply = self._reply_code(task, event.code, event.text)
        # Where every run fails, every job would have its line.
        logs = self._refusals.tell(f"run:{task.header.digest}", f"{task.header.model}: {event.text}", now)
        return [reply, *logs, *self._start(now)]

    def _expired(self, now: float) -> list[Action]:
        late = self._waiting.late(now)
        for task in late:
            self._waiting.remove(task)
        return [*(self._reply_error(task, self._late(task)) for task in late), *self._deadline_timer()]

    def _deadline_timer(self) -> list[Action]:
        """The timer of the earliest deadline, where it is not set yet; one that fires early does no harm."""
        first = self._waiting.earliest_deadline()
        if first == inf or (self._deadline_at is not None and self._deadline_at <= first):
            return []
        self._deadline_at = first
        return [SetTimer(_DEADLINE_TIMER, first)]

    # --- answers -----------------------------------------------------------------------------------------

    def _refused(self, payload: bytes | memoryview, error: EdgemeshError, now: float) -> list[Action]:
        actions = self._refusals.log("work", error, now)
        sender = sender_of(payload)
        if sender is not None:
            requester, job = sender
            reply = Reply(job, requester, 0, self.device, error.code, str(error)[:1000])
            actions.append(self._error(reply))
        return actions

    def _late(self, task: Task) -> EdgemeshError:
        return DeadlineError(f"deadline passed while {task.header.model} waited on {self.device}")

    def _reply_error(self, task: Task, error: EdgemeshError) -> Publish:
        return self._reply_code(task, error.code, str(error))

    def _reply_code(self, task: Task, code: str, text: str) -> Publish:
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
        return self._error(reply)

    def _error(self, reply: Reply) -> Publish:
        topic = self._addresses.of("reply", reply.requester)
        return Publish(topic, encode_reply(reply), qos=1, expiry=30.0)

    def _predicted(self, partition: Partition) -> float:
        return self._typical.get(partition, _UNKNOWN_SECONDS)

    def _learn(self, partition: Partition, seconds: float) -> None:
        self._busy_seconds += seconds
        known = self._typical.get(partition)
        if known is not None:
            self._typical[partition] = 0.7 * known + 0.3 * seconds
        else:
            self._remember(partition, seconds)

    def _remember(self, partition: Partition, seconds: float) -> None:
        if len(self._typical) >= _REMEMBERED_PARTITIONS:
            del self._typical[next(iter(self._typical))]  # of a model that is long gone, most likely
        self._typical[partition] = seconds
