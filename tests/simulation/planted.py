"""Bugs to plant one at a time: what the fault simulator must find."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import pytest

from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json
from edgemesh.roles import kept_activations
from edgemesh.roles.actions import Acknowledge, CancelTimer, Publish, SetTimer, Subscribe
from edgemesh.roles.answer_pace import AnswerPace
from edgemesh.roles.answered import AnsweredRecord
from edgemesh.roles.broker_memory import BrokerMemory
from edgemesh.roles.client import ClientRole
from edgemesh.roles.decider import Decider
from edgemesh.roles.device import Device
from edgemesh.roles.events import Connected, ExecutorLost, JobCancelled, RunFailed, TimerFired
from edgemesh.roles.frames import Frames
from edgemesh.roles.gateway import Gateway
from edgemesh.roles.hedging import Hedging
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.open_jobs import OpenJob, OpenJobs
from edgemesh.roles.requester import Requester
from edgemesh.roles.routes import RouteChooser
from edgemesh.roles.standby import RoleTaken, Standby
from edgemesh.roles.worker import Worker
from edgemesh.simulation.connection import ModelledConnection
from tests.simulation import planted_ends as ends

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """How it is planted, and the first schedule that shows it."""

    plant: Callable[[Patch], None]
    found_by: int


def ack_before_result(patch: Patch) -> None:
    """A submission is acknowledged when it arrives."""
    submitted = Gateway._submitted

    def too_early(self: Any, event: Any, now: float) -> Any:
        actions = submitted(self, replace(event, acknowledgement=None), now)
        return [Acknowledge(event.acknowledgement), *actions] if event.acknowledgement else actions

    patch.setattr(Gateway, "_submitted", too_early)


def any_reply_will_do(patch: Patch) -> None:
    """A late reply of a job that has ended is taken for one that is open."""
    find = OpenJobs.find

    def some_job(self: Any, name: str) -> Any:
        return find(self, name) or next(iter(self), None)

    reply = Requester._reply

    def without_check(self: Any, event: Any, now: float) -> Any:
        with Patch.context() as inner:
            inner.setattr(OpenJobs, "find", some_job)
            actions = reply(self, event, now)
        return actions

    def end(self: Any, job: Any, ended: Any, now: float) -> Any:
        return ending(self, job, replace(ended, job=job.submitted.job), now)

    ending = Requester._end
    patch.setattr(Requester, "_end", end)
    patch.setattr(Requester, "_reply", without_check)


def term_not_compared(patch: Patch) -> None:
    """Every leader begins in term 1 and believes that it is the first."""

    def heard(self: Any, event: Any, now: float) -> Any:
        actions = hear(self, event, now)
        self._term = 0
        return actions

    hear = Standby._heard
    patch.setattr(Standby, "_heard", heard)
    patch.setattr(Decider, "_assignment", lambda self, event, now: [])


def will_not_rearmed(patch: Patch) -> None:
    """Only the first connection has a Will."""
    accepted = ModelledConnection.accepted

    def without_will(self: Any) -> None:
        if self._life:
            self.will = None
        accepted(self)

    patch.setattr(ModelledConnection, "accepted", without_will)


def stale_route_used(patch: Patch) -> None:
    """Routes are taken whether their devices live or not."""
    patch.setattr(RouteChooser, "alive", lambda self, devices, now: True)


def silence_is_no_death(patch: Patch) -> None:
    """A device counts as there until its Will says otherwise."""

    def online(self: Any, device: str, now: float) -> bool:
        view = self.devices.get(device)
        return view is not None and view.state == "online"

    patch.setattr(MeshView, "online", online)


def timer_lost_in_takeover(patch: Patch) -> None:
    """A standby waits for a holder's last word, and not for its silence."""
    heard = Standby._heard

    def without_timer(self: Any, event: Any, now: float) -> Any:
        actions = heard(self, event, now)
        late = [a for a in actions if isinstance(a, SetTimer) and a.at > now + 1.0]
        return [CancelTimer(a.name) if a in late else a for a in actions]

    patch.setattr(Standby, "_heard", without_timer)


def reply_not_deduplicated(patch: Patch) -> None:
    """A job stays open after its end."""

    def end(self: Any, job: Any, ended: Any, now: float) -> Any:
        return [CancelTimer(f"job:{ended.job}"), ended]

    patch.setattr(Requester, "_end", end)


