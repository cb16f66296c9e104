"""Hedging: a job that outlives its prediction is sent again, though nothing is known to have failed.

A silent death has no Will for one and a half keep-alives, a message that a broker dropped has none at all.
But slow is not dead: copies of what is only late would make a slow mesh slower.
"""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.roles.job_routes import JobRoutes
from edgemesh.roles.lateness import Lateness
from edgemesh.roles.open_jobs import OpenJob, OpenJobs
from edgemesh.roles.routes import ChosenRoute

_HEDGES = 2
_HEDGE_FACTOR = 2.0
_HEDGE_SECONDS = 0.3
"""A job is sent again when it outlives its prediction by this factor and this many seconds."""
_HEDGE_PATIENCE = 0.25
"""A copy that takes long itself is made after this share of its time: a job that is only late is home by
then, and the copy would keep a slow device busy for nothing."""
_LOOK_SECONDS = 2.0
"""A job that may take long because of others is looked at after so long, and each time after twice as long:
they may be home much earlier than they were predicted."""
_MUCH = 0.25
"""Of the time that a job has left, that what waits at a device counts."""
_OVERTAKE_FACTOR = 1.5
"""A new plan overtakes a fallback that would take this much longer still: the loss has cost time already."""
_SILENT_SECONDS, _SILENT_FACTOR = 8.0, 4.0
"""A job of which all copies seem to come to nothing is sent again after so long, and so many times as long as
it should take, if it has time: a broker that came back throws away what comes before the devices have
subscribed again. Each time it waits twice as long, but never beyond half of what is left."""


