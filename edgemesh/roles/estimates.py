"""What the decision node believes of every device's speed and link, from profiles, jobs and transfers."""

from __future__ import annotations

import math

from edgemesh.errors import DecodeError
from edgemesh.planning.link_estimate import LinkEstimate, LinkEstimator, receiver_share
from edgemesh.planning.unit_time_estimate import MeasuredRun, UnitTimeEstimator, UnitTimes
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import LinkReport, Transfer
from edgemesh.protocol.presence import Profile
from edgemesh.roles.events import MessageReceived

_PARTICIPANTS = 8192
_QUEUE_SMOOTHING = 0.5
_QUEUE_FLOOR = 0.02
"""Seconds of waiting that are noise: a job under way when the heartbeat was made."""


class MeshEstimates:
    """Feed it messages, ask it at any time; absurd samples are ignored by the estimators."""

    def __init__(self) -> None:
        self._links: dict[str, LinkEstimator] = {}
        self._times: dict[tuple[str, str], UnitTimeEstimator] = {}
        self._profiles: dict[tuple[str, str], Profile] = {}
        self._queues: dict[str, float] = {}

    def learn(self, event: MessageReceived, now: float) -> bool:
        """Take in a profile or link report; True when it was one. Raises DecodeError."""
        kind, names = event.topic.kind, event.topic.names
        if kind == "profile":
            self._learn_profile(names["device"], event)
        elif kind == "link":
            self._learn_link(names["requester"], decode_json(LinkReport, event.payload), now)
        else:
            return False
        return True

    def observe_queue(self, device: str, seconds: float) -> None:
        """Predicted waiting time from a heartbeat, smoothed."""
        known = self._queues.get(device, 0.0)
        self._queues[device] = known + _QUEUE_SMOOTHING * (min(seconds, 60.0) - known)

    def queue(self, device: str) -> float:
        """Seconds that a job is likely to wait on the device."""
        seconds = self._queues.get(device, 0.0)
        return seconds if seconds >= _QUEUE_FLOOR else 0.0

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
        return estimator.estimate(now)

    def _learn_profile(self, device: str, event: MessageReceived) -> None:
        if not event.payload:
            return
        profile = decode_json(Profile, event.payload)
        key = device, profile.digest
        if self._profiles.get(key) == profile:
            return
        if key not in self._profiles and len(self._profiles) >= _PARTICIPANTS:
            raise DecodeError(f"more than {_PARTICIPANTS} profiles; that of {device} is not taken in")
        self._profiles[key] = profile
        runs = [MeasuredRun(r.start, r.stop, r.seconds) for r in profile.runs]
        self._times[key] = UnitTimeEstimator(profile.seconds, runs)

    def _learn_link(self, participant: str, report: LinkReport, now: float) -> None:
        for transfer in report.transfers[:256]:
            self._observe(participant, transfer, now)
        for run in report.runs[:256]:
            estimator = self._times.get((participant, run.digest))
            if estimator is not None:
                estimator.observe(MeasuredRun(run.start, run.stop, run.seconds), now)

    def _observe(self, sender: str, transfer: Transfer, now: float) -> None:
        if transfer.kind == "acknowledged":
            self._estimator(sender).observe("up", transfer.nbytes, transfer.seconds, now)
        elif transfer.kind == "echoed":
            self._estimator(sender).observe("echo", transfer.nbytes, transfer.seconds, now)
        elif transfer.kind == "tail":
            self._estimator(sender).observe("tail", transfer.nbytes, transfer.seconds, now)
        elif transfer.peer is not None:
            link = self.link(sender, now).link
            share = receiver_share(transfer.nbytes, transfer.seconds, link)
            self._estimator(transfer.peer).observe("down", transfer.nbytes, share, now)

    def _estimator(self, participant: str) -> LinkEstimator:
        if participant not in self._links and len(self._links) >= _PARTICIPANTS:
            raise DecodeError(f"more than {_PARTICIPANTS} links; that of {participant} is not taken in")
        return self._links.setdefault(participant, LinkEstimator())

    def age(self, devices: frozenset[str], now: float) -> float:
        """Seconds since the stalest of the devices' links was measured; 0 when none ever was."""
        ages = [age for d in devices if math.isfinite(age := self.link(d, now).age)]
        return max(ages, default=0.0)


_UNMEASURED = LinkEstimator()