def queue_unbounded(patch: Patch) -> None:
    """A worker never says busy."""
    objection = Worker._objection

    def never_busy(self: Any, task: Any, freed: float, now: float) -> Any:
        error = objection(self, task, freed, now)
        return None if error is not None and error.code == "busy" else error

    patch.setattr(Worker, "_objection", never_busy)


def deadline_ignored(patch: Patch) -> None:
    """A worker runs what waits, however late it is."""
    patch.setattr(Worker, "_expired", lambda self, now: [])

    def start(self: Any, now: float) -> Any:
        if self._running is not None or not self._waiting:
            return []
        task = self._waiting.first
        self._waiting.remove(task)
        if task.ahead:
            self._running, self._started = task, now
            return []
        return [self._run(task, now)]

    patch.setattr(Worker, "_start", start)
    units = Worker._units
    patch.setattr(Worker, "_units", lambda self, task: replace(units(self, task), until=inf))


def takes_over_without_looking(patch: Patch) -> None:
    """A standby takes the role as soon as it is connected."""
    handle = Standby.handle

    def at_once(self: Any, event: Any, now: float) -> Any:
        if isinstance(event, Connected):
            self.taken = RoleTaken(self._term + 1)
            return []
        return handle(self, event, now)

    patch.setattr(Standby, "handle", at_once)


def says_itself_once(patch: Patch) -> None:
    """A device publishes its retained state only when it connects for the first time."""
    connected = Device._connected

    def only_once(self: Any, event: Any, now: float) -> Any:
        again = self._memory._was_connected
        actions = connected(self, event, now)
        return [a for a in actions if not (again and isinstance(a, Publish) and a.retain)]

    patch.setattr(Device, "_connected", only_once)


def subscribes_once(patch: Patch) -> None:
    """A device relies on subscriptions of an earlier connection."""
    connected = Device._connected

    def only_once(self: Any, event: Any, now: float) -> Any:
        again = self._memory._was_connected
        actions = connected(self, event, now)
        return [a for a in actions if not (again and isinstance(a, Subscribe))]

    patch.setattr(Device, "_connected", only_once)


def hedges_without_limit(patch: Patch) -> None:
    """A late job is sent again and again."""

    def hedge(self: Any, job: Any, now: float) -> Any:
        job.hedges = 0
        return self._send(job, now)

    patch.setattr(Requester, "_hedge", hedge)


def lower_epoch_accepted(patch: Patch) -> None:
    """Whatever assignment came last is believed."""

    def learn(self: Any, model: str, origin: str, event: Any) -> None:
        if event.payload:
            self.assignments[model, origin] = decode_json(Assignment, event.payload)
        else:
            self.assignments.pop((model, origin), None)

    patch.setattr(MeshView, "_learn_assignment", learn)


def executor_restart_forgets_the_job(patch: Patch) -> None:
    """A run that its executor took to the grave is waited for."""
    handle = Worker.handle

    def forgetful(self: Any, event: Any, now: float) -> Any:
        return [] if isinstance(event, ExecutorLost) else handle(self, event, now)

    patch.setattr(Worker, "handle", forgetful)


def record_not_read(patch: Patch) -> None:
    """A gateway answers again what the one before had answered."""
    patch.setattr(AnsweredRecord, "was_answered", lambda self, packet, checksum: False)


def told_anew(patch: Patch) -> None:
    """A gateway answers under a new job id what the one before may have answered."""
    patch.setattr(AnsweredRecord, "told", lambda self, packet, checksum: None)


def record_by_content(patch: Patch) -> None:
    """A gateway takes equal inputs for one submission, and forgets the number of the packet."""
    patch.setattr("edgemesh.roles.gateway.checksum_of", lambda event: zlib.crc32(event.payload) % 7)
    patch.setattr(
        AnsweredRecord,
        "was_answered",
        lambda self, packet, checksum: checksum in self._left.values() or checksum in _sums(self),
    )


def shares_when_alone(patch: Patch) -> None:
    """Submissions come over a shared subscription, which a restarted broker has forgotten."""

    def shared(self: Any) -> Any:
        return [Subscribe(f"$share/gateway/{self._topics.filter('submit')}", 1)]

    patch.setattr(Gateway, "_submissions_wanted", shared)


