"""Gateway: the requester of what apps publish on ``submit/<model>``.

Each submission is acknowledged only after its result is published, so a standby that inherits the session
gets every unfinished one again. What was answered and not yet acknowledged is in a retained record
(``roles/answered.py``), so that it is not answered twice, or only under the same job id.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

from edgemesh.errors import BusyError, DeadlineError, DecodeError, UnknownModelError
from edgemesh.protocol.answered import ToldSubmission
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import State
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import (
    Acknowledge,
    Action,
    CancelTimer,
    DecodeInput,
    JobEnded,
    Log,
    Publish,
    RenderResult,
    SetTimer,
    Subscribe,
    Unsubscribe,
)
from edgemesh.roles.answered import LONGEST_LINE, AnsweredRecord, checksum_of
from edgemesh.roles.broker_memory import newer_said_again
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    InputDecoded,
    InputRefused,
    JobCancelled,
    JobSubmitted,
    MessageReceived,
    PublishAcknowledged,
    ResultRendered,
    TimerFired,
)
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.meter import Meter
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.requester import Requester

DEFAULT_SECONDS = 30.0
"""Deadline of a submission that states none by its expiry."""
_LONGEST_SECONDS = 3600.0
OPEN_SUBMISSIONS = 1000
"""More are answered ``busy``: the receive maximum does not bound what comes at QoS 0."""
_OTHER_SLOTS = 256
_TOPIC_SLASHES = 100
_UNPRINTABLE = frozenset({"Cc", "Cs"})
"""Categories of characters for which a broker may close the connection (MQTT 5, 1.5.4)."""
_GRACE_SECONDS = 1.0
"""Our own state comes back right after what is retained, or before it: across topics no order is promised
(MQTT 5, 4.6). So long after it a manifest may still come, or the record of who held the role before us.
Without it we wait on: what the session kept for us, some seconds of photographs, comes before both."""
STATE_SECONDS = 5.0
"""Between repetitions of the gateway's state: a standby distrusts one that is older than three of them."""
_UNHEARD_SECONDS = 2 * STATE_SECONDS
"""Where for so long no submission came and not our own state either, the broker keeps that from us."""


@dataclass
class _Submission:
    model: str
    arrived: float
    acknowledgement: int | None
    response_topic: str | None
    correlation: bytes | None
    payload: bytes | memoryview
    content_type: str | None
    deadline: float
    checksum: int
    told_as: str
    """The job id of its result: our job's, or that under which the holder before may have told it."""
    waits_for: str | None
    """The model whose manifest has not come yet."""
    manifest: Manifest | None = None
    """By which it was decoded, and its result is rendered: the name may have other content by then."""
    ended: bool = False
    """Whether it ended before it became a job of the requester."""