class Hedging:
    """When one requester's jobs are sent again. What it decides about a job is in the job."""

    def __init__(self, jobs: OpenJobs, routes: JobRoutes) -> None:
        self.leaving: Callable[[str], bool] = lambda job: False
        """Whether an activation of the job has not reached the broker yet, where the owner can tell."""
        self._jobs = jobs
        self._routes = routes
        self._lateness = Lateness()

    def sent(self, job: OpenJob, number: int, choice: ChosenRoute, now: float) -> None:
        """Attempt ``number`` goes out over ``choice``: from when on it is late."""
        job.last = choice
        job.expected_at = now + self._expected(choice)
        job.last_sent = now, self._promised(choice)
        if number == 0:
            job.first_sent = job.last_sent
        if job.submitted.route is not None:
            return
        if job.hedges < _HEDGES:
            look_at = now + max(_LOOK_SECONDS, _late(self._alone(choice)))
            job.hedge_at = min(self._overdue_at(job, choice, now), look_at)
            job.halfway = False
        elif job.deadline - now > _SILENT_SECONDS:
            job.hedge_at = self._again_at(job, now)

    def answered(self, job: OpenJob, attempt: int, choice: ChosenRoute, now: float) -> None:
        """The job's result came over ``choice``."""
        if attempt == 0:
            at, predicted = job.first_sent
            self._lateness.answered(choice, now - at, predicted)

    def is_due(self, job: OpenJob, fresh: list[ChosenRoute], now: float) -> bool:
        """Whether a late job is to be sent again now, over one of ``fresh``.

        Where not, ``hedge_at`` says when to look next.
        """
        job.hedge_at = None
        other = self._routes.untried(job, fresh)
        if job.hedges >= _HEDGES:
            job.silences += 1
            return other is not None or not self._routes.stays_here(job)
        if job.last is not None and now < (overdue := self._overdue_at(job, job.last, now)):
            job.hedge_at = min(overdue, now + max(_HEDGE_SECONDS, now - job.last_sent[0]))
            return False
        crowded = self._crowded_until(job, now)
        if now < crowded:
            # The device may fall silent meanwhile, and what it said of its queue count no longer.
            look_at = min((now + job.deadline) / 2.0, now + _LOOK_SECONDS)
            job.hedge_at = min(crowded, max(look_at, now + _HEDGE_SECONDS))
            return False
        local = other is not None and self._routes.is_here(other)
        if other is not None:
            due = min(job.half_time, job.first_sent[0] + _HEDGE_PATIENCE * other.predicted)
            if now < due:
                job.hedge_at = due
                return False
        if now < job.half_time and not local and self.leaving(job.submitted.job):
            # Its link is slow or dead, and no device has failed yet: a second activation would wait behind
            # the first and make both later. The device gets its time once the activation is there.
            expected = job.last.predicted if job.last is not None else 0.0
            job.hedge_at = min(job.half_time, now + max(_HEDGE_SECONDS, expected))
            return False
        if other is None and not job.halfway:
            # Nowhere else to go. A broker over its limits drops a message and tells nobody, so the same route
            # is tried once more in time; what never left this device cannot be lost.
            job.halfway = True
            if not self._routes.stays_here(job):
                job.hedge_at = self._again_at(job, now)
            return False
        enough = min(job.half_time, job.last_sent[0] + self._patience(job))
        if now < enough and not self._jobs.take_hedge():
            # Ever less often: hundreds of late jobs must not wake up three times a second each. Halfway to
            # its deadline, or when it seems lost, a job is sent again whatever it costs.
            job.hedge_at = min(enough, now + max(_HEDGE_SECONDS, (now - job.began) / 2.0))
            return False
        job.hedges = _HEDGES if job.halfway else job.hedges + 1
        return True

    def seems_lost(self, job: OpenJob, now: float) -> bool:
        """Whether all that was sent of a job is lost rather than late."""
        return now >= self._again_at(job, job.last_sent[0])

    def lost_at(self, job: OpenJob) -> float:
        """When all that is under way of a job is lost rather than late, however much time it has."""
        longest = max(map(self._expected, job.open.values()), default=0.0)
        return float(job.last_sent[0] + max(_SILENT_SECONDS, _SILENT_FACTOR * longest))

    def overtakes(self, job: OpenJob, now: float) -> bool:
        """Whether the best untried route is home much earlier than the fallback that the job is on.

        A fallback was chosen before the loss, perhaps while a better device was away.
        """
        choice = self._routes.untried(job, self._routes.fresh(job, now))
        return choice is not None and _OVERTAKE_FACTOR * self._expected(choice) <= job.expected_at - now

    def _promised(self, choice: ChosenRoute) -> float:
        """Predicted seconds of ``choice``: all that is under way over it may have to be done first."""
        return choice.predicted * max(1, *(self._jobs.count_over(device) for device in choice.devices))

    def _expected(self, choice: ChosenRoute) -> float:
        """Seconds that ``choice`` may take where the job before it over that route was late."""
        return self._promised(choice) * self._lateness.factor(choice)

    def _alone(self, choice: ChosenRoute) -> float:
        """The same with nothing else under way."""
        return choice.predicted * self._lateness.factor(choice)

    def _overdue_at(self, job: OpenJob, choice: ChosenRoute, now: float) -> float:
        """When a job that was sent last over ``choice`` has outlived its prediction: earlier, when others
        that were under way are home.

        Halfway to the deadline no margin and no earlier lateness counts any more. Where other jobs may take
        longer than that, it is the time to look how many of them are left.
        """
        sent = job.last_sent[0]
        at = sent + _late(min(job.expected_at - sent, self._expected(choice)))
        middle = (sent + job.deadline) / 2.0
        look = min(self._crowded_until(job, now), middle)
        alone = sent + choice.predicted + _HEDGE_SECONDS
        if alone >= job.deadline:
            alone = middle  # by that prediction it is lost anyway, and predictions err
        return min(at, max(job.half_time, alone, look))

    def _again_at(self, job: OpenJob, now: float) -> float:
        """When what is sent ``now`` is taken for lost; halfway to the deadline at last."""
        return min(now + self._patience(job), (now + job.deadline) / 2.0)

    def _patience(self, job: OpenJob) -> float:
        """Seconds after which what was sent over the last route is lost rather than late."""
        expected = self._expected(job.last) if job.last is not None else 0.0
        return float(max(_SILENT_SECONDS * 2**job.silences, _SILENT_FACTOR * expected))

    def _crowded_until(self, job: OpenJob, now: float) -> float:
        """Until when it may wait for those that were under way before it and still are.

        Those of other requesters are in what its devices say of their queues, where that is much of its time:
        else a copy is cheap, and finds a silent death sooner. Not beyond three quarters of its time: what
        would be home later than that may as well be lost.
        """
        if job.last is None or job.attempts - 1 not in job.open:
            return 0.0  # those before it were its reason to wait, and where they are it was refused
        at, promised = job.last_sent
        ours = min(promised, self._promised(job.last))
        others = self._routes.queued(job.last, now)
        if others < _MUCH * (job.deadline - at):
            others = 0.0
        home = at + max(ours, others) + _HEDGE_SECONDS
        return min(home, (job.half_time + job.deadline) / 2.0)


def _late(expected: float) -> float:
    """Seconds after which a job is late that was expected to take so many."""
    return max(_HEDGE_FACTOR * expected, expected + _HEDGE_SECONDS)