def _when_a_timer_is_late(patch: Patch, role: Any, dropped: Callable[[Any], bool]) -> None:
    """As it is of a program that was stopped; ``dropped(role)`` tells whether the event comes to nothing."""
    handle = role.handle

    def watched(self: Any, event: Any, now: float) -> Any:
        due = self.__dict__.setdefault("due", {})
        late = isinstance(event, TimerFired) and now > due.get(event.name, now) + 0.01
        if late and dropped(self):
            return []
        actions = handle(self, event, now)
        due.update({action.name: action.at for action in actions if isinstance(action, SetTimer)})
        return actions

    patch.setattr(role, "handle", watched)


def late_timer_of_a_client_dropped(patch: Patch) -> None:
    """A program that was stopped takes no notice of the deadlines that passed meanwhile."""
    _when_a_timer_is_late(patch, ClientRole, lambda role: True)


def standby_forgets_what_waited(patch: Patch) -> None:
    """A standby that was stopped throws away what it would have heard meanwhile, and takes the role late."""

    def forgotten(role: Any) -> bool:
        role._term = 0
        return False

    heard = Standby._heard

    def deaf_when_late(self: Any, event: Any, now: float) -> Any:
        late = now > self.__dict__.get("due", {}).get("standby", now) + 0.01
        return [] if late and self._holder is not None else heard(self, event, now)

    _when_a_timer_is_late(patch, Standby, forgotten)
    patch.setattr(Standby, "_heard", deaf_when_late)
    patch.setattr(Decider, "_assignment", lambda self, event, now: [])


def acknowledges_in_batches(patch: Patch) -> None:
    """A gateway saves packets: it acknowledges four submissions at a time."""
    handle = Gateway.handle

    def in_batches(self: Any, event: Any, now: float) -> Any:
        actions = handle(self, event, now)
        kept = self.__dict__.setdefault("kept", [])
        if isinstance(event, Connected):
            kept.clear()
        kept += [action for action in actions if isinstance(action, Acknowledge)]
        others = [action for action in actions if not isinstance(action, Acknowledge)]
        if len(kept) < 4:
            return others
        batch = list(kept)
        kept.clear()
        return [*others, *batch]

    patch.setattr(Gateway, "handle", in_batches)


def planning_fails_for_devices(patch: Patch) -> None:
    """Plans for requesters on devices end in an error, which takes nothing from the others."""
    decide = Decider._decide

    def fails(self: Any, manifest: Any, origin: Any, now: float) -> Any:
        return decide(self, manifest, origin, now if origin == APP_ORIGIN else None)  # type: ignore[arg-type]

    patch.setattr(Decider, "_decide", fails)


def two_copies_are_all(patch: Patch) -> None:
    """A job of which all copies were lost is not sent again, however much time is left."""
    sent = Hedging.sent

    def no_more(self: Any, job: Any, number: int, choice: Any, now: float) -> None:
        sent(self, job, number, choice, now)
        if job.hedges >= 2:
            job.hedge_at = None

    patch.setattr(Hedging, "sent", no_more)


def run_ahead_forgotten(patch: Patch) -> None:
    """What had gone ahead when the executor died is taken for running, and nobody runs it."""
    handle = Worker.handle

    def forgets(self: Any, event: Any, now: float) -> Any:
        if isinstance(event, ExecutorLost) and self._running is not None:
            return self._failed(RunFailed(self._running.run, "run-failed", event.text), now)
        return handle(self, event, now)

    patch.setattr(Worker, "handle", forgets)


def inputs_go_to_other_content(patch: Patch) -> None:
    """An input is sent to whatever has the model's name by then."""
    patch.setattr(OpenJob, "fits", lambda self, digest: True)


def retained_submissions_answered_again(patch: Patch) -> None:
    """A submission that is retained is answered with each connection."""

    def unwanted(self: Any, event: Any) -> Any:
        return self._submitted(event, self._quiet_since)

    patch.setattr(Gateway, "_unwanted", unwanted)


def answers_anywhere(patch: Patch) -> None:
    """A gateway publishes on whatever topic an app names."""
    patch.setattr(Gateway, "_allowed", lambda self, topic: topic)


def own_link_taken_for_silence(patch: Patch) -> None:
    """What waits behind photographs at the gateway's own link is taken for what no device has answered."""
    seconds = AnswerPace.seconds

    def to_now(self: Any, devices: Any, under_way: Any, now: float, heard: float) -> float:
        return seconds(self, devices, under_way, now, now)

    patch.setattr(AnswerPace, "seconds", to_now)


