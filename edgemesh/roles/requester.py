"""Requester: owns jobs until their result.

It keeps each input, stamps the route on the activation, retries elsewhere when a device of the route goes
offline, answers an error that another device may not have, or when the job outlives its prediction. The first
result wins. Each job ends in exactly one ``JobEnded``, by its deadline.
"""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.errors import (
    BusyError,
    DeadlineError,
    DecodeError,
    InputError,
    ModelError,
    NoRouteError,
    ReplacedError,
    RunError,
    SupersededError,
    UnknownModelError,
    VersionError,
)
from edgemesh.protocol.activation import (
    Hop,
    Reply,
    Timing,
    check_route,
    decode_reply,
)
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.requests import PlanRequest, PlanResponse
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, CancelTimer, JobEnded, Publish, SetTimer
from edgemesh.roles.attempts import MAX_ATTEMPTS, MAX_FAILURES, backoff, used_up
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    JobCancelled,
    JobSubmitted,
    MessageReceived,
    PublishAcknowledged,
    PublishRefused,
    TimerFired,
)
from edgemesh.roles.first_hop import FirstHop, attempt_of
from edgemesh.roles.frames import Frames, Stream
from edgemesh.roles.hedging import Hedging
from edgemesh.roles.job_routes import JobRoutes
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.open_jobs import OpenJob, OpenJobs
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.refused_messages import code_of, is_first_hop, why_refused
from edgemesh.roles.routes import ChosenRoute, RouteChooser

