"""Open jobs: what a requester keeps of each until it ends, and over which devices its attempts are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edgemesh.roles.events import JobSubmitted
from edgemesh.roles.frames import Stream
from edgemesh.roles.routes import ChosenRoute, Lane

_K = TypeVar("_K", bound=Hashable)
_HEDGES_SAVED = 4.0
_HEDGE_SHARE = 1.0 / 8.0
"""Hedges that each job earns, and how many may be saved: when the whole mesh is slow, more work only makes it
slower. A hedge that answered first is paid back, so that a device that hangs does not use them up."""


@dataclass
class OpenJob:
    """One job; the input is in ``submitted``."""

    submitted: JobSubmitted
    began: float
    deadline: float
    attempts: int = 0
    hedges: int = 0
    failures: int = 0
    """Runs that failed."""
    hedge_at: float | None = None
    halfway: bool = False
    """Whether ``hedge_at`` stands for sending again on the same route, for want of another."""
    silences: int = 0
    """How often on this connection it was sent again as nothing was heard of it."""
    retry_at: float | None = None
    expected_at: float = 0.0
    """When the last attempt would be home if all went as predicted."""
    first_sent: tuple[float, float] = (0.0, 0.0)
    """When the first attempt was sent, and what it and all that was under way were predicted to take."""
    last_sent: tuple[float, float] = (0.0, 0.0)
    """The same of the last attempt."""
    fell_back: bool = False
    """Whether the last attempt was sent because a device of the one before was lost, or the broker was."""
    held: bool = False
    """Whether it is a frame that waits for an earlier one of its stream to end."""
    overtakes: int | None = None
    """The attempt that was sent after a fallback that nothing is wrong with but its speed."""
    open: dict[int, ChosenRoute] = field(default_factory=dict)
    """Attempts under way, by their number."""
    last: ChosenRoute | None = None
    """The route of the last attempt, under way or not."""
    avoid: set[str] = field(default_factory=set)
    """Devices that answered with an error."""
    error: tuple[str, str] | None = None
    """Code and text of the last error: what is said when there is no time left."""
    asked_at: float | None = None

    @property
    def stream(self) -> Stream | None:
        """Model and stream of a frame; None for what is no frame."""
        name = self.submitted.stream
        return None if name is None else (self.submitted.model, name)

    def fits(self, digest: str) -> bool:
        """Whether the input was prepared for this content, as far as that is known."""
        return self.submitted.digest is None or self.submitted.digest == digest

    @property
    def digest(self) -> str:
        """Of the model's content as it was sent last; empty if it never was."""
        return self.last.digest if self.last is not None else ""

    @property
    def epoch(self) -> tuple[int, int]:
        """Of the assignment whose route was tried last; zeros where that came from none."""
        return self.last.epoch if self.last is not None else (0, 0)

    def sent_at(self, attempt: int) -> float | None:
        """When an attempt was sent; None where that is not known any more."""
        if attempt == 0 and self.attempts:
            return self.first_sent[0]
        return self.last_sent[0] if attempt and attempt == self.attempts - 1 else None

    @property
    def half_time(self) -> float:
        """Halfway to the deadline."""
        return (self.began + self.deadline) / 2.0

    @property
    def next_look(self) -> float:
        """When it needs attention again, whatever happens until then."""
        at = self.deadline
        if self.hedge_at is not None and self.hedge_at < at:
            at = self.hedge_at
        return self.retry_at if self.retry_at is not None and self.retry_at < at else at

    @property
    def open_devices(self) -> set[str]:
        """Devices of all attempts under way."""
        return {device for route in self.open.values() for device in route.devices}


