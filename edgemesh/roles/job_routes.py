"""Which of the known routes a job takes, by what its requester has seen of jobs over their devices."""

from __future__ import annotations

from edgemesh.roles.actions import Action, Log
from edgemesh.roles.answer_pace import AnswerPace
from edgemesh.roles.bench import Bench
from edgemesh.roles.open_jobs import OpenJob, OpenJobs
from edgemesh.roles.routes import ChosenRoute, RouteChooser

_SHARE_OF_DEADLINE = 0.75
"""Of the time that is left a job may be expected to wait: answers do not come evenly."""


class JobRoutes:
    """Routes for one requester's jobs."""

    def __init__(self, known: RouteChooser, jobs: OpenJobs, here: str | None) -> None:
        """``here`` is the device that the requester is, if it is one: to itself it needs no link."""
        self._known = known
        self._jobs = jobs
        self._here = here
        self._bench = Bench()
        self._pace = AnswerPace()
        self._heard = float("-inf")
        """When a job was sent last that the broker has acknowledged since: messages and acknowledgements come
        in one line, so what was answered until then has arrived."""

    def fresh(self, job: OpenJob, now: float) -> list[ChosenRoute]:
        """Routes over devices that the job has not failed on, best first."""
        routes = [r for r in self._known.routes(job.submitted.model, now) if job.fits(r.digest)]
        if job.avoid:
            routes = [choice for choice in routes if not choice.devices & job.avoid]
        if self._pace:
            routes = sorted(routes, key=lambda choice: self.overruns(job, choice, now))
        if self._bench:
            routes = sorted(routes, key=lambda choice: self._bench.sits_out(choice.devices, now))
        return routes

    def untried(self, job: OpenJob, fresh: list[ChosenRoute]) -> ChosenRoute | None:
        """The best route that no attempt is under way on, if possible over none of their devices."""
        if not job.open:
            return fresh[0] if fresh else None
        tried = {route.route for route in job.open.values()}
        used = job.open_devices - {self._here}
        untried = [choice for choice in fresh if choice.route not in tried]
        apart = [choice for choice in untried if not choice.devices & used]
        return next(iter([*apart, *untried]), None)

    def overruns(self, job: OpenJob, choice: ChosenRoute, now: float) -> bool:
        """Whether too much is under way over the route for one more job to be answered by its deadline.

        A frame of a stream never does: it replaces one that waits.
        """
        if job.submitted.stream is not None:
            return False
        heard = now if self.is_here(choice) else self._heard
        expected = self._pace.seconds(choice.lanes, self._jobs.count_in, now, heard)
        return expected > _SHARE_OF_DEADLINE * (job.deadline - now)

    def queued(self, choice: ChosenRoute, now: float) -> float:
        """Seconds of work that wait at the fullest device of a route, that of other requesters included."""
        return self._known.queued(choice.devices, now)

    def overrun_all(self, job: OpenJob, now: float) -> bool:
        """Whether even the best route has too much under way."""
        if not self._pace:
            return False
        fresh = self.fresh(job, now)
        return bool(fresh) and self.overruns(job, fresh[0], now)

    def stays_here(self, job: OpenJob) -> bool:
        """Whether an attempt under way needs nobody but this device itself."""
        return any(self.is_here(route) for route in job.open.values())

    def is_here(self, choice: ChosenRoute) -> bool:
        """Whether a route needs nobody but this device itself."""
        return choice.devices == {self._here}

    def leave_only_here(self, job: OpenJob) -> None:
        """What was under way elsewhere may be lost, or its answer: the connection was."""
        self._jobs.close_attempts(job, lambda route: not self.is_here(route))

    # --- what is seen of jobs ----------------------------------------------------------------------------

    def sent(self, choice: ChosenRoute, now: float) -> None:
        """A job is about to be sent."""
        self._pace.sent(choice.lanes, self._jobs.count_in, now)

    def acknowledged(self, sent: float) -> None:
        """The broker has a job that was ``sent`` then."""
        self._heard = max(self._heard, sent)

    def answered(self, choice: ChosenRoute, sent: float, now: float) -> None:
        """The result of a job that was ``sent`` came over the route."""
        self._bench.succeeded(choice.devices)
        self._pace.answered(choice.lanes, self._jobs.count_in, now, sent)

    def failed(self, device: str, now: float) -> list[Action]:
        """A device failed a job: repeatedly, and others come first for a while."""
        seconds = self._bench.failed(device, now)
        if seconds is None:
            return []
        return [Log("info", f"{device} failed several jobs in a row: avoided for {seconds:.0f} s", device)]

    def interrupted(self) -> None:
        """No answers could come for a while, as the broker was away."""
        self._pace.interrupted()