_UNREADABLE_CODES = frozenset({DecodeError.code, VersionError.code})
FINAL_CODES = _UNREADABLE_CODES | {InputError.code, DeadlineError.code, SupersededError.code}
"""Errors that another device would answer as well."""
LONGEST_SECONDS = 86_400.0
"""A deadline further off is one of a day."""
_GRACE_SECONDS = 1.5
"""Until retained manifests and assignments have arrived after connecting."""
_ASK_SECONDS = 2.0
_SELDOM_SECONDS = 60.0
_AWAY_SECONDS = 5.0
"""Between looks for a local route while the broker is away; its return is an event of its own."""
_SWEEP_SECONDS = 1.0
_TIMER = "plans-in-force"


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
        here = origin if requester == origin else None
        self.routes = RouteChooser(view, origin, here)
        self._origin = origin
        self._topics = topics
        self._first_hop = FirstHop(requester, topics)
        self._local_route = local_route
        self._jobs = OpenJobs()
        self._job_routes = JobRoutes(self.routes, self._jobs, here)
        self.hedging = Hedging(self._jobs, self._job_routes)
        self._frames = Frames()
        self._swept_at = float("-inf")
        self._refusals = Refusals()
        self._connected_at: float | None = None
        self._lost_connection = False
        self._asks_again = _GRACE_SECONDS
        """Seconds until it is asked again who renews a plan that the broker does not know."""

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
            job = self._jobs.find(event.name[4:])
            return [] if job is None else self._due(job, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            return self._ask_again(now)
        if isinstance(event, PublishAcknowledged):
            return self._acknowledged(event.token)
        if isinstance(event, PublishRefused):
            return self._input_refused(event, now)
        if isinstance(event, Connected):
            return self._reconnected(now)
        if isinstance(event, Disconnected):
            self.disconnected()
            return self._serve_locally(now)
        if isinstance(event, JobCancelled) and (job := self._jobs.find(event.job)) is not None:
            self._jobs.remove(event.job)
            return [CancelTimer(f"job:{event.job}"), *self._frame_ended(job, now)]
        return []

    def _acknowledged(self, token: str) -> list[Action]:
        """The broker has an attempt of ours, unless the token is of something else."""
        job, attempt = self._attempt(token)
        sent = job.sent_at(attempt) if job is not None else None
        if sent is not None:
            self._job_routes.acknowledged(sent)
        return []

    def _attempt(self, token: str) -> tuple[OpenJob | None, int]:
        """The open job of a message that has the ``token``, where there is one, and the attempt's number."""
        name, attempt = attempt_of(token) or ("", 0)
        return self._jobs.find(name), attempt

    def _input_refused(self, event: PublishRefused, now: float) -> list[Action]:
        """No device gets this input through the broker, or not this one; here the whole model may be, too."""
        message, refusal = event.message, event.refusal
        job, attempt = self._attempt(message.token or "")
        if job is None or not is_first_hop(message, self.requester):
            return []
        route = self._jobs.close_attempt(job, attempt)
        if route is None:
            return []
        code, text = code_of(refusal), why_refused("its input", message, refusal)
        job.error = (code, text)
        first = route.route[0].device
        job.avoid.add(first)
        local = self._local_route(job.submitted.model)
        if (
            local is not None
            and not job.open
            and job.submitted.route is None
            and job.fits(local.digest)
            and (refusal.is_for_size or not self._job_routes.fresh(job, now))
        ):
            return self._send(job, now, local)
        reply = Reply(job.submitted.job, self.requester, attempt, first, code, text)
        return self._refused(job, reply, route, now)

    def disconnected(self) -> None:
        """The broker is away: silence of devices means nothing until it is back."""
        self._connected_at = None
        self._lost_connection = True
        self._job_routes.interrupted()
        self.view.forget_silence()

    # --- news --------------------------------------------------------------------------------------------

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        kind = event.topic.kind
        if kind == "reply":
            return self._reply(event, now)
        if kind == "state":
            return self._devices_gone([event.topic.names["device"]], now)
        if kind == "heartbeat":
            return self._sweep(now)
        if kind == "model" or (kind == "assignment" and event.topic.names["origin"] == self._origin):
            model = event.topic.names["model"]
            self.routes.in_force(model, now)  # between jobs, too: the one before counts until this is ready
            waiting = [action for job in self._jobs.waiting(model) for action in self._send(job, now)]
            return [*waiting, *self._overtake(model, now)]
        if kind == "response" and event.topic.names["verb"] == "plan":
            return self._plan_response(event, now)
        return []

    def _sweep(self, now: float) -> list[Action]:
        """Look for silence: who sends nothing any more causes no event of its own."""
        if now - self._swept_at < _SWEEP_SECONDS:
            return []
        self._swept_at = now
        return self._devices_gone(self._jobs.devices, now)

    def _devices_gone(self, devices: list[str], now: float) -> list[Action]:
        """Drop the attempts over those of ``devices`` that are gone; retry the jobs that have no other."""
        actions: list[Action] = []
        for device in devices:
            over = self._jobs.over(device)
            if not over or self.routes.alive((device,), now):
                continue
            actions += self._job_routes.failed(device, now)
            for job in over:
                self._jobs.close_attempts_over(job, device)
                job.error = (NoRouteError.code, f"{device} went offline during the job")
                if not job.open:
                    actions += self._retry(job, now)
                    job.fell_back = True
        return actions

    def _overtake(self, model: str, now: float) -> list[Action]:
        """Send jobs that fell back on a slow route over the new plan, too, if that is home much earlier."""
        actions: list[Action] = []
        for job in self._jobs.fallen_back(model):
            if not self.hedging.overtakes(job, now):
                continue
            if not self._jobs.take_hedge():
                break
            job.overtakes = job.attempts
            actions += self._send(job, now)
        return actions

    def _plan_response(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            response = decode_json(PlanResponse, event.payload)
        except DecodeError as error:
            return self._refusals.log("response/plan", error, now)
        if response.requester != self.requester or response.origin != self._origin or response.planned:
            return []
        # What a broker has lost is told again by devices as they come back, also to who decides.
        forgotten = self.view.is_earlier_model(response.model)
        actions: list[Action] = []
        for job in self._jobs.waiting(response.model):
            if job.asked_at is None:
                continue  # somebody else's question, or an old one: this job waits for something else
            job.error = (NoRouteError.code, response.reason)
            if not response.soon and not forgotten:
                actions += self._end_error(job, NoRouteError.code, response.reason, now)
        return actions

    def _reconnected(self, now: float) -> list[Action]:
        self._connected_at = now
        self.view.begin_to_listen(now)
        if self._lost_connection:
            # All of them before any is sent: what is under way tells which routes are busy.
            for job in self._jobs:
                job.silences = 0
                if job.attempts < MAX_ATTEMPTS:  # else its last one is all that there will be
                    self._job_routes.leave_only_here(job)
        self._lost_connection = False
        actions: list[Action] = []
        for job in self._jobs:
            if job.held:
                continue
            if not job.open:
                actions += self._send(job, now)
            elif self._job_routes.stays_here(job) and self.hedging.overtakes(job, now):
                job.overtakes = job.attempts
                actions += self._send(job, now)
        if self.routes.obeyed:
            self._asks_again = _GRACE_SECONDS
            actions.append(SetTimer(_TIMER, now + _GRACE_SECONDS))
        return actions

    def _ask_again(self, now: float) -> list[Action]:
        """A broker that came back without its store has no word of our plans: nobody would renew them.

        Who decides may be back later than we are; so we ask until somebody has, ever more seldom.
        """
        asked: list[Action] = [
            self._plan_request(model)
            for model in self.routes.obeyed
            if self.view.is_earlier(model, self._origin)
        ]
        if not asked:
            return []
        self._asks_again = min(2.0 * self._asks_again, _SELDOM_SECONDS)
        return [*asked, SetTimer(_TIMER, now + self._asks_again)]

    def _serve_locally(self, now: float) -> list[Action]:
        """The broker is away: what this device can do alone need not wait for it."""
        actions: list[Action] = []
        for job in self._jobs:
            if not job.held and not self._job_routes.stays_here(job) and self._choice(job, now) is not None:
                actions += self._send(job, now)
        return actions

    # --- jobs --------------------------------------------------------------------------------------------

    def _begin(self, submitted: JobSubmitted, now: float) -> list[Action]:
        if submitted.job in self._jobs:
            return []
        # What is no number counts as none left.
        left = min(submitted.left, LONGEST_SECONDS) if submitted.left > 0.0 else 0.0
        job = OpenJob(submitted, now, now + left)
        self._jobs.add(job)
        if left <= 0.0:
            return self._due(job, now)
        if submitted.route is not None:
            try:
                check_route(submitted.route)
            except DecodeError as error:
                return self._end_error(job, error.code, str(error), now)
        elif self._connected_at is not None and self._job_routes.overrun_all(job, now):
            waiting = len(self._jobs) - 1
            text = f"{self.requester} has {waiting} jobs under way, too many for the deadline"
            return self._end_error(job, BusyError.code, text, now)
        return self._send(job, now) if job.stream is None else self._frame(job, job.stream, now)

    def _frame(self, job: OpenJob, stream: Stream, now: float) -> list[Action]:
        """Send a frame, or let it wait here for one of its stream to end, in the place of an older one."""
        unsent: list[Action] = []
        for other in map(self._jobs.find, sorted(self._frames.under_way(stream))):
            if other is not None and not other.attempts:
                unsent += self._superseded(other, now)  # it waits for a plan: this one can do so, too
        self._frames.came(stream, job.submitted.job)
        if self._frames.may_go(stream, self._most_frames(job, now)):
            self._frames.goes(stream, job.submitted.job)
            return [*unsent, *self._send(job, now)]
        job.held = True
        older = self._jobs.find(self._frames.hold(stream, job.submitted.job) or "")
        return [*unsent, *(self._superseded(older, now) if older is not None else ()), self._timer(job)]

    def _most_frames(self, job: OpenJob, now: float) -> int:
        """Of its stream: one on each device of the route, and one on the way. More would wait and get old."""
        choice = self._choice(job, now)
        return 1 + len(choice.route if choice is not None else ())

    def _superseded(self, job: OpenJob, now: float) -> list[Action]:
        text = f"a newer frame of stream {job.submitted.stream} came before this one could be sent"
        return self._end_error(job, SupersededError.code, text, now)

    def _frame_ended(self, job: OpenJob, now: float) -> list[Action]:
        """Where the job was a frame: the one of its stream that waits has its place."""
        stream = job.stream
        if stream is None:
            return []
        held = self._jobs.find(self._frames.ended(stream, job.submitted.job) or "")
        if held is None or not self._frames.take_held(stream, self._most_frames(held, now)):
            return []
        held.held = False
        return self._send(held, now)

    def _send(self, job: OpenJob, now: float, choice: ChosenRoute | None = None) -> list[Action]:
        """Send the job over the best route it has not failed on, or see to it that there will be one.

        Where there is only one ``choice``, over that.
        """
        job.retry_at = None
        job.fell_back = self._connected_at is None  # here, for want of a broker: a plan may be much faster
        if used_up(job):
            # What is under way may still come home.
            return [self._timer(job)] if job.open else self._given_up(job, now)
        submitted = job.submitted
        choice = choice or self._choice(job, now)
        if choice is None:
            if self._is_replaced(job):
                return [self._timer(job)] if job.open else self._replaced(job, now)
            asked = self._ask(job, now)
            return [*asked, self._timer(job)] if submitted.job in self._jobs else asked
        manifest = self.view.manifests.get(submitted.model)
        if submitted.route is not None and manifest is not None:
            end = submitted.route[-1].stop
            if end != manifest.unit_count:
                text = f"the given route ends at cut {end}; {submitted.model} ends at {manifest.unit_count}"
                return self._end_error(job, InputError.code, text, now)
        number = job.attempts
        job.attempts += 1
        self._job_routes.sent(choice, now)
        self._jobs.open_attempt(job, number, choice)
        self.hedging.sent(job, number, choice, now)
        message = self._first_hop.message(submitted, number, choice, max(0.0, job.deadline - now), now)
        return [message, self._timer(job)]

    def _choice(self, job: OpenJob, now: float) -> ChosenRoute | None:
        submitted = job.submitted
        if submitted.route is not None:
            manifest = self.view.manifests.get(submitted.model)
            if manifest is None or self._connected_at is None or not job.fits(manifest.digest):
                return None
            return ChosenRoute(submitted.route, manifest.digest, 0.0)
        if self._connected_at is None:
            # Local first: with the broker away a device that holds the whole model serves itself.
            route = self._local_route(submitted.model)
            return route if route is not None and job.fits(route.digest) else None
        fresh = self._job_routes.fresh(job, now)
        return self._job_routes.untried(job, fresh) or (fresh[0] if fresh else None)

    def _ask(self, job: OpenJob, now: float) -> list[Action]:
        """Nothing to send on: ask for a plan, or wait for one, or for a device to come back."""
        model = job.submitted.model
        if self._connected_at is None:
            job.retry_at = now + _AWAY_SECONDS
            return []
        if job.avoid:
            job.retry_at = now + backoff(job, now)
            job.avoid.clear()
            return []
        known = model in self.view.manifests
        if not known and now >= self.view.models_told_at(self._connected_at, _GRACE_SECONDS):
            text = f"no model {model} in this mesh: add it with  edgemesh model add FILE --name {model}"
            return self._end_error(job, UnknownModelError.code, text, now)
        job.retry_at = now + (_ASK_SECONDS if known else 0.1)
        if job.error is None and known:
            job.error = (NoRouteError.code, f"no decision node has planned {model} for {self._origin}")
        return self._ask_for_plan(job, now)

    def _ask_for_plan(self, job: OpenJob, now: float) -> list[Action]:
        """Nobody may know of the origin any more, or the last request came while nobody decided."""
        model = job.submitted.model
        if model not in self.view.manifests or job.submitted.route is not None:
            return []
        if job.asked_at is not None and now - job.asked_at < _ASK_SECONDS:
            return []
        job.asked_at = now
        return [self._plan_request(model)]

    def _plan_request(self, model: str) -> Publish:
        known = self.view.assignments.get((model, self._origin))
        epoch = known.epoch if known is not None else (0, 0)
        request = PlanRequest(self.requester, model, self._origin, *epoch)
        return Publish(self._topics.build("request", verb="plan"), encode_json(request), qos=1, expiry=30.0)

    def _reply(self, event: MessageReceived, now: float) -> list[Action]:
        try:
            reply, section = decode_reply(event.payload)
        except (DecodeError, VersionError) as error:
            return self._refusals.log("reply", error, now)
        job = self._jobs.find(reply.job)
        if job is None or reply.requester != self.requester:
            return []  # a later result of a job that has ended: the first one won
        # Who cannot read a message does not know its attempt.
        unread = reply.code in _UNREADABLE_CODES
        route = None if unread else self._jobs.close_attempt(job, reply.attempt)
        if reply.code is None:
            overtaken: list[Action] = []
            if reply.attempt and (job.hedges or reply.attempt == job.overtakes):
                self._jobs.pay_hedge_back()
            if reply.attempt and job.hedges:
                # What hangs answers neither with an error nor by going offline.
                hanging = job.open_devices - (route.devices if route is not None else {reply.device})
                overtaken = [
                    log for device in sorted(hanging) for log in self._job_routes.failed(device, now)
                ]
            if route is not None:
                sent = job.last_sent if reply.attempt else job.first_sent
                self._job_routes.answered(route, sent[0], now)
                self.hedging.answered(job, reply.attempt, route, now)
            ended = JobEnded(
                reply.job,
                job.submitted.model,
                now - job.began,
                section=section,
                route=route.route if route is not None else _route_of(reply.timings),
                timings=reply.timings,
                attempts=job.attempts,
                predicted=route.predicted if route is not None else None,
                digest=route.digest if route is not None else job.digest,
                epoch=job.epoch,
                alone=route is not None and route.alone,
            )
            return [*overtaken, *self._end(job, ended, now)]
        if route is None and not unread:
            return []  # of an attempt that was given up, or said twice (QoS 1)
        return self._refused(job, reply, route, now)

    def _refused(self, job: OpenJob, reply: Reply, route: ChosenRoute | None, now: float) -> list[Action]:
        code, text = reply.code or "", reply.text or reply.code or ""
        frame_of = job.stream
        if code == SupersededError.code and frame_of and self._frames.is_newest(frame_of, reply.job):
            # An older frame, on another way, reached that device later: devices know no other order.
            job.error = code, text
            return [self._timer(job)] if job.open else self._retry(job, now)
        if code in _UNREADABLE_CODES:
            self._jobs.close_attempts_over(job, reply.device)
        job.error = (code, text)
        cannot_run = code in (RunError.code, ModelError.code)
        failed = self._job_routes.failed(reply.device, now) if cannot_run else []
        job.avoid.add(self._to_avoid(job, reply, route))
        job.failures += cannot_run or code == NoRouteError.code
        if job.open:  # another attempt is still under way
            if job.failures < MAX_FAILURES:
                return failed
            job.hedge_at = max(now, self.hedging.lost_at(job))
            return [*failed, self._timer(job)]
        if code in FINAL_CODES or job.failures >= MAX_FAILURES:
            return [*failed, *self._end_error(job, code, text, now)]
        return [*failed, *self._retry(job, now)]

    @staticmethod
    def _to_avoid(job: OpenJob, reply: Reply, route: ChosenRoute | None) -> str:
        """The device that answered; or, at first, the one that it could not pass the job on to."""
        if reply.code == NoRouteError.code and route is not None and not job.failures:
            following = (hop.device for hop in route.route if hop.stop > reply.position)
            return next(following, reply.device)
        return reply.device

    def _retry(self, job: OpenJob, now: float) -> list[Action]:
        """No attempt is under way any more: send another, wait a little, or give up."""
        job.hedge_at = None
        if job.attempts >= MAX_ATTEMPTS or job.submitted.route is not None:
            return self._given_up(job, now)
        if job.error is not None and job.error[0] == BusyError.code:
            choice = self._choice(job, now)
            if choice is not None and (job.failures or not self._job_routes.overruns(job, choice, now)):
                return self._send(job, now)
            if not job.failures:
                # Wherever it could run, seconds of work wait: to ask again would be more load and no help.
                return self._given_up(job, now)
            job.avoid.clear()
            job.retry_at = now + backoff(job, now)
            return [self._timer(job)]
        return self._send(job, now)

    def _due(self, job: OpenJob, now: float) -> list[Action]:
        if now >= job.deadline:
            why = job.error[1] if job.error is not None else "no answer"
            text = f"{job.submitted.model} had no result by its deadline: {why}"
            return self._end_error(job, DeadlineError.code, text, now)
        if self._connected_at is not None:
            gone = self._devices_gone(sorted(job.open_devices), now)
            if gone:
                return [*gone, self._timer(job)] if job.submitted.job in self._jobs else gone
        if job.retry_at is not None and now >= job.retry_at:
            return self._send(job, now)
        if job.hedge_at is not None and now >= job.hedge_at:
            return self._hedge(job, now)
        return [self._timer(job)]

    def _hedge(self, job: OpenJob, now: float) -> list[Action]:
        """Send the job a second time, unless that would only make a slow mesh slower."""
        if self._connected_at is None:
            job.hedge_at = None  # all is sent again when the broker is back
            return [self._timer(job)]
        if job.failures >= MAX_FAILURES:
            # Nothing is sent any more, and what is under way is lost: the error is known already.
            return self._given_up(job, now)
        fresh = self._job_routes.fresh(job, now)
        if not fresh:
            if self._is_replaced(job) and self.hedging.seems_lost(job, now):
                return self._replaced(job, now)
            job.avoid.clear()  # what is under way may be lost, and what others answered be over by then
            job.hedge_at = now + _ASK_SECONDS
            return [*self._ask_for_plan(job, now), self._timer(job)]
        return self._send(job, now) if self.hedging.is_due(job, fresh, now) else [self._timer(job)]

    def _timer(self, job: OpenJob) -> Action:
        return SetTimer(f"job:{job.submitted.job}", job.next_look)

    def _is_replaced(self, job: OpenJob) -> bool:
        manifest = self.view.manifests.get(job.submitted.model)
        return manifest is not None and not job.fits(manifest.digest)

    def _replaced(self, job: OpenJob, now: float) -> list[Action]:
        text = f"{job.submitted.model} got other content while the job was under way: submit it again"
        return self._end_error(job, ReplacedError.code, text, now)

    def _given_up(self, job: OpenJob, now: float) -> list[Action]:
        return self._end_error(job, *(job.error or (NoRouteError.code, "no route")), now)

    def _end_error(self, job: OpenJob, code: str, text: str, now: float) -> list[Action]:
        ended = JobEnded(
            job.submitted.job,
            job.submitted.model,
            now - job.began,
            code,
            text,
            attempts=job.attempts,
            digest=job.digest,
            epoch=job.epoch,
        )
        return self._end(job, ended, now)

    def _end(self, job: OpenJob, ended: JobEnded, now: float) -> list[Action]:
        self._jobs.remove(ended.job)
        # What somebody waits for comes first.
        return [ended, CancelTimer(f"job:{ended.job}"), *self._frame_ended(job, now)]


def _route_of(timings: tuple[Timing, ...]) -> tuple[Hop, ...]:
    return tuple(Hop(timing.device, timing.stop) for timing in timings)
