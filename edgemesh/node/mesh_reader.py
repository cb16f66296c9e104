"""A short-lived connection that reads what a mesh says of itself: what operator commands show and change."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgemesh.errors import BrokerError, DecodeError, NoRouteError, OperatorError, UnknownModelError
from edgemesh.node.content_actions import ContentActions
from edgemesh.node.content_store import ContentStore
from edgemesh.node.job_session import connect_in_time
from edgemesh.node.shell import Shell
from edgemesh.protocol.assignment import Assignment, Holder, PlanFailure
from edgemesh.protocol.history import HistoryResponse
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.meter import MeterSetting
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.protocol.requests import PlanRequest, PlanResponse, Policy
from edgemesh.protocol.topics import TOPICS, Topics
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
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.daemon_threads import DAEMON_THREADS

_KINDS = (
    "state", "about", "heartbeat", "resources", "model", "policy", "profile", "link", "assignment", "failure",
    "outcome", "meter", "decision", "gateway",
)  # fmt: skip
"""Policies before profiles, of which there is one for each model on each device: where a broker drops the end
of what it retains, whoever changes a policy must still have read it, or would wipe the rest of it."""
_BEST_EFFORT = frozenset({"heartbeat", "resources", "link"})
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 5.0
_QUIET_SECONDS = 0.15
_LOOK_SECONDS = 0.02
_ANSWER_SECONDS = 6.0
"""The decision node plans at most every 2 s and answers after a round."""
_ECHO_VERB = "read"
_RESPONSES: dict[str, type[Any]] = {
    "plan": PlanResponse,
    "what-if": WhatIfResponse,
    "front": FrontResponse,
    "explain": ExplainResponse,
    "history": HistoryResponse,
}
"""By verb."""
T = TypeVar("T")


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
        topic = self._topics.build("request", verb=_ECHO_VERB)
        return Publish(topic, b"{}", qos=1, expiry=1.0, token=_ECHO_VERB)

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


class MeshReader:
    """``async with MeshReader(mesh, address) as reader``: connected, and the retained messages read."""

    def __init__(self, mesh: str, address: BrokerAddress, content: Path | None = None) -> None:
        """``content`` is a directory for models' content, to fetch it into or to serve it from."""
        self.topics = Topics(mesh)
        self.reading = MeshReading(f"reader-{secrets.token_hex(6)}", self.topics)
        self.store = None if content is None else ContentStore(content)
        self._address = address
        if content is not None:
            self.reading.keeper = ContentKeeper(self.reading.requester, self.topics, lambda manifest: True)

    async def __aenter__(self) -> MeshReader:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(DAEMON_THREADS, check_reachable, self._address)
        self.shell = Shell(self.reading, self.topics, loop)
        if self.store is not None:
            content = ContentActions(self.store, loop, self.shell.deliver, self._carry_out)
            self.shell.handle_also(content.handlers())
        client_id = f"{self.topics.mesh}-{self.reading.requester}"
        try:
            await connect_in_time(self.shell, self._address, client_id, loop, _CONNECT_SECONDS)
        except BrokerError:
            await self.shell.close([])
            raise
        await self.until(self._has_read, _READ_SECONDS)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shell.close([])

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``holds()``, at most ``seconds``; whether it does."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while True:
            self.reading.now = loop.time()
            if holds():
                return True
            if loop.time() >= ends:
                return False
            await asyncio.sleep(_LOOK_SECONDS)

    async def publish_retained(self, kind: str, payload: bytes, **names: str) -> None:
        """Publish and wait until the broker has it; an empty payload clears.

        Raises OperatorError where the broker refuses it, BrokerError where it does not answer.
        """
        topic = self.topics.build(kind, **names)
        token, acknowledged = self._publish(topic, payload, retain=True), self.reading.acknowledged
        if not await self._until_refused_or(token, lambda: token in acknowledged, _CONNECT_SECONDS):
            raise BrokerError(f"{self._address} did not acknowledge {topic}: look at the broker's log")

    async def assignment(self, model: str, origin: str) -> Assignment:
        """The assignment in force, asked for where there is none; raises NoRouteError saying why not."""
        reading = self.reading
        key = model, origin
        if key not in reading.view.assignments:
            answer = await self.asked_plan(model, origin)
            if not answer.planned or not await self.until(
                lambda: key in reading.view.assignments, _ANSWER_SECONDS
            ):
                raise NoRouteError(f"no assignment of {model} for {origin}: {answer.reason}{_hint(answer)}")
        return reading.view.assignments[key]

    async def asked_plan(self, model: str, origin: str) -> PlanResponse:
        """The decision node's answer, after a round of planning; raises as ``asked`` does."""
        return await self.asked("plan", PlanRequest(self.reading.requester, model, origin), PlanResponse)

    async def asked(self, verb: str, request: object, response: type[T]) -> T:
        """The decision node's answer to ``request``.

        Raises NoRouteError when none comes, OperatorError where the broker refuses the request.
        """
        reading = self.reading
        reading.answers.clear()
        topic = self.topics.build("request", verb=verb)
        token = self._publish(topic, encode_json(request), expiry=TOPICS["request"].expiry)

        def mine() -> list[T]:
            return [answer for answer in reading.answers if isinstance(answer, response)]

        if not await self._until_refused_or(token, lambda: bool(mine()), _ANSWER_SECONDS):
            known = reading.decision
            said = (
                "no decision node has been seen" if known is None else f"the decision node is {known.state}"
            )
            raise NoRouteError(f"nobody answers ({verb}): {said}; start one with  edgemesh decision run")
        return mine()[-1]

    def _publish(self, topic: str, payload: bytes, **how: Any) -> str:
        """The token under which the broker's answer is found."""
        token = secrets.token_hex(4)
        self._carry_out(Publish(topic, payload, qos=1, token=token, **how))
        return token

    async def _until_refused_or(self, token: str, holds: Callable[[], bool], seconds: float) -> bool:
        """As ``until``; raises OperatorError as soon as the broker has refused the message with ``token``."""
        refused = self.reading.refused
        held = await self.until(lambda: token in refused or holds(), seconds)
        if token in refused:
            raise OperatorError(refused[token])
        return held

    def _carry_out(self, action: Publish) -> None:
        self.shell.carry_out([action])

    def _has_read(self) -> bool:
        reading = self.reading
        # Who may read and not ask gets a refusal in the place of the acknowledgement.
        echoed = _ECHO_VERB in reading.acknowledged or _ECHO_VERB in reading.refused
        return echoed and reading.now >= reading.read_at + _QUIET_SECONDS


def _hint(answer: PlanResponse) -> str:
    return "; that may change by itself, ask again soon" if answer.soon else ""


def read_mesh(mesh: str, address: BrokerAddress, listen: float = 0.0) -> MeshReading:
    """What the mesh says of itself, after ``listen`` more seconds for heartbeats; raises BrokerError."""

    async def read() -> MeshReading:
        async with MeshReader(mesh, address) as reader:
            await reader.until(lambda: False, listen)
            return reader.reading

    return asyncio.run(read())


def check_reachable(address: BrokerAddress) -> None:
    """Raise BrokerError at once where nobody listens: a command is not worth waiting for a broker."""
    try:
        socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise BrokerError(
            f"no broker at {address} ({error.strerror or error}): start one with  edgemesh up,  or name "
            "yours with --broker mqtt://HOST"
        ) from None
