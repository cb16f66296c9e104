"""Requester: owns jobs until their result.

It keeps each input, stamps the route on the activation, retries elsewhere when a device of the route goes
offline, answers an error that another device may not have, or when the job outlives its prediction. The first
result wins. Each job ends in exactly one ``JobEnded``, by its deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edgemesh.errors import (
    BusyError,
    DeadlineError,
    DecodeError,
    InputError,
    NoRouteError,
    SupersededError,
    UnknownModelError,
    VersionError,
)
from edgemesh.protocol.activation import Activation, Hop, Timing, decode_reply, encode_activation
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.requests import PlanRequest, PlanResponse
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, CancelTimer, JobEnded, Publish, SetTimer
from edgemesh.roles.events import (
    Connected,
    Event,
    JobCancelled,
    JobSubmitted,
    MessageReceived,
    TimerFired,
)
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.routes import ChosenRoute, RouteChooser

FINAL_CODES = frozenset(
    {DecodeError.code, VersionError.code, InputError.code, DeadlineError.code, SupersededError.code}
)
"""Errors that another device would answer as well."""
MAX_ATTEMPTS = 16
_HEDGES = 2
_HEDGE_FACTOR = 2.0
_HEDGE_SECONDS = 0.3
"""A job is sent again when it outlives its prediction by this factor and this many seconds."""
_GRACE_SECONDS = 1.5
"""Until retained manifests and assignments have arrived after connecting."""
_ASK_SECONDS = 2.0
_FIRST_BACKOFF = 0.05
_RECEIPT_SECONDS = 1.0
"""At most one transfer receipt per peer in this time: enough to follow a link, too few to load it."""


@dataclass
class _Attempt:
    route: ChosenRoute
    sent: float


@dataclass
class _Job:
    submitted: JobSubmitted
    began: float
    deadline: float
    attempts: int = 0
    hedges: int = 0
    hedge_at: float | None = None
    retry_at: float | None = None
    open: dict[int, _Attempt] = field(default_factory=dict)
    avoid: set[str] = field(default_factory=set)
    error: tuple[str, str] | None = None
    asked_at: float | None = None


class Requester:
    """The requester of one client, gateway or device. The caller carries out the actions in order."""

    def __init__(
        self,
        requester: str,
        origin: str,
        topics: Topics,
        view: MeshView,
        *,
        local_route: Callable[[str], ChosenRoute | None] = lambda model: None,
    ) -> None:
        """``local_route(model)`` is the whole model on this device, for when the broker is away."""
        self.requester = requester
        self.view = view
        self.routes = RouteChooser(view, origin)
        self._origin = origin
        self._topics = topics
        self._local_route = local_route
        self._jobs: dict[str, _Job] = {}
        self._refusals = Refusals()
        self._connected_at: float | None = None
        self._lost_connection = False
        self._receipts: dict[str, float] = {}

    @property
    def open_jobs(self) -> int:
        """Jobs that have not ended."""
        return len(self._jobs)

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to a submission, a reply, a timer, or news of the mesh (which ``view`` has learnt before)."""
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, JobSubmitted):
            return self._begin(event, now)
        if isinstance(event, TimerFired) and event.name.startswith("job:"):
            job = self._jobs.get(event.name[4:])
            return [] if job is None else self._due(job, now)
        if isinstance(event, Connected):
            return self._reconnected(now)
        if isinstance(event, JobCancelled):
            self._jobs.pop(event.job, None)
            return [CancelTimer(f"job:{event.job}")]
        return []

    def disconnected(self) -> None:
        """The broker is away: silence of devices means nothing until it is back."""
        self._connected_at = None
        self._lost_connection = True
        self.view.forget_silence()

    # --- news --------------------------------------------------------------------------------------------

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        kind = event.topic.kind
        if kind == "reply":
            return self._reply(event, now)
        if kind in ("state", "heartbeat"):
            return self._device_changed(event.topic.names["device"], now)
        if kind in ("assignment", "model"):
            waiting = [
                j
                for j in self._jobs.values()
                if not j.open and j.submitted.model == event.topic.names["model"]
            ]
            return [action for job in waiting for action in self._send(job, now)]
        if kind == "response" and event.topic.names["verb"] == "plan":
            return self._plan_response(event, now)
        return []

    def _device_changed(self, device: str, now: float) -> list[Action]:
        if self.view.online(device, now):
            return []
        actions: list[Action] = []
        for job in list(self._jobs.values()):
            for number, attempt in list(job.open.items()):
                if device in attempt.route.devices:
                    del job.open[number]
                    job.error = (NoRouteError.code, f"{device} went offline during the job")
            if not job.open and job.attempts and job.retry_at is None:
                actions += self._retry(job, now)
        return actions

    def _plan_response(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            response = decode_json(PlanResponse, event.payload)
        except DecodeError as error:
            return self._refusals.log("response/plan", error, now)
        if response.requester != self.requester or response.origin != self._origin or response.planned:
            return []
        actions: list[Action] = []
        for job in self._waiting(response.model):
            job.error = (NoRouteError.code, response.reason)
            if not response.soon:
                actions += self._end_error(job, NoRouteError.code, response.reason, now)
        return actions

    def _reconnected(self, now: float) -> list[Action]:
        self._connected_at = now
        actions: list[Action] = []
        for job in list(self._jobs.values()):
            # A reply may have been published while nobody listened; the first result still wins.
            if self._lost_connection or not job.open:
                actions += self._send(job, now)
        self._lost_connection = False
        return actions

    def _waiting(self, model: str) -> list[_Job]:
        return [job for job in self._jobs.values() if not job.open and job.submitted.model == model]

    # --- jobs --------------------------------------------------------------------------------------------

    def _begin(self, submitted: JobSubmitted, now: float) -> list[Action]:
        if submitted.job in self._jobs:
            return []
        job = _Job(submitted, now, now + submitted.left)
        self._jobs[submitted.job] = job
        return self._send(job, now)

    def _send(self, job: _Job, now: float) -> list[Action]:
        """Send the job over the best route it has not failed on, or see to it that there will be one."""
        job.retry_at = None
        submitted = job.submitted
        choice = self._choice(job, now)
        if choice is None:
            asked = self._ask(job, now)
            return [*asked, self._timer(job)] if submitted.job in self._jobs else asked
        number = job.attempts
        job.attempts += 1
        job.open[number] = _Attempt(choice, now)
        if submitted.route is None and job.hedges < _HEDGES:
            ahead = sum(1 for other in self._jobs.values() if other.open and other is not job)
            expected = choice.predicted * (1 + ahead)
            job.hedge_at = now + max(_HEDGE_FACTOR * expected, expected + _HEDGE_SECONDS)
        first = choice.route[0].device
        receipt = now - self._receipts.get(first, -_RECEIPT_SECONDS) >= _RECEIPT_SECONDS
        if receipt:
            self._receipts[first] = now
        header = Activation(
            submitted.job,
            self.requester,
            submitted.model,
            choice.digest,
            0,
            choice.route,
            number,
            max(0.0, job.deadline - now),
            self.requester,
            receipt,
            submitted.stream,
        )
        message = Publish(
            self._topics.build("work", device=first),
            encode_activation(header, (submitted.section,)),
            qos=1,
            expiry=max(1.0, job.deadline - now),
            token=f"work:{submitted.job}:{number}:0" if receipt else None,
        )
        return [message, self._timer(job)]

    def _choice(self, job: _Job, now: float) -> ChosenRoute | None:
        submitted = job.submitted
        if self._connected_at is None:
            # Local first: with the broker away a device that holds the whole model serves itself.
            return self._local_route(submitted.model)
        if submitted.route is not None:
            manifest = self.view.manifests.get(submitted.model)
            return None if manifest is None else ChosenRoute(submitted.route, manifest.digest, 0.0)
        routes = self.routes.routes(submitted.model, now)
        fresh = [choice for choice in routes if not choice.devices & job.avoid]
        tried = {attempt.route.route for attempt in job.open.values()}
        for choice in fresh:
            if choice.route not in tried:
                return choice
        return fresh[0] if fresh else None

    def _ask(self, job: _Job, now: float) -> list[Action]:
        """Nothing to send on: ask for a plan, or wait for one, or for a device to come back."""
        model = job.submitted.model
        if self._connected_at is None or job.avoid:
            job.retry_at = now + self._backoff(job)
            job.avoid.clear()
            return []
        known = model in self.view.manifests
        if not known and now - self._connected_at >= _GRACE_SECONDS:
            text = f"no model {model} in this mesh: add it with  edgemesh model add FILE --name {model}"
            return self._end_error(job, UnknownModelError.code, text, now)
        job.retry_at = now + (_ASK_SECONDS if known else 0.1)
        if job.error is None and known:
            job.error = (NoRouteError.code, f"no decision node has planned {model} for {self._origin}")
        if not known or job.submitted.route is not None:
            return []
        if job.asked_at is not None and now - job.asked_at < _ASK_SECONDS:
            return []
        job.asked_at = now
        request = PlanRequest(self.requester, model, self._origin)
        return [Publish(self._topics.build("request", verb="plan"), encode_json(request), qos=1, expiry=30.0)]

    def _reply(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            reply, section = decode_reply(event.payload)
        except (DecodeError, VersionError) as error:
            return self._refusals.log("reply", error, now)
        job = self._jobs.get(reply.job)
        if job is None or reply.requester != self.requester:
            return []  # a later result of a job that has ended: the first one won
        attempt = job.open.pop(reply.attempt, None)
        if reply.code is None:
            route = attempt.route if attempt is not None else None
            ended = JobEnded(
                reply.job,
                job.submitted.model,
                now - job.began,
                section=section,
                route=route.route if route is not None else _route_of(reply.timings),
                timings=reply.timings,
                attempts=job.attempts,
                predicted=route.predicted if route is not None else None,
            )
            return self._end(job, ended)
        text = reply.text or reply.code
        job.error = (reply.code, text)
        if job.open:
            return []  # another attempt is still under way
        if reply.code in FINAL_CODES or job.submitted.route is not None:
            return self._end_error(job, reply.code, text, now)
        job.avoid.add(reply.device)
        return self._retry(job, now)

    def _retry(self, job: _Job, now: float) -> list[Action]:
        if job.attempts >= MAX_ATTEMPTS:
            code, text = job.error or (NoRouteError.code, "no route")
            return self._end_error(job, code, text, now)
        if job.error is not None and job.error[0] == BusyError.code and self._choice(job, now) is None:
            job.avoid.clear()
            job.retry_at = now + self._backoff(job)
            return [self._timer(job)]
        return self._send(job, now)

    def _backoff(self, job: _Job) -> float:
        return float(min(1.0, _FIRST_BACKOFF * 2 ** min(job.attempts, 6)))

    def _due(self, job: _Job, now: float) -> list[Action]:
        if now >= job.deadline:
            why = job.error[1] if job.error is not None else "no answer"
            text = f"{job.submitted.model} had no result by its deadline: {why}"
            return self._end_error(job, DeadlineError.code, text, now)
        if job.retry_at is not None and now >= job.retry_at:
            return self._send(job, now)
        if job.hedge_at is not None and now >= job.hedge_at:
            job.hedge_at = None
            job.hedges += 1
            return self._send(job, now)
        return [self._timer(job)]

    def _timer(self, job: _Job) -> Action:
        times = [job.deadline]
        times += [at for at in (job.hedge_at, job.retry_at) if at is not None]
        return SetTimer(f"job:{job.submitted.job}", min(times))

    def _end_error(self, job: _Job, code: str, text: str, now: float) -> list[Action]:
        ended = JobEnded(
            job.submitted.job, job.submitted.model, now - job.began, code, text, attempts=job.attempts
        )
        return self._end(job, ended)

    def _end(self, job: _Job, ended: JobEnded) -> list[Action]:
        del self._jobs[ended.job]
        return [CancelTimer(f"job:{ended.job}"), ended]


def _route_of(timings: tuple[Timing, ...]) -> tuple[Hop, ...]:
    return tuple(Hop(timing.device, timing.stop) for timing in timings)
