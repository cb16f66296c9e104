"""What a mesh says of itself, remembered: the role behind operator commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edgemesh.errors import DecodeError, UnknownModelError
from edgemesh.protocol.assignment import Holder, PlanFailure
from edgemesh.protocol.history import HistoryResponse
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.meter import MeterSetting
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.protocol.requests import PlanResponse, Policy
from edgemesh.protocol.topics import Topics
from edgemesh.protocol.what_if import ExplainResponse, FrontResponse, WhatIfResponse
from edgemesh.roles.actions import Action, Publish, SendChunk, Subscribe
from edgemesh.roles.content import ContentKeeper
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    ForeignMessageReceived,
    MessageReceived,
    PublishAcknowledged,
    PublishRefused,
)
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.other_versions import OtherVersions
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.refused_messages import why_refused

_KINDS = (
    "state", "about", "heartbeat", "resources", "model", "policy", "profile", "link", "assignment", "failure",
    "outcome", "meter", "decision", "gateway",
)  # fmt: skip
"""Policies before profiles, of which there is one for each model on each device: where a broker drops the end
of what it retains, whoever changes a policy must still have read it, or would wipe the rest of it."""
_BEST_EFFORT = frozenset({"heartbeat", "resources", "link"})
ECHO_VERB: Final = "read"
_RESPONSES: dict[str, type[Any]] = {
    "plan": PlanResponse,
    "what-if": WhatIfResponse,
    "front": FrontResponse,
    "explain": ExplainResponse,
    "history": HistoryResponse,
}
"""By verb."""


class MeshReading:
    """A role that remembers what it hears; with a keeper it also fetches or serves models' content."""

    def __init__(self, requester: str, topics: Topics) -> None:
        self.requester = requester
        self.view = MeshView()
        self.estimates = MeshEstimates()
        self.resources: dict[str, Resources] = {}
        self.profiles: dict[tuple[str, str], Profile] = {}
        """By device and model."""
        self.policies: dict[str, Policy] = {}
        self.meters: dict[str, MeterSetting] = {}
        """Smart plugs by device."""
        self.failures: dict[tuple[str, str], PlanFailure] = {}
        """By model and origin, as are ``outcomes``."""
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        self.decision: Holder | None = None
        self.gateways: dict[str, Holder] = {}
        self.answers: list[Any] = []
        """Responses to requests of ours."""
        self.others = OtherVersions(topics)
        """Devices that are refused for their version."""
        self.unreadable: dict[str, str] = {}
        """Why the manifest that is retained under a model's name cannot be read."""
        self.keeper: ContentKeeper | None = None
        self.sent: dict[str, set[int]] = {}
        """Chunks that were sent to each requester."""
        self.now = 0.0
        self.retained = 0
        """Messages that the broker had retained."""
        self.read_at = 0.0
        """When the last retained message came."""
        self.acknowledged: set[str] = set()
        self.refused: dict[str, str] = {}
        """Why the broker did not take a message of ours, by the message's token."""
        self._topics = topics
        self._refusals = Refusals()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Subscribe to everything that is read; remember what comes."""
        self.now = now
        if isinstance(event, Connected):
            return [*self._subscriptions(), *self._content(event, now), self._echo()]
        if isinstance(event, Disconnected):
            self.view.forget_silence()
            if self.keeper is not None:
                self.keeper.disconnected()
            return []
        if isinstance(event, PublishAcknowledged):
            self.acknowledged.add(event.token)
            return []
        if isinstance(event, PublishRefused):
            text = why_refused("the message", event.message, event.refusal)
            self.refused[event.message.token or ""] = text
            return []
        if isinstance(event, ForeignMessageReceived):
            self.others.heard(event, now)  # shown by whoever reads, not logged
            return []
        if isinstance(event, MessageReceived) and event.topic.kind not in ("chunk", "chunk-request"):
            if event.retained:
                self.retained += 1
                self.read_at = now
            try:
                self._learn(event, now)
            except DecodeError as error:
                return self._refused(event, error, now)
            return []
        return self._content(event, now)

    def online(self) -> list[str]:
        """Devices that are online, sorted."""
        return sorted(device for device in self.view.devices if self.view.online(device, self.now))

    def able(self, manifest: Manifest) -> list[str]:
        """Devices online that have the runtime of the model, sorted."""
        return [
            device
            for device in self.online()
            if (about := self.view.about(device)) is not None and manifest.format in about.runtimes
        ]

    def holders(self, digest: str) -> list[str]:
        """Devices online that hold the content, sorted."""
        return [device for device in self.online() if self.view.holds(device, digest)]

    def seconds(self, manifest: Manifest) -> dict[str, tuple[float, ...]]:
        """Seconds per unit of this very content, by device online, fastest first."""
        online = set(self.online())
        found = {
            device: profile.seconds
            for (device, _), profile in self.profiles.items()
            if profile.digest == manifest.digest
            and device in online
            and len(profile.seconds) == manifest.unit_count
        }
        return dict(sorted(found.items(), key=lambda item: sum(item[1])))

    def manifest(self, model: str) -> Manifest:
        """The model's manifest; raises UnknownModelError."""
        checked_id(model, "model name")
        if model in self.unreadable:
            raise UnknownModelError(
                f"the manifest of {model} cannot be read ({self.unreadable[model]}): add the model again, or "
                f"clear it with  edgemesh model remove {model}"
            )
        if model not in self.view.manifests:
            known = ", ".join(sorted(self.view.manifests)) or "none"
            raise UnknownModelError(
                f"no model {model} in mesh {self._topics.mesh} (known: {known}): add it with  "
                "edgemesh model add"
            )
        return self.view.manifests[model]

    def _subscriptions(self) -> list[Action]:
        wanted = [self._topics.filter(kind) for kind in _KINDS]
        qos = [0 if kind in _BEST_EFFORT else 1 for kind in _KINDS]
        answers = Subscribe(self._topics.filter("response"), 1)
        return [*(Subscribe(f, q) for f, q in zip(wanted, qos)), answers, *self.others.subscriptions()]

    def _echo(self) -> Publish:
        # A broker handles packets in order: when this is acknowledged, retained messages are on their way.
        topic = self._topics.build("request", verb=ECHO_VERB)
        return Publish(topic, b"{}", qos=1, expiry=1.0, token=ECHO_VERB)

    def _content(self, event: Event, now: float) -> list[Action]:
        if self.keeper is None:
            return []
        actions = self.keeper.handle(event, now)
        for action in actions:
            if isinstance(action, SendChunk):
                receiver = self._topics.parse(action.topic).names["requester"]
                self.sent.setdefault(receiver, set()).add(action.index)
        return actions

    def _refused(self, event: MessageReceived, error: DecodeError, now: float) -> list[Action]:
        kind, names = event.topic.kind, event.topic.names
        if kind == "model":
            self.unreadable[names["model"]] = str(error)
        return self._refusals.tell(
            kind, f"refused a message on {' '.join((kind, *names.values()))}: {error}", now
        )

    def _learn(self, event: MessageReceived, now: float) -> None:
        kind, names = event.topic.kind, event.topic.names
        self.view.learn(event, now)
        if kind == "model":
            self.unreadable.pop(names["model"], None)
        self.estimates.learn(event, now)
        if kind == "response" and names["verb"] in _RESPONSES:
            answer = decode_json(_RESPONSES[names["verb"]], event.payload)
            if answer.requester == self.requester:
                self.answers.append(answer)
        elif kind == "decision":
            self.decision = decode_json(Holder, event.payload) if event.payload else None
        elif kind in _KEPT:
            _KEPT[kind](self, names, event)

    def _learn_resources(self, names: dict[str, str], event: MessageReceived) -> None:
        if event.payload:
            self.resources[names["device"]] = decode_json(Resources, event.payload)

    def _learn_profile(self, names: dict[str, str], event: MessageReceived) -> None:
        key = names["device"], names["model"]
        self.profiles.pop(key, None)
        if event.payload:
            self.profiles[key] = decode_json(Profile, event.payload)

    def _learn_policy(self, names: dict[str, str], event: MessageReceived) -> None:
        self.policies.pop(names["model"], None)
        if event.payload:
            self.policies[names["model"]] = decode_json(Policy, event.payload)

    def _learn_meter(self, names: dict[str, str], event: MessageReceived) -> None:
        self.meters.pop(names["device"], None)
        if event.payload:
            self.meters[names["device"]] = decode_json(MeterSetting, event.payload)

    def _learn_failure(self, names: dict[str, str], event: MessageReceived) -> None:
        key = names["model"], names["origin"]
        self.failures.pop(key, None)
        if event.payload:
            self.failures[key] = decode_json(PlanFailure, event.payload)

    def _learn_outcome(self, names: dict[str, str], event: MessageReceived) -> None:
        key = names["model"], names["origin"]
        self.outcomes.pop(key, None)
        if event.payload:
            self.outcomes[key] = decode_json(Outcome, event.payload)

    def _learn_gateway(self, names: dict[str, str], event: MessageReceived) -> None:
        self.gateways.pop(names["slot"], None)
        if event.payload:
            self.gateways[names["slot"]] = decode_json(Holder, event.payload)


_KEPT: dict[str, Callable[[MeshReading, dict[str, str], MessageReceived], None]] = {
    "resources": MeshReading._learn_resources,
    "profile": MeshReading._learn_profile,
    "policy": MeshReading._learn_policy,
    "meter": MeshReading._learn_meter,
    "failure": MeshReading._learn_failure,
    "outcome": MeshReading._learn_outcome,
    "gateway": MeshReading._learn_gateway,
}