class Gateway:
    """One slot's gateway while it holds the role. The caller carries out the actions in order."""

    def __init__(self, slot: str, holder: str, boot: str, term: int, topics: Topics) -> None:
        self.view = MeshView()
        name = f"gateway-{slot}"
        self.requester = Requester(name, APP_ORIGIN, topics, self.view)
        self.meter = Meter(name, boot, topics)
        self.requester.hedging.leaving = self.meter.leaving
        self._slot = slot
        self._topics = topics
        self._holder = Holder("online", holder, boot, term)
        self._boot = boot
        self._count = 0
        self._submissions: dict[str, _Submission] = {}
        self._answered = AnsweredRecord(topics.build("answered", slot=slot))
        self._heard_at: float | None = None
        """When our own state came back on this connection."""
        self._quiet_since = 0.0
        """When the last submission came, or else the connection began."""
        self._again_at = 0.0
        """When the last submission came that the broker had sent before, or else the connection began."""
        self._other_slots: set[str] = set()
        """Slots that somebody holds or held; the session of one that is away is dealt submissions, too."""
        self._held_back: list[tuple[MessageReceived, float]] = []
        """What came again, and when: the holder before may have answered it."""
        self._untold: list[tuple[str, bytes]] = []
        """Results that wait for the record of the holder before: one of ours would take its place."""
        self._refusals = Refusals()

    @property
    def open_submissions(self) -> int:
        """Submissions without a result."""
        return len(self._submissions)

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        return self._state("offline")

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        return [self._state("stopped")]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to submissions, replies and news of the mesh."""
        actions = self._follow_up(self._one(event, now), now)
        self.meter.watch(actions, now)
        return actions

    def _one(self, event: Event, now: float) -> list[Action]:
        if isinstance(event, Connected):
            return self._connect(event, now)
        if isinstance(event, Disconnected):
            return self._disconnect(event, now)
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, InputDecoded):
            return self._decoded(event, now)
        if isinstance(event, InputRefused):
            return self._end(event.job, event.code, event.text, now)
        if isinstance(event, ResultRendered):
            return self._tell(event.job, event.payload, now)
        if isinstance(event, TimerFired) and event.name.startswith("submission:"):
            return self._overdue(event.name.removeprefix("submission:"), now)
        if isinstance(event, TimerFired) and event.name == "gateway-state":
            return self._tick(now)
        if isinstance(event, TimerFired) and event.name == "gateway-recall":
            return self._recall_overdue(now)
        if isinstance(event, PublishAcknowledged):
            self._answered.acknowledged(event.token)
        return [*self.requester.handle(event, now), *self.meter.handle(event, now)]

    def _follow_up(self, actions: list[Action], now: float) -> list[Action]:
        outcome: list[Action] = []
        for action in actions:
            if isinstance(action, JobEnded):
                self.meter.ended(action)
                submission = self._submissions.get(action.job)
                manifest = submission.manifest if submission is not None else None
                ended = action if submission is None else replace(action, job=submission.told_as)
                outcome.append(RenderResult(action.job, manifest, ended))
            else:
                outcome.append(action)
        return outcome

    def _connect(self, event: Connected, now: float) -> list[Action]:
        topics = self._topics
        self._quiet_since = self._again_at = now
        filters = [
            topics.filter("model"),
            topics.filter("state"),
            topics.filter("about"),
            topics.filter("heartbeat"),
            topics.filter("assignment", origin=APP_ORIGIN),
            topics.filter("reply", requester=self.requester.requester),
            topics.filter("response", verb="plan"),
            # In this order: our own state, which follows, comes back when the record and the states of other
            # slots have come.
            topics.filter("answered", slot=self._slot),
            topics.filter("gateway"),
        ]
        return [
            # QoS 0, or their acknowledgements would wait in line behind those of open submissions (MQTT 5,
            # 4.6): a lost reply is asked for again, a stalled line stops everybody.
            *(Subscribe(f, 0) for f in filters),
            # Before it says that it is there, and before it can know of other slots.
            *self._submissions_wanted(),
            self._state("online"),
            SetTimer("gateway-state", now + STATE_SECONDS),
            *self.requester.handle(event, now),
            *self.meter.handle(event, now),
        ]

    def _disconnect(self, event: Disconnected, now: float) -> list[Action]:
        # What is not acknowledged comes again to whoever holds the session next, perhaps to us: going on with
        # it would publish two results.
        self._answered = AnsweredRecord(self._topics.build("answered", slot=self._slot))
        self._heard_at = None
        self._held_back.clear()
        self._untold.clear()
        self._other_slots.clear()
        inherited = [job for job, s in self._submissions.items() if s.acknowledgement is not None]
        cancelled: list[Action] = []
        for job in inherited:
            del self._submissions[job]
            cancelled += [CancelTimer(f"submission:{job}"), *self.requester.handle(JobCancelled(job), now)]
        return [*cancelled, *self.requester.handle(event, now)]

    def _submissions_wanted(self) -> list[Action]:
        """Subscribe to submissions: to a share of them where there are other slots.

        Alone it takes all: Mosquitto 2.0 forgets shared subscriptions when it is restarted, and keeps others
        (measured), so what apps publish before the gateway is back would be acknowledged and thrown away.
        """
        everything = self._topics.filter("submit")
        share = f"$share/gateway/{everything}"
        wanted, other = (share, everything) if self._other_slots else (everything, share)
        # In this order: for a moment a submission may come twice, and none is missed.
        return [Subscribe(wanted, 1), Unsubscribe(other)]

    def _state(self, state: State) -> Publish:
        h = self._holder
        payload = encode_json(Holder(state, h.holder, h.boot, h.term))
        return Publish(self._topics.build("gateway", slot=self._slot), payload, qos=1, retain=True)

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        self.meter.came_in(event, now)
        if event.topic.kind == "submit":
            # One that is retained came when it was published, and would again with each connection.
            return self._unwanted(event) if event.retained else self._submitted(event, now)
        actions: list[Action] = []
        if event.topic.kind in ("answered", "gateway"):
            return self._recall(event, now)
        try:
            newer = newer_said_again(event, self.view, self._topics) if event.topic.kind == "model" else None
            if newer is None:
                self.view.learn(event, now)
            else:
                actions += newer
        except DecodeError as error:
            actions += self._refusals.log(event.topic.kind, error, now)
        if event.acknowledgement is not None:
            actions.append(Acknowledge(event.acknowledgement))
        if event.topic.kind == "model":
            actions += self._manifest_came(event.topic.names["model"], now)
        return [*actions, *self.requester.handle(event, now), *self.meter.handle(event, now)]

    def _manifest_came(self, model: str, now: float) -> list[Action]:
        waiting = [job for job, s in self._submissions.items() if s.waits_for == model and not s.ended]
        return [action for job in waiting for action in self._decode(job, now)]

    def _recall(self, event: MessageReceived, now: float) -> list[Action]:
        """The record that the holder before has left, or the sign that there is none; states of slots."""
        if event.topic.names["slot"] != self._slot:
            return self._other_slot(event, now)
        try:
            if event.topic.kind == "answered":
                self._answered.learn(event.payload)
                actions: list[Action] = []
            elif event.payload and decode_json(Holder, event.payload).boot == self._boot:
                actions = self._back_to_us(now)
            else:
                return []
        except DecodeError as error:
            return self._refusals.log(event.topic.kind, error, now)
        if self._heard_at is not None and self._answered.found:
            actions += self._recalled(now)
        return actions

    def _back_to_us(self, now: float) -> list[Action]:
        """Our own state came back: by now we know of other slots, and soon what else is retained."""
        if self._heard_at is not None:
            return []
        self._heard_at = now
        wanted = self._submissions_wanted() if self._other_slots else []
        return [*wanted, SetTimer("gateway-recall", now + _GRACE_SECONDS)]

    def _other_slot(self, event: MessageReceived, now: float) -> list[Action]:
        alone, slot = not self._other_slots, event.topic.names["slot"]
        if event.topic.kind != "gateway":
            return []
        if not event.payload:
            self._other_slots.discard(slot)
        elif len(self._other_slots) < _OTHER_SLOTS:
            try:
                decode_json(Holder, event.payload)
            except DecodeError as error:
                return self._refusals.log("gateway", error, now)
            self._other_slots.add(slot)
        if self._heard_at is None or alone is not bool(self._other_slots):
            return []
        return self._submissions_wanted()

    def _tick(self, now: float) -> list[Action]:
        """Say that we are here; what has not come again before our state does not come any more."""
        unheard = self._heard_at is None and now - self._quiet_since >= _UNHEARD_SECONDS
        known = self._back_to_us(now) if unheard else []
        # A broker may hand our state on ahead of what the session kept, some seconds of photographs.
        comes_again = self._answered.recalling or now - self._again_at < STATE_SECONDS
        settled = [] if comes_again else self._answered.settled()
        return [self._state("online"), SetTimer("gateway-state", now + STATE_SECONDS), *known, *settled]

    def _recall_overdue(self, now: float) -> list[Action]:
        if self._heard_at is None:
            return []
        # A broker that hands on our state ahead of what the session kept may have the record behind that.
        until = self._held_back[-1][1] + _GRACE_SECONDS if self._held_back else now
        if now < until:
            return [SetTimer("gateway-recall", until)]
        return self._recalled(now)

    def _recalled(self, now: float) -> list[Action]:
        if not self._answered.recalling:
            return []
        again, self._held_back = self._held_back, []
        self._answered.recalling = False
        actions: list[Action] = [CancelTimer("gateway-recall")]
        for event, since in again:
            left = None if event.expiry is None else max(0.0, event.expiry - (now - since))
            actions += self._submitted(replace(event, expiry=left), now)
        untold, self._untold = self._untold, []
        return [*actions, *(action for job, result in untold for action in self._tell(job, result, now))]

    # --- submissions -------------------------------------------------------------------------------------

    def _submitted(self, event: MessageReceived, now: float) -> list[Action]:
        packet = event.acknowledgement
        self._quiet_since = now
        if event.duplicate:
            self._again_at = now
        if packet is None:
            return self._begin(event, 0, now)
        record = self._answered.arrived(packet, again=event.duplicate)
        return [*record, *self._in_line(event, packet, now)]

    def _unwanted(self, event: MessageReceived) -> list[Action]:
        log = Log("debug", f"{event.topic.names['model']}: a retained submission is not answered again")
        packet = event.acknowledgement
        if packet is None:
            return [log]
        return [log, *self._answered.passed_over(packet, again=event.duplicate), Acknowledge(packet)]

    def _in_line(self, event: MessageReceived, packet: int, now: float) -> list[Action]:
        if event.duplicate and self._answered.recalling:
            self._held_back.append((event, now))
            return []
        checksum = checksum_of(event)
        if event.duplicate and self._answered.was_answered(packet, checksum):
            return [Acknowledge(packet)]
        told = self._answered.told(packet, checksum) if event.duplicate else None
        return self._begin(event, checksum, now, told)

    def _begin(
        self, event: MessageReceived, checksum: int, now: float, told: ToldSubmission | None = None
    ) -> list[Action]:
        """A submission becomes a job; ``checksum`` is of one that must be acknowledged.

        Of one that the holder before us may have answered ``told`` is what it said.
        """
        self._count += 1
        job = f"{self._boot}-{self._count}"
        left = min(_LONGEST_SECONDS, event.expiry if event.expiry is not None else DEFAULT_SECONDS)
        model = event.topic.names["model"]
        full = len(self._submissions) >= OPEN_SUBMISSIONS
        self._submissions[job] = _Submission(
            model,
            now,
            event.acknowledgement,
            self._allowed(event.response_topic),
            event.correlation,
            event.payload,
            event.content_type,
            now + left,
            checksum,
            job if told is None else told.job,
            waits_for=model,
        )
        if told is not None and told.result is not None:
            return self._tell(job, told.result.encode(), now)
        if full:
            text = f"{OPEN_SUBMISSIONS} submissions are open at this gateway: send fewer, or again later"
            return [JobEnded(job, model, 0.0, BusyError.code, text)]
        if model in self.view.manifests:
            return self._decode(job, now)
        # Right after connecting the retained manifests may still be on their way.
        return [SetTimer(f"submission:{job}", now + min(left, _GRACE_SECONDS))]

    def _allowed(self, response_topic: str | None) -> str | None:
        """The app's response topic, unless it would make us write where only members of a mesh may.

        Nor one that a broker may not take: Mosquitto ends the connection of whoever publishes on a topic of
        more than 200 levels (measured), and the submission would come again, and again.
        """
        if not response_topic or response_topic.startswith("$") or response_topic.count("/") > _TOPIC_SLASHES:
            return None
        if any(c in "+#" or unicodedata.category(c) in _UNPRINTABLE for c in response_topic):
            return None
        family = self._topics.root.partition("/")[0] + "/"
        return None if response_topic.startswith(family) else response_topic

    def _decode(self, job: str, now: float) -> list[Action]:
        submission = self._submissions[job]
        manifest = self.view.manifests.get(submission.model)
        if manifest is None:
            return []
        submission.waits_for, submission.manifest = None, manifest
        return [
            DecodeInput(job, manifest, submission.payload, submission.content_type),
            SetTimer(f"submission:{job}", submission.deadline),
        ]

    def _overdue(self, job: str, now: float) -> list[Action]:
        """The manifest did not come in its grace, or the input was not decoded by the deadline."""
        submission = self._submissions.get(job)
        if submission is None:
            return []
        heard_at = now if self._heard_at is None else self._heard_at
        read_at = self.view.models_told_at(heard_at, _GRACE_SECONDS)
        if submission.waits_for is not None and now < min(read_at, submission.deadline):
            return [SetTimer(f"submission:{job}", min(read_at, submission.deadline))]
        if submission.waits_for is not None and now >= read_at:
            text = f"no model {submission.model} in this mesh: add it with  edgemesh model add"
            return self._end(job, UnknownModelError.code, text, now)
        return self._end(
            job, DeadlineError.code, f"the input of {submission.model} was not read in time", now
        )

    def _end(self, job: str, code: str, text: str, now: float) -> list[Action]:
        submission = self._submissions.get(job)
        if submission is None or submission.ended:
            return []
        submission.ended = True
        ended = JobEnded(job, submission.model, now - submission.arrived, code, text)
        return [CancelTimer(f"submission:{job}"), ended]

    def _decoded(self, event: InputDecoded, now: float) -> list[Action]:
        submission = self._submissions.get(event.job)
        if submission is None or submission.ended:
            return []
        submission.payload = b""  # from here on the tensors are the input that is kept
        left = max(0.0, submission.deadline - now)
        digest = submission.manifest.digest if submission.manifest is not None else None
        job = JobSubmitted(event.job, submission.model, event.section, left, digest=digest)
        return [CancelTimer(f"submission:{event.job}"), *self.requester.handle(job, now)]

    def _tell(self, job: str, payload: bytes, now: float) -> list[Action]:
        """Publish a result, and acknowledge its submission."""
        submission = self._submissions.get(job)
        if submission is None:
            return []
        if self._answered.recalling and submission.acknowledgement is not None:
            self._untold.append((job, payload))
            return []
        del self._submissions[job]
        told = self._results(submission, payload)
        # Only now is it acknowledged: an unacknowledged submission is what a standby inherits.
        if (packet := submission.acknowledgement) is not None:
            before = self._answered.answers(packet, submission.checksum, submission.told_as, payload)
            told = [before, *told, *self._answered.answered(packet), Acknowledge(packet)]
        log = Log("debug", f"{submission.model}: result published", job)
        return [*told, log, *self._make_way(now)]

    def _make_way(self, now: float) -> list[Action]:
        """End the submission that keeps all those behind it from being acknowledged, where they are many."""
        packet = self._answered.in_the_way
        job = next((j for j, s in self._submissions.items() if packet and s.acknowledgement == packet), None)
        if job is None:
            return []
        text = f"not answered yet, and {LONGEST_LINE} later answers wait behind it: submit it again"
        cancelled = self.requester.handle(JobCancelled(job), now)
        return [*cancelled, *self._end(job, BusyError.code, text, now)]

    def _results(self, submission: _Submission, payload: bytes) -> list[Action]:
        topic = self._topics.build("result", model=submission.model)
        answer_topic, correlation = submission.response_topic, submission.correlation
        # On the topic that everybody reads, properties only where the app gave us one to return and no other
        # place: rumqttd ends the connection of an MQTT 3.1.1 subscriber over a message with any (measured).
        alone = correlation if answer_topic is None else None
        results: list[Action] = [Publish(topic, payload, qos=1, correlation=alone)]
        if answer_topic is not None:
            kind = "application/json"
            results.append(Publish(answer_topic, payload, qos=1, content_type=kind, correlation=correlation))
        return results
