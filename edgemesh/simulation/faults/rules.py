"""Rules: what must hold at every step of a run, whatever is done to the mesh."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from edgemesh.errors import BusyError, DeadlineError, DecodeError, EdgemeshError
from edgemesh.protocol.activation import Activation, Hop, decode_activation, decode_reply
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.result import ResultMessage
from edgemesh.roles.actions import JobEnded, Publish, RunUnits
from edgemesh.roles.attempts import MAX_ATTEMPTS
from edgemesh.roles.client import ClientRole
from edgemesh.roles.device import Device
from edgemesh.roles.gateway import OPEN_SUBMISSIONS, Gateway
from edgemesh.roles.worker import QUEUE_JOBS, QUEUE_SECONDS
from edgemesh.simulation.broker import Message
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.benches import Benches
from edgemesh.simulation.faults.broken import RuleBrokenError
from edgemesh.simulation.faults.epochs import Epochs
from edgemesh.simulation.faults.gone import Gone
from edgemesh.simulation.faults.people import ANSWERS, is_deadly
from edgemesh.simulation.faults.schedules import APP, FACE, OTHER, Deed, Schedule
from edgemesh.simulation.faults.streams import Streams
from edgemesh.simulation.faults.submissions import Submissions
from edgemesh.simulation.faults.words import Words
from edgemesh.simulation.faults.world import World
from edgemesh.simulation.models import result_of
from edgemesh.simulation.shell import ModelledShell

_LONGEST_TASK = 6.0
"""Predicted seconds of the last job that a queue takes: all units of the slowest device at its slowest."""
_CALM_HEDGES = 0.05
_HEDGES_PER_JOB = 3
_FIRST_SECONDS = 3.0
"""What waited for the first plan of a model is sent at once, and jobs of another one wait behind it."""
_MANY_ATTEMPTS = 10
"""A job with an hour that was sent so often in the time of the faults has time before it is sent again."""
_ROUNDING = 1e-6
_WILL_SECONDS = 16.5
"""One and a half keep-alives, and a little."""
_SILENCE_SECONDS = 9.0
"""After it a requester that listens has missed a device's heartbeats."""
_SERVES_SECONDS = 20.0
"""Of a job's time, in which nothing is broken any more, and that must be enough to answer it."""
_ALONE_SECONDS = 5.0
"""Without a broker, in which a device surely has run a job of its own."""
_LATE_SECONDS = 1.0
"""A run begins late by the time that the job was under way."""
_ERROR = re.compile("failed: (Assertion|Attribute|Index|Key|Name|Recursion|Type|UnboundLocal)Error")
"""Not of arithmetic: a garbled message may hold any figure."""
_DELAYS = frozenset({"pause", "pause-client", "cut-link", "slow-link", "reorder"})
"""With them a message may be late at a device, which cannot know."""


@dataclass
class _Job:
    deed: Deed
    shell: ModelledShell
    deadline: float
    manifest: Manifest | None
    """By which its input was prepared; None where nobody knew the model."""
    sent: int = 0
    """Times that its input was published for a device."""
    stale: float = 0.0
    """Seconds by which a message promised too much time: it was sent again, as it was, after a while."""
    routes: set[tuple[Hop, ...]] = field(default_factory=set)
    """That it was sent over by a client."""
    dropped_at: float = 0.0
    """When the broker, over its limits, dropped a message about it."""
    refused_at: float = 0.0
    """When a device had no time for it: what is sent again of a lost burst may be too much at once."""