class _Attempts(Generic[_K]):
    """Which jobs have attempts under way over what, in the order of their first."""

    def __init__(self) -> None:
        self._counts: dict[_K, dict[str, int]] = {}
        """What to its jobs, each with the number of its attempts."""

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[_K]:
        """What any attempt is under way over."""
        return iter(self._counts)

    def jobs(self, key: _K) -> Collection[str]:
        """Those that have an attempt under way over ``key``."""
        return self._counts.get(key, {})

    def add(self, keys: Iterable[_K], job: str) -> None:
        """An attempt of ``job`` is sent."""
        for key in keys:
            counts = self._counts.setdefault(key, {})
            counts[job] = counts.get(job, 0) + 1

    def remove(self, keys: Iterable[_K], job: str) -> None:
        """An attempt of ``job`` over ``keys`` is no longer under way."""
        for key in keys:
            counts = self._counts[key]
            counts[job] -= 1
            if not counts[job]:
                del counts[job]
            if not counts:
                del self._counts[key]


class OpenJobs:
    """Jobs by id. A lost device costs a look at the jobs over it, a living one costs nothing."""

    def __init__(self) -> None:
        self._jobs: dict[str, OpenJob] = {}
        self._over: _Attempts[str] = _Attempts()
        """By device."""
        self._in_lane: _Attempts[Lane] = _Attempts()
        self._hedges = _HEDGES_SAVED

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[OpenJob]:
        """All jobs as of now: they may end while the caller goes through them."""
        return iter(list(self._jobs.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def find(self, name: str) -> OpenJob | None:
        """The job, unless it has ended or never was."""
        return self._jobs.get(name)

    def add(self, job: OpenJob) -> None:
        """A job begins."""
        self._jobs[job.submitted.job] = job
        self._hedges = min(_HEDGES_SAVED, self._hedges + _HEDGE_SHARE)

    def remove(self, name: str) -> None:
        """A job ends."""
        job = self._jobs[name]
        for number in list(job.open):
            self.close_attempt(job, number)
        del self._jobs[name]

    def open_attempt(self, job: OpenJob, number: int, route: ChosenRoute) -> None:
        """An attempt is sent."""
        job.open[number] = route
        self._over.add(route.devices, job.submitted.job)
        self._in_lane.add(route.lanes, job.submitted.job)

    def close_attempt(self, job: OpenJob, number: int) -> ChosenRoute | None:
        """The route of an attempt that is no longer under way; None when it was not before either."""
        route = job.open.pop(number, None)
        if route is None:
            return None
        self._over.remove(route.devices, job.submitted.job)
        self._in_lane.remove(route.lanes, job.submitted.job)
        return route

    def close_attempts(self, job: OpenJob, lost: Callable[[ChosenRoute], bool]) -> None:
        """No attempt over a route that is ``lost`` is under way any more."""
        for number in [number for number, route in job.open.items() if lost(route)]:
            self.close_attempt(job, number)

    def close_attempts_over(self, job: OpenJob, device: str) -> None:
        """The same for routes over ``device``."""
        self.close_attempts(job, lambda route: device in route.devices)

    @property
    def devices(self) -> list[str]:
        """Devices that some attempt is under way over, in an order that every run of a schedule has."""
        return sorted(self._over)

    def over(self, device: str) -> list[OpenJob]:
        """Jobs with an attempt under way over ``device``."""
        return [self._jobs[name] for name in self._over.jobs(device)]

    def fallen_back(self, model: str) -> list[OpenJob]:
        """Jobs of ``model`` under way on a fallback, as a device of theirs was lost."""
        return [
            job
            for job in self._jobs.values()
            if job.fell_back and job.open and job.submitted.model == model and job.submitted.route is None
        ]

    def count_over(self, device: str) -> int:
        """How many jobs have an attempt under way over ``device``."""
        return len(self._over.jobs(device))

    def count_in(self, lane: Lane) -> int:
        """How many jobs have an attempt under way in a lane."""
        return len(self._in_lane.jobs(lane))

    def waiting(self, model: str) -> list[OpenJob]:
        """Jobs of ``model`` that wait for something to be sent on."""
        return [
            job
            for job in self._jobs.values()
            if not job.open and not job.held and job.submitted.model == model
        ]

    def take_hedge(self) -> bool:
        """Whether one more job may be hedged; it is counted."""
        if self._hedges < 1.0:
            return False
        self._hedges -= 1.0
        return True

    def pay_hedge_back(self) -> None:
        """A hedge was the first to answer."""
        self._hedges = min(_HEDGES_SAVED, self._hedges + 1.0)
