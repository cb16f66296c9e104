"""Gateway: the requester of what apps publish on ``submit/<model>``.

Each submission is acknowledged only after its result is published, so a standby that inherits the session
gets every unfinished one again.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.errors import DecodeError, UnknownModelError
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.presence import State
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import (
    Acknowledge,
    Action,
    DecodeInput,
    JobEnded,
    Log,
    Publish,
    RenderResult,
    SetTimer,
    Subscribe,
)
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    InputDecoded,
    InputRefused,
    JobSubmitted,
    MessageReceived,
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
_GRACE_SECONDS = 1.0
STATE_SECONDS = 5.0
"""Between repetitions of the gateway's state: a standby distrusts one that is older than three of them."""


@dataclass
class _Submission:
    model: str
    arrived: float
    left: float
    acknowledgement: int | None
    response_topic: str | None
    correlation: bytes | None
    payload: bytes | memoryview
    content_type: str | None
    deadline: float


class Gateway:
    """One slot's gateway while it holds the role. The caller carries out the actions in order."""

    def __init__(self, slot: str, holder: str, boot: str, term: int, topics: Topics) -> None:
        self.view = MeshView()
        name = f"gateway-{slot}"
        self.requester = Requester(name, APP_ORIGIN, topics, self.view)
        self.meter = Meter(name, boot, topics, probes=False)
        self._slot = slot
        self._topics = topics
        self._holder = Holder("online", holder, boot, term)
        self._boot = boot
        self._count = 0
        self._submissions: dict[str, _Submission] = {}
        self._refusals = Refusals()

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
            self.requester.disconnected()
            return []
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, InputDecoded):
            return self._decoded(event, now)
        if isinstance(event, InputRefused):
            submission = self._submissions.get(event.job)
            if submission is None:
                return []
            ended = JobEnded(event.job, submission.model, now - submission.arrived, event.code, event.text)
            return [ended]
        if isinstance(event, ResultRendered):
            return self._publish_result(event)
        if isinstance(event, TimerFired) and event.name.startswith("manifest:"):
            return self._decode(event.name.removeprefix("manifest:"), now)
        if isinstance(event, TimerFired) and event.name == "gateway-state":
            return [self._state("online"), SetTimer("gateway-state", now + STATE_SECONDS)]
        return [*self.requester.handle(event, now), *self.meter.handle(event, now)]

    def _follow_up(self, actions: list[Action], now: float) -> list[Action]:
        outcome: list[Action] = []
        for action in actions:
            if isinstance(action, JobEnded):
                manifest = self.view.manifests.get(action.model)
                outcome.append(RenderResult(action.job, manifest, action))
            else:
                outcome.append(action)
        return outcome

    def _connect(self, event: Connected, now: float) -> list[Action]:
        topics = self._topics
        filters = [
            topics.filter("model"),
            topics.filter("state"),
            topics.filter("about"),
            topics.filter("heartbeat"),
            topics.filter("assignment", origin=APP_ORIGIN),
            topics.filter("reply", requester=self.requester.requester),
            topics.filter("response", verb="plan"),
            # Shared, so that further slots take their part of the load.
            f"$share/gateway/{topics.filter('submit')}",
        ]
        return [
            *(Subscribe(f, 1) for f in filters),
            self._state("online"),
            SetTimer("gateway-state", now + STATE_SECONDS),
            *self.requester.handle(event, now),
            *self.meter.handle(event, now),
        ]

    def _state(self, state: State) -> Publish:
        h = self._holder
        payload = encode_json(Holder(state, h.holder, h.boot, h.term))
        return Publish(self._topics.build("gateway", slot=self._slot), payload, qos=1, retain=True)

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        if event.topic.kind == "submit":
            return self._submitted(event, now)
        actions: list[Action] = []
        try:
            self.view.learn(event, now)
        except DecodeError as error:
            actions += self._refusals.log(event.topic.kind, error, now)
        if event.acknowledgement is not None:
            actions.append(Acknowledge(event.acknowledgement))
        return [*actions, *self.requester.handle(event, now), *self.meter.handle(event, now)]

    # --- submissions -------------------------------------------------------------------------------------

    def _submitted(self, event: MessageReceived, now: float) -> list[Action]:
        self._count += 1
        job = f"{self._boot}-{self._count}"
        left = min(_LONGEST_SECONDS, event.expiry if event.expiry is not None else DEFAULT_SECONDS)
        model = event.topic.names["model"]
        self._submissions[job] = _Submission(
            model,
            now,
            left,
            event.acknowledgement,
            self._allowed(event.response_topic),
            event.correlation,
            event.payload,
            event.content_type,
            now + left,
        )
        if model in self.view.manifests:
            return self._decode(job, now)
        # Right after connecting the retained manifests may still be on their way.
        return [SetTimer(f"manifest:{job}", now + _GRACE_SECONDS)]

    def _allowed(self, response_topic: str | None) -> str | None:
        """The app's response topic, unless it would make us write where only members of the mesh may."""
        if not response_topic or any(c in response_topic for c in "+#\0") or response_topic.startswith("$"):
            return None
        inside = response_topic.startswith(self._topics.root)
        if inside and not response_topic.startswith(f"{self._topics.root}reply/"):
            return None
        return response_topic

    def _decode(self, job: str, now: float) -> list[Action]:
        submission = self._submissions.get(job)
        if submission is None:
            return []
        manifest = self.view.manifests.get(submission.model)
        if manifest is None:
            text = f"no model {submission.model} in this mesh: add it with  edgemesh model add"
            return [JobEnded(job, submission.model, now - submission.arrived, UnknownModelError.code, text)]
        return [DecodeInput(job, manifest, submission.payload, submission.content_type)]

    def _decoded(self, event: InputDecoded, now: float) -> list[Action]:
        submission = self._submissions.get(event.job)
        if submission is None:
            return []
        submission.payload = b""  # from here on the tensors are the input that is kept
        left = max(0.0, submission.deadline - now)
        return self.requester.handle(JobSubmitted(event.job, submission.model, event.section, left), now)

    def _publish_result(self, event: ResultRendered) -> list[Action]:
        submission = self._submissions.pop(event.job, None)
        if submission is None:
            return []
        kind = "application/json"
        topic = self._topics.build("result", model=submission.model)
        correlation = submission.correlation
        actions: list[Action] = [
            Publish(topic, event.payload, qos=1, content_type=kind, correlation=correlation)
        ]
        if submission.response_topic is not None:
            actions.append(
                Publish(
                    submission.response_topic,
                    event.payload,
                    qos=1,
                    content_type=kind,
                    correlation=correlation,
                )
            )
        # Only now: an unacknowledged submission is what a standby inherits.
        if submission.acknowledgement is not None:
            actions.append(Acknowledge(submission.acknowledgement))
        return [*actions, Log("debug", f"{submission.model}: result published", event.job)]