class Rules:
    """Watches a world; raises RuleBrokenError out of whatever it sees."""

    def __init__(self, world: World, schedule: Schedule) -> None:
        self.ended: Counter[str | None] = Counter()
        """Jobs by the code they ended with; None for a result."""
        self.hedged = 0
        self._world = world
        self._calm = schedule.calm
        self._first_other: dict[str, float] = {}
        """When each requester sent its first job of a model that was added."""
        kinds = {deed.kind for deed in schedule.deeds}
        self._prompt = not kinds & _DELAYS
        self._never_stopped = "pause" not in kinds
        self._garbled = "garble" in kinds
        self._jobs: dict[str, _Job] = {}
        self._over: set[str] = set()
        self._words = Words(world, schedule, self.broken)
        large = any(deed.kind == "submission" and deed.amount for deed in schedule.deeds)
        prompt = self._prompt and not large
        self._submissions = Submissions(world, self._words, self.broken, prompt=prompt)
        self._benches = Benches(world, self.broken)
        self._gone = Gone(world, self.broken)
        self._epochs = Epochs(world, self.broken)
        self._streams = Streams(self.broken)
        self._looked_at: dict[ModelledShell, int] = {}
        """Events that each role had seen when it was looked at last."""
        self._read: dict[ModelledShell, int] = {}
        """Lines of each log that were read."""
        self._dead: dict[str, float] = {}
        """When each device that is dead died."""

    def attach(self) -> None:
        """Watch from now on: the world is built."""
        world, mesh = self._world, self._world.mesh
        mesh.broker.on_publish = self._on_publish
        mesh.broker.on_drop = self._dropped
        for shell in mesh.clients.values():
            shell.handlers[Publish] = partial(self._client_publishes, shell, shell.handlers[Publish])
        for shell in (*mesh.clients.values(), *(node.shell for node in mesh.devices.values())):
            self._attend(shell)
        world.on_started = self._started
        world.on_died = self._died
        world.people.submitted = self._submitted
        world.people.cancelled = self._cancelled

    def broken(self, rule: str, text: str, about: str = "") -> None:
        """Say that a rule does not hold."""
        raise RuleBrokenError(self._world.mesh.clock.now - self._world.began, rule, text, about)

    # --- jobs --------------------------------------------------------------------------------------------

    def _attend(self, shell: ModelledShell) -> None:
        shell.handlers[JobEnded] = lambda ended: self._job_ended(shell, ended)
        if RunUnits in shell.handlers:
            self._world.mesh.devices[shell.name].executor.on_begin = partial(self._run_begins, shell.name)

    def _run_begins(self, name: str, action: RunUnits) -> None:
        """Nothing is begun after its deadline; where links are slow the device cannot know better."""
        self._words.busy_at = self._world.mesh.clock.now
        job = self._jobs.get(action.run.rpartition("-")[0])
        late = self._world.mesh.clock.now - job.deadline - job.stale if job is not None else 0.0
        if self._prompt and late > _LATE_SECONDS:
            text = f"{action.run} was begun at {name} {late:.1f} s after its deadline"
            self.broken("nothing is begun late", text, action.run)

    def _started(self, shell: ModelledShell) -> None:
        self._dead.pop(shell.name, None)
        self._attend(shell)

    def _died(self, target: str) -> None:
        mesh = self._world.mesh
        if target in mesh.devices:
            self._dead[target] = mesh.clock.now
            shell = mesh.devices[target].shell
            if shell.connection is None or not shell.connection.connected:
                return  # the broker has no Will of it
            mesh.clock.call_later(_WILL_SECONDS, self._will_is_out, target, shell, mesh.broker.restarts)

    def _will_is_out(self, name: str, shell: ModelledShell, restarts: int) -> None:
        """A broker that goes away itself publishes no Will of those who die then."""
        broker = self._world.mesh.broker
        if self._world.mesh.devices[name].shell is not shell or broker.restarts != restarts or not broker.up:
            return
        state = broker.retained.get(self._world.topics.build("state", device=name))
        if state is not None and state.payload == b"online":
            self.broken("retained states are true", f"{name} is dead, but retained as online", name)

    def _client_publishes(
        self, shell: ModelledShell, publish: Callable[[Publish], None], action: Publish
    ) -> None:
        if self._world.topics.parse(action.topic).kind == "work":
            header, _ = decode_activation(action.payload)
            self._dead_are_left_out(shell, header)
            if (job := self._jobs.get(header.job)) is not None:
                job.routes.add(header.route)
                self._streams.sent(job.deed, header)
                self._gone.sent(shell, header)
        publish(action)

    def _dead_are_left_out(self, shell: ModelledShell, header: Activation) -> None:
        connection = shell.connection
        assert connection is not None
        now = self._world.mesh.clock.now
        resumed_at = self._world.resumed_at.get(shell.name, connection.changed_at)
        listens_since = max(connection.changed_at, resumed_at)
        if not connection.connected or now - listens_since < _SILENCE_SECONDS:
            return
        for hop in header.route:
            # Over a slow link what it said may arrive long after its death.
            silent_since = max(self._dead.get(hop.device, now), shell.heard.get(hop.device, 0.0))
            if now - silent_since > _SILENCE_SECONDS:
                self.broken("the dead are left out", f"{header.job} goes to {hop.device}", header.job)

    def _submitted(self, deed: Deed, manifest: Manifest | None) -> None:
        if deed.target == APP:
            self._submissions.submitted(deed)
            return
        mesh = self._world.mesh
        shell = mesh.shell(deed.target)
        deadline = mesh.clock.now + deed.seconds
        self._jobs[deed.name] = _Job(deed, shell, deadline, manifest)
        self._streams.submitted(deed)
        mesh.clock.call_at(deadline + _ROUNDING, self._deadline_passed, deed.name)

    def _cancelled(self, deed: Deed) -> None:
        if deed.name in self._jobs and deed.name not in self._over:
            self._over.add(deed.name)
            self._streams.cancelled(deed)
            self._gone.over(deed.name)

    def _job_ended(self, shell: ModelledShell, ended: JobEnded) -> None:
        job = self._jobs.get(ended.job)
        if job is None or ended.job in self._over:
            self.broken("one end per job", f"{ended.job} ended twice: {ended.code or 'result'}", ended.job)
            return
        self._over.add(ended.job)
        self._gone.over(ended.job)
        resumed_at = self._world.resumed_at.get(job.deed.target, job.deadline)
        late = self._world.mesh.clock.now - max(job.deadline, resumed_at)
        if late > _ROUNDING and not shell.paused and self._keeps_time(job):
            self.broken("by its deadline", f"{ended.job} ended {late:.3f} s after its deadline", ended.job)
        self._words.gave_up(job.deed, ended)
        self._words.open_jobs = len(self._jobs) - len(self._over)
        cut_short = self._output_is_cut_short(job, ended)
        self._words.ended(job.deed, ended.code, ended.attempts)
        if ended.code is None and job.deed.target in self._world.mesh.clients:
            self._told_truly(job, ended)
        if ended.code == DeadlineError.code and job.deed.target in self._world.mesh.devices:
            self._serves_itself(job, ended)
        if ended.alone and {hop.device for hop in ended.route} != {job.deed.target}:
            self.broken(
                "a device serves itself", f"{ended.job} was not run by {job.deed.target} alone", ended.job
            )
        self._streams.ended(job.deed, ended.code)
        repaired_at = self._world.repaired_at
        if ended.code == DeadlineError.code and repaired_at is not None and self._can_be_served(job):
            # A broker that keeps three messages goes on dropping those of a burst.
            well = job.deadline - max(repaired_at, job.dropped_at, job.refused_at, self._benches.last_at)
            if well > _SERVES_SECONDS:
                text = f"{ended.job} had no result although all was well for {well:.1f} s"
                self.broken("what is repaired serves", text, ended.job)
        if ended.attempts > MAX_ATTEMPTS:
            self.broken("bounded attempts", f"{ended.job} took {ended.attempts} attempts", ended.job)
        # What was cut short is no tensor: whoever asked gets the decoder's error.
        self.ended[DecodeError.code if cut_short else ended.code] += 1

    def _can_be_served(self, job: _Job) -> bool:
        """Whether its input kills nobody, and is for what the name stands for of a model that can be run."""
        replaced = job.manifest != self._world.catalogue.face
        return job.deed.model == FACE and not replaced and not is_deadly(job.deed.name)

    def _told_truly(self, job: _Job, ended: JobEnded) -> None:
        """The route that is told is one that the job was sent over, and its devices tell of their parts."""
        parts = tuple(Hop(timing.device, timing.stop) for timing in ended.timings)
        if ended.route not in job.routes or parts != ended.route or ended.attempts < len(job.routes):
            text = f"{ended.job} is said to have taken {ended.route} at attempt {ended.attempts}: {parts}"
            self.broken("the way is told truly", text, ended.job)

    def _serves_itself(self, job: _Job, ended: JobEnded) -> None:
        """With the broker away, a device that holds the model and has nothing to do runs its own jobs."""
        node, now = self._world.mesh.devices[job.deed.target], self._world.mesh.clock.now
        away_since = node.shell.away_since
        if away_since is None or not self._never_stopped:
            return
        if min(now - away_since, job.deed.seconds) <= _ALONE_SECONDS:
            return
        can = any(held.name == FACE for held in node.role.content.models) and self._can_be_served(job)
        if can and node.role.worker.idle and not node.role.crash_bench.benched:
            text = f"{ended.job} had no result, though {job.deed.target} holds the model and was idle"
            self.broken("a device serves itself", text, ended.job)

    def _output_is_cut_short(self, job: _Job, ended: JobEnded) -> bool:
        if ended.code is not None:
            return False
        if job.manifest is None:
            self.broken("right output", f"{ended.job} has a result of a model that nobody has", ended.job)
            return False
        right = result_of(job.manifest, ended.job)
        if bytes(ended.section) == right:
            return False
        cut_short = self._garbled and len(ended.section) != len(right)
        if not cut_short:
            self.broken("right output", f"{ended.job} has a wrong result", ended.job)
        return cut_short

    def _deadline_passed(self, name: str) -> None:
        job = self._jobs[name]
        if name in self._over or not job.shell.alive:
            return
        if not self._keeps_time(job):
            return
        if job.shell.paused:
            self._world.mesh.clock.call_later(_LATE_SECONDS, self._deadline_passed, name)
            return
        self.broken("by its deadline", f"{name} has no end at its deadline", name)

    def _keeps_time(self, job: _Job) -> bool:
        """Whether its requester acts at the deadline: a device may have been stopped since, and gone on."""
        return job.deed.target in self._world.mesh.clients or self._never_stopped

    # --- what is published -------------------------------------------------------------------------------

    def _on_publish(self, connection: ModelledConnection, message: Message) -> None:
        if message.topic.startswith(ANSWERS):
            self._submissions.answered_there(connection, message)
            return
        topic = self._world.topics.parse(message.topic)
        if topic.kind == "work":
            self._work(connection, message)
        elif topic.kind == "reply":
            self._replied(message)
        elif topic.kind == "submit":
            self._submissions.accepted(message)
        elif topic.kind == "result":
            result = decode_json(ResultMessage, message.payload)
            self._submissions.answered(connection, message, result)
        elif topic.kind == "assignment" and not message.payload:
            self._epochs.cleared(topic.names["model"])
        elif topic.kind == "assignment" and connection is not self._world.app:
            self._epochs.published(connection, message.topic, decode_json(Assignment, message.payload))
        self._look()

    def _replied(self, message: Message) -> None:
        reply, _ = decode_reply(message.payload)
        self._gone.over(reply.job)
        if reply.code == BusyError.code and (job := self._jobs.get(reply.job)) is not None:
            job.refused_at = self._world.mesh.clock.now

    def _dropped(self, client_id: str, message: Message) -> None:
        """The broker is over its limits for a client, and tells nobody."""
        self._submissions.dropped(client_id, message)
        try:
            name = _job_of(self._world.topics.parse(message.topic).kind, message.payload)
        except EdgemeshError:
            return  # it was garbled
        if (job := self._jobs.get(name)) is not None:
            job.dropped_at = self._world.mesh.clock.now

    def _work(self, connection: ModelledConnection, message: Message) -> None:
        try:
            header, _ = decode_activation(message.payload)
        except EdgemeshError:
            return
        now = self._world.mesh.clock.now
        if header.model == OTHER:
            self._first_other.setdefault(header.requester, now)
        job = self._jobs.get(header.job)
        if job is not None:
            job.stale = max(job.stale, now + header.left - job.deadline)
        if job is None or header.position or connection is not job.shell.connection:
            return
        job.sent += 1
        if header.attempt >= MAX_ATTEMPTS:
            self.broken("bounded attempts", f"{header.job} is sent for attempt {header.attempt}", header.job)
        # A model that was just added is measured and loaded beside its first jobs.
        first = any(now - at <= _FIRST_SECONDS for at in self._first_other.values())
        self.hedged += job.sent > 1 and job.deed.model == FACE and not first
        if self._calm and job.sent > _HEDGES_PER_JOB:
            self.broken("few hedges in calm", f"{header.job} was sent {job.sent} times", header.job)

    # --- what can be looked at between two events --------------------------------------------------------

    def _look(self) -> None:
        mesh = self._world.mesh
        self._benches.look()
        for name, node in mesh.devices.items():
            if self._has_moved(node.shell):
                self._queues(name, node.role)
                self._epochs.obeys(name, node.role.requester)
        for name, shell in mesh.clients.items():
            if self._has_moved(shell):
                self._gone.look(shell)
                role = shell.role
                assert isinstance(role, ClientRole)
                self._epochs.obeys(name, role.requester)
        for holder in mesh.holders:
            if not self._has_moved(holder.shell):
                continue
            self._errors(holder.shell)
            if isinstance(holder.held, Gateway):
                self._epochs.obeys(f"{holder.name} {holder.boot}", holder.held.requester)
                if holder.held.open_submissions > OPEN_SUBMISSIONS + 1:
                    self.broken("bounded queues", f"{holder.name} has too many open submissions", holder.name)

    def _has_moved(self, shell: ModelledShell) -> bool:
        """Whether its role has seen anything since it was looked at: queues only shrink by themselves."""
        moved = self._looked_at.get(shell) != shell.handled
        self._looked_at[shell] = shell.handled
        return moved

    def _errors(self, shell: ModelledShell) -> None:
        """The decision node goes on after an error in its planning, and says so in its log."""
        read = self._read.get(shell, 0)
        self._read[shell] = len(shell.logs)
        for log in shell.logs[read:]:
            if _ERROR.search(log.text):
                self.broken("planning does not fail", log.text, shell.name)

    def _queues(self, name: str, device: Device) -> None:
        worker = device.worker
        if worker.jobs > QUEUE_JOBS + 1:
            self.broken("bounded queues", f"{worker.jobs} jobs wait at {name}", name)
        # Without the job that runs, which is predicted anew: the device may have become slower since it came.
        if worker.waiting_seconds > QUEUE_SECONDS + _LONGEST_TASK:
            text = f"{worker.waiting_seconds:.1f} s of work wait at {name}"
            self.broken("bounded queues", text, name)

    # --- the end -----------------------------------------------------------------------------------------

    def check_calm(self) -> None:
        """Slow is not dead: where nothing is broken few jobs are sent twice."""
        jobs = len(self._jobs) + len(self._submissions.results)
        if self._calm and self.hedged > max(1.0, _CALM_HEDGES * jobs):
            text = f"{self.hedged} of {jobs} jobs were sent again although nothing was broken"
            self.broken("few hedges in calm", text)

    def check_end(self) -> None:
        """All that was asked has been answered, and nobody is still at it."""
        for name, node in self._world.mesh.devices.items():
            if not node.role.worker.idle:
                self.broken("settles", f"{node.role.worker.jobs} jobs never leave {name}", name)
        for name, job in self._jobs.items():
            if name not in self._over and job.shell.alive and job.sent < _MANY_ATTEMPTS:
                self.broken("one end per job", f"{name} never ended", name)
        self._submissions.check_end()

    def results(self) -> Mapping[str, int]:
        """Submission to its results so far."""
        return self._submissions.results

    @property
    def codes(self) -> Mapping[str, str | None]:
        """The code that each submission ended with; None for a result."""
        return self._submissions.codes

    @property
    def newest(self) -> list[Deed]:
        """The last frame of each stream."""
        return self._streams.newest

    @property
    def told_again(self) -> int:
        """Results that plain apps got again, under the same job id."""
        return self._submissions.told_again


def _job_of(kind: str, payload: bytes) -> str:
    """The job that a message is about; empty where it is about none. Raises EdgemeshError."""
    if kind == "work":
        return decode_activation(payload)[0].job
    return decode_reply(payload)[0].job if kind == "reply" else ""
