"""What the decision node believes of every device's speed and link, from profiles, jobs and transfers."""

from __future__ import annotations

import math
from collections.abc import Collection

from edgemesh.errors import DecodeError
from edgemesh.planning.link_estimate import LinkEstimate, LinkEstimator, SampleKind, receiver_share
from edgemesh.planning.queue_estimate import QueueEstimates
from edgemesh.planning.rate_estimate import EventRate
from edgemesh.planning.slowdown_estimate import OthersLoad, expected_slowdown, is_step
from edgemesh.planning.unexplained_estimate import UnexplainedTime
from edgemesh.planning.unit_time_estimate import MeasuredRun, UnitTimeEstimator, UnitTimes
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import JobReport, LinkReport, Transfer
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.roles.events import MessageReceived
from edgemesh.roles.prediction_error import PredictionErrors, took_own_route

_PARTICIPANTS = 8192
_CONTENTS = 2
"""Of one device under one model's name: the last ones, as an old plan may still be in force."""
_READ = 256
"""Transfers, runs and jobs that are taken from one report."""


class MeshEstimates:
    """Feed it messages, ask it at any time; absurd samples are ignored by the estimators."""

    def __init__(self) -> None:
        self.outcomes = PredictionErrors()
        """Tell it of every assignment that is published."""
        self._links: dict[str, LinkEstimator] = {}
        self._times: dict[tuple[str, str], UnitTimeEstimator] = {}
        self._profiles: dict[tuple[str, str], Profile] = {}
        self._contents: dict[tuple[str, str], tuple[str, ...]] = {}
        """Digests that a device has told of under a model's name."""
        self._queues = QueueEstimates()
        self._load: dict[str, OthersLoad] = {}
        self._slowdown: dict[str, float] = {}
        self._unexplained: dict[str, UnexplainedTime] = {}
        """By digest."""
        self._rates: dict[tuple[str, str], EventRate] = {}
        self._steps = 0

    @property
    def steps(self) -> int:
        """Grows with each step of a link or of a device's speed that was recognised.

        What was believed before a step is forgotten, so a plan made before it is worth making anew at once.
        """
        return self._steps

    def learn(self, event: MessageReceived, now: float) -> bool:
        """Take in a profile or link report; True when it was one. Raises DecodeError."""
        kind, names = event.topic.kind, event.topic.names
        if kind == "profile":
            self._learn_profile(names["device"], names["model"], event)
        elif kind == "link":
            self._learn_report(names["requester"], decode_json(LinkReport, event.payload), now)
        else:
            return False
        return True

    def observe_queue(self, device: str, seconds: float) -> None:
        """Predicted waiting time from a heartbeat."""
        self._queues.heard(device, seconds)

    def observe_resources(self, device: str, resources: Resources) -> None:
        """A reading of the device's machine; one that does not tell our own share says nothing of others'."""
        if device not in self._load and len(self._load) >= _PARTICIPANTS:
            return
        load = self._load.setdefault(device, OthersLoad())
        if resources.own is not None:
            load.observe(resources.cpu, resources.own)
        before, after = self.slowdown(device), expected_slowdown(load.share, resources.throttled)
        self._slowdown[device] = after
        self._steps += is_step(before, after)

    def queue(self, device: str, now: float) -> float:
        """Seconds that a job is likely to wait on the device."""
        return self._queues.seconds(device, now)

    def link(self, participant: str, now: float) -> LinkEstimate:
        """The link of a device or gateway; the default where nothing was measured."""
        return self._links.get(participant, _UNMEASURED).estimate(now)

    def has_profile(self, device: str, digest: str) -> bool:
        """Whether the device has measured this content."""
        return (device, digest) in self._times

    def unit_times(self, device: str, digest: str, units: int, now: float) -> UnitTimes | None:
        """Times of the device for the content; None where it has not measured it, or another one of it."""
        estimator = self._times.get((device, digest))
        if estimator is None or len(self._profiles[device, digest].seconds) != units:
            return None
        return estimator.estimate(now, self.slowdown(device), self.disbelief(device, digest, now))

    def slowdown(self, device: str) -> float:
        """How many times slower the load of others and throttling are expected to make it, at least 1."""
        return self._slowdown.get(device, 1.0)

    def disbelief(self, device: str, digest: str, now: float) -> float:
        """How many times longer its runs take than it says, by the clocks of requesters; 1 when it is
        honest."""
        unexplained = self._unexplained.get(digest)
        return unexplained.factor(device, now) if unexplained is not None else 1.0

    def demand(self, model: str, origin: str, now: float) -> float:
        """Jobs that end per second, by the reports of their requesters."""
        rate = self._rates.get((model, origin))
        return rate.per_second(now) if rate is not None else 0.0

    def age(self, devices: frozenset[str], now: float) -> float:
        """Seconds since the stalest of the devices' links was measured; 0 when none ever was."""
        ages = [age for d in devices if math.isfinite(age := self.link(d, now).age)]
        return max(ages, default=0.0)

    # --- profiles and reports ----------------------------------------------------------------------------

    def _learn_profile(self, device: str, model: str, event: MessageReceived) -> None:
        name = device, model
        before = self._contents.pop(name, ())
        if not event.payload:
            self._forget_contents(device, before)
            return
        profile = decode_json(Profile, event.payload)
        if not before and len(self._contents) >= _PARTICIPANTS:
            raise DecodeError(f"more than {_PARTICIPANTS} profiles; that of {device} is not taken in")
        kept = (*(digest for digest in before if digest != profile.digest), profile.digest)
        self._contents[name] = kept[-_CONTENTS:]
        self._forget_contents(device, kept[:-_CONTENTS])
        key = device, profile.digest
        if self._profiles.get(key) != profile:
            self._profiles[key] = profile
            runs = [MeasuredRun(r.start, r.stop, r.seconds) for r in profile.runs]
            self._times[key] = UnitTimeEstimator(profile.seconds, runs)

    def _forget_contents(self, device: str, digests: Collection[str]) -> None:
        """What it does not tell of any more, under no name."""
        for digest in digests:
            if not any(name[0] == device and digest in told for name, told in self._contents.items()):
                self._profiles.pop((device, digest), None)
                self._times.pop((device, digest), None)

    def _learn_report(self, participant: str, report: LinkReport, now: float) -> None:
        for transfer in report.transfers[:_READ]:
            self._observe(participant, transfer, now)
        for run in report.runs[:_READ]:
            estimator = self._times.get((participant, run.digest))
            if estimator is not None:
                before = estimator.steps
                measured = MeasuredRun(run.start, run.stop, run.seconds)
                estimator.observe(measured, now, self.slowdown(participant))
                self._steps += estimator.steps - before
        jobs = report.jobs[:_READ]
        for job in jobs:
            self.outcomes.observe(job)
            for timing in job.timings:
                self._queues.waited(timing.device, timing.queue, now)
            self._charge_unexplained(participant, job, now)
            # Jobs that are not listed were of the same models as those that are.
            self._count(job, 1.0 + report.more_jobs / len(jobs), now)

    def _observe(self, sender: str, transfer: Transfer, now: float) -> None:
        if transfer.kind == "acknowledged":
            self._sample(sender, "up", transfer.nbytes, transfer.seconds, now)
        elif transfer.kind == "echoed":
            self._sample(sender, "echo", transfer.nbytes, transfer.seconds, now)
        elif transfer.kind == "tail":
            self._sample(sender, "tail", transfer.nbytes, transfer.seconds, now)
        elif transfer.peer is None or not self._knows(transfer.peer):
            return
        elif transfer.after_receipt is not None:
            self._sample(transfer.peer, "tail", transfer.nbytes, transfer.after_receipt, now)
        else:
            link = self.link(sender, now).link
            share = receiver_share(transfer.nbytes, transfer.seconds, link)
            self._sample(transfer.peer, "down", transfer.nbytes, share, now)

    def _knows(self, participant: str) -> bool:
        """Whether it has spoken itself: others can make up any name."""
        return participant in self._links or self._queues.knows(participant)

    def _sample(self, participant: str, kind: SampleKind, nbytes: int, seconds: float, now: float) -> None:
        estimator = self._links.pop(participant, None)
        if estimator is None:
            estimator = LinkEstimator()
            if len(self._links) >= _PARTICIPANTS:
                # Clients come and go under new names: they make room before any device does.
                strangers = (name for name in self._links if not self._queues.knows(name))
                del self._links[next(strangers, next(iter(self._links)))]
        self._links[participant] = estimator  # whoever was measured last comes last
        before = estimator.steps
        estimator.observe(kind, nbytes, seconds, now)
        self._steps += estimator.steps - before

    def _count(self, job: JobReport, jobs: float, now: float) -> None:
        key = job.model, job.origin
        if key in self._rates or len(self._rates) < _PARTICIPANTS:
            self._rates.setdefault(key, EventRate(now)).add(jobs, now)

    def _charge_unexplained(self, requester: str, job: JobReport, now: float) -> None:
        """Compare what devices say of a job with what its requester's clock saw after the first had it."""
        if job.arrived is None or job.code is not None or job.attempts > 1 or not job.timings:
            return
        assignment = self.outcomes.assignment_of(job)
        if assignment is None or not took_own_route(job, assignment):
            return
        told = {timing.device: 0.0 for timing in job.timings if timing.device != requester}
        for timing in job.timings:
            if timing.device in told:
                told[timing.device] += timing.run
        accounted = sum(timing.queue + timing.run + timing.code for timing in job.timings)
        after = job.seconds - job.arrived
        crossings = self._later_crossings(assignment, now)
        if job.digest in self._unexplained or len(self._unexplained) < _PARTICIPANTS:
            unexplained = self._unexplained.setdefault(job.digest, UnexplainedTime())
            unexplained.observe(told, after, accounted, crossings, now)

    def _later_crossings(self, assignment: Assignment, now: float) -> float:
        """Predicted seconds on the way after the first device has its input.

        What the receipt took to come back is not taken off: that much is left to the device.
        """
        first, *later = assignment.hops
        sender = self.link(first.device, now).link
        seconds = assignment.return_seconds
        for hop in later:
            receiver = self.link(hop.device, now).link
            present = sender.latency_up + hop.nbytes / sender.rate_up
            present += receiver.latency_down + hop.nbytes / receiver.rate_down
            # As was promised, or as it would be now: a link that has changed is nobody's lie.
            seconds += max(hop.transfer, present)
            sender = receiver
        return seconds


_UNMEASURED = LinkEstimator()