def older_manifest_believed(patch: Patch) -> None:
    """The manifest that came last is the one."""
    patch.setattr(BrokerMemory, "older_manifest", lambda self, event, view: None)


def result_computed_again(patch: Patch) -> None:
    """A result that may be out is computed again, and may end in an error now."""
    patch.setattr("edgemesh.roles.answered.TEXT_CHARS", 0)


def half_an_hour_of_patience(patch: Patch) -> None:
    """A job of which all copies were lost waits for half of its time, however much that is."""
    patch.setattr(Hedging, "_again_at", lambda self, job, now: (now + job.deadline) / 2.0)


def frame_keeps_its_place(patch: Patch) -> None:
    """A frame counts as under way after its end."""
    patch.setattr(Frames, "ended", lambda self, stream, job: self._held.get(stream))


def newest_gives_way(patch: Patch) -> None:
    """The frame that waits stays, and the one that comes is dropped."""

    def hold(self: Any, stream: Any, job: str) -> str:
        self._held.setdefault(stream, job)
        return job

    patch.setattr(Frames, "hold", hold)


def frames_without_limit(patch: Patch) -> None:
    """Each frame is sent as it comes, however many are under way."""
    patch.setattr(Frames, "may_go", lambda self, stream, most: True)


def kept_whatever_the_job(patch: Patch) -> None:
    """A job sent again goes on from what the device passed on last over such a route."""
    patch.setattr(kept_activations, "_key", lambda task: (task.header.digest, task.partition))


def answers_its_will_again(patch: Patch) -> None:
    """A device's answer to its own Will goes out on the next connection, before it has subscribed."""
    online = Device._online
    patch.setattr(Device, "_online", lambda self: replace(online(self), resend=True))


def cancelled_goes_on(patch: Patch) -> None:
    """A job that nobody waits for any more is told of when it ends."""
    handle = Requester.handle

    def deaf(self: Any, event: Any, now: float) -> Any:
        return [] if isinstance(event, JobCancelled) else handle(self, event, now)

    patch.setattr(Requester, "handle", deaf)


def _sums(record: AnsweredRecord) -> set[int]:
    return {entry.checksum for entry in record._entries.values()}


BUGS: dict[str, Bug] = {
    plant.__name__: Bug(plant, found_by)
    for plant, found_by in (
        (ack_before_result, 5),
        (any_reply_will_do, 8),
        (term_not_compared, 1),
        (will_not_rearmed, 4),
        (stale_route_used, 10),
        (silence_is_no_death, 10),
        (timer_lost_in_takeover, 7),
        (reply_not_deduplicated, 0),
        (queue_unbounded, 10),
        (deadline_ignored, 10),
        (takes_over_without_looking, 0),
        (says_itself_once, 1),
        (subscribes_once, 1),
        (hedges_without_limit, 2),
        (lower_epoch_accepted, 5),
        (executor_restart_forgets_the_job, 28),
        (record_not_read, 5),
        (told_anew, 2),
        (record_by_content, 10),
        (shares_when_alone, 2),
        (late_timer_of_a_client_dropped, 7),
        (standby_forgets_what_waited, 35),
        (acknowledges_in_batches, 3),
        (planning_fails_for_devices, 0),
        (two_copies_are_all, 53),
        (run_ahead_forgotten, 28),
        (inputs_go_to_other_content, 0),
        (retained_submissions_answered_again, 0),
        (answers_anywhere, 0),
        (own_link_taken_for_silence, 140),
        (older_manifest_believed, 246),
        (result_computed_again, 131),
        (half_an_hour_of_patience, 665),
        (frame_keeps_its_place, 20),
        (newest_gives_way, 20),
        (frames_without_limit, 85),
        (cancelled_goes_on, 50),
        (kept_whatever_the_job, 2),
        (answers_its_will_again, 80),
        (ends.first_error_is_final, 4),
        (ends.failed_run_is_final, 4),
        (ends.submissions_have_an_hour, 6),
        (ends.retried_result_is_cut, 2),
        (ends.profiles_told_once, 1),
        (ends.benched_for_ever, 4),
        (ends.offline_changes_nothing, 316),
        (ends.waits_for_the_broker, 190),
        (ends.another_route_is_told, 1),
        (ends.policy_ignored, 4),
    )
}
