"""Device: everything one device's agent does, as one state machine made of the parts beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgemesh.errors import DecodeError
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import (
    About,
    CodecSpeed,
    Heartbeat,
    HeldModel,
    PowerFigures,
    ReadyPartition,
    Resources,
)
from edgemesh.protocol.topics import MINOR, TOPICS, Topics
from edgemesh.roles.actions import (
    Action,
    JobEnded,
    Publish,
    ReadResources,
    RunUnits,
    SetTimer,
    Subscribe,
)
from edgemesh.roles.broker_memory import BrokerMemory
from edgemesh.roles.content import ContentKeeper
from edgemesh.roles.crash_bench import CrashBench
from edgemesh.roles.events import (
    Connected,
    ContentStored,
    Disconnected,
    Event,
    ExecutorLost,
    ForeignMessageReceived,
    MessageReceived,
    RangeLoaded,
    ResourcesRead,
    RunFailed,
    RunFinished,
    TimerFired,
)
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.meter import Meter
from edgemesh.roles.own_work import OwnWork
from edgemesh.roles.power import Power
from edgemesh.roles.preparer import Preparer
from edgemesh.roles.profiler import Profiler, Scale
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.requester import Requester
from edgemesh.roles.resource_steps import ResourceNews
from edgemesh.roles.routes import ChosenRoute
from edgemesh.roles.speed_check import SpeedCheck
from edgemesh.roles.worker import Worker

HEARTBEAT_SECONDS = 2.0
_CONTENT_SHARE = 0.8
"""A model whose content exceeds this share of the executor's memory is left to other devices."""


@dataclass(frozen=True)
class DeviceSettings:
    """What the shell knows about the device before it connects."""

    device: str
    boot: str
    software: str
    board: str
    runtimes: dict[str, str]
    """Runtime (``tflite``, ``torch``) to its version."""
    threads: int
    memory_bytes: int
    emulated: bool = False
    power: PowerFigures | None = None
    """Of the board's profile, where it is known."""
    throttle_celsius: float | None = None
    codecs: tuple[CodecSpeed, ...] = ()
    """What encoding and decoding cost here, as measured."""


class Device:
    """One device. The shell carries out the actions in order; local traffic never reaches it."""

    def __init__(
        self,
        settings: DeviceSettings,
        topics: Topics,
        *,
        emulate: Scale | None = None,
        pace: Callable[[str, int, int], float] = lambda digest, start, stop: 0.0,
        size_of: Callable[[bytes | memoryview], int] = len,
    ) -> None:
        """``emulate`` and ``pace`` slow an emulated board down: its profile and its runs.

        ``size_of`` is what a payload counts as on a link: a simulated one may stand for more than it holds.
        """
        self.settings = settings
        self.topics = topics
        self.view = MeshView()
        self.worker = Worker(settings.device, topics, pace=pace)
        self.requester = Requester(
            settings.device, settings.device, topics, self.view, local_route=self._local_route
        )
        self.crash_bench = CrashBench(settings.device, self._model_name)
        self.worker.benched = self.crash_bench.benched
        self.content = ContentKeeper(settings.device, topics, self._wants)
        self.preparer = Preparer(settings.device)
        self.profiler = Profiler(
            settings.device,
            topics,
            runtime_versions=settings.runtimes,
            threads=settings.threads,
            is_idle=lambda: self.worker.idle,
            emulate=emulate,
            is_disturbed=lambda: self.speed_check.is_disturbed,
        )
        self.meter = Meter(settings.device, settings.boot, topics, origin=settings.device, size_of=size_of)
        self.requester.hedging.leaving = self.meter.leaving
        self.speed_check = SpeedCheck(
            self.profiler.profiles,
            self.profiler.published,
            is_idle=lambda: self.worker.idle and not self.profiler.measuring,
            report=self.meter.ran,
        )
        self.power = Power(settings.device, topics, settings.power, emulated=settings.emulated)
        self._news = ResourceNews(settings.throttle_celsius)
        self._refusals = Refusals()
        self._sequence = 0
        self._last_heartbeat = 0.0
        self.busy_fraction = 0.0
        """Share of the time before the last heartbeat in which units ran."""
        self._runs: dict[str, RunUnits] = {}
        """What the executor has, by run."""
        self._ended: list[tuple[RunUnits, float]] = []
        """Runs that have ended and are still to be noted, with their seconds."""
        self._own_work = OwnWork()
        self._memory = BrokerMemory(topics, self.content, self.power.plug)
        self._own_topics = frozenset(
            {topics.build("work", device=settings.device), topics.build("reply", requester=settings.device)}
        )

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        return Publish(self._topic("state"), b"offline", qos=1, retain=True)

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        return [Publish(self._topic("state"), b"stopped", qos=1, retain=True)]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to anything; actions that stay on this device have been followed up already."""
        self._own_work.answered(event, now)
        actions = [*self._noted(now), *self._one(event, now)] if self._ended else self._one(event, now)
        outcome: list[Action] = []
        # Grows while it is gone through: what stays on this device is an event at once.
        for action in actions:
            if isinstance(action, Publish):
                if action.topic in self._own_topics:
                    # Local first: its own units and its own results take no broker hop.
                    local = MessageReceived(self.topics.parse(action.topic), action.payload)
                    actions.extend(self._one(local, now))
                    continue
                if action.token is not None:
                    self.meter.watch((action,), now)
            elif isinstance(action, RunUnits):
                self._runs[action.run] = action
            elif isinstance(action, JobEnded):
                self.meter.ended(action)
            outcome.append(action)
        self._own_work.asked(outcome, now)
        return outcome

    def _one(self, event: Event, now: float) -> list[Action]:
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, RunFinished):
            self._run_ended(event)
            return self.worker.handle(event, now)
        if isinstance(event, Connected):
            return self._connected(event, now)
        if isinstance(event, Disconnected):
            self.content.disconnected()
            return self.requester.handle(event, now)
        if isinstance(event, TimerFired) and event.name == "heartbeat":
            return [self._heartbeat(now), SetTimer("heartbeat", now + HEARTBEAT_SECONDS)]
        if isinstance(event, TimerFired) and event.name == "resources":
            return [ReadResources(), SetTimer("resources", now + self._news.look_seconds)]
        if isinstance(event, ResourcesRead):
            # What an emulated board tells as busy is made of the share in its last heartbeat.
            share = self._own_work.take_share(now)
            told = replace(event.resources, own=self.busy_fraction if self.settings.emulated else share)
            return [*self._resources(told, now), *self.speed_check.handle(ResourcesRead(told), now)]
        if isinstance(event, ForeignMessageReceived):
            return self.power.handle(event, now)
        if isinstance(event, RangeLoaded):
            self._expect(event)
        elif isinstance(event, RunFailed):
            self._runs.pop(event.run, None)
        elif isinstance(event, ExecutorLost):
            self._runs.clear()
        actions = [
            # Before the worker, which would start the next job of the model that has just been benched.
            *self.crash_bench.handle(event, now),
            *self.worker.handle(event, now),
            *self.requester.handle(event, now),
            *self.content.handle(event, now),
            *self.preparer.handle(event, now),
            *self.profiler.handle(event, now, self.content.held),
            *self.speed_check.handle(event, now),
            *self.meter.handle(event, now),
        ]
        if isinstance(event, ContentStored):
            actions += self._holds_more(event.digest, now)
        if isinstance(event, (RangeLoaded, ExecutorLost)) or self.crash_bench.is_due(event):
            actions.append(self._heartbeat(now))  # at once: a requester waits for it to switch
        return actions

    # --- connection --------------------------------------------------------------------------------------

    def _connected(self, event: Connected, now: float) -> list[Action]:
        mine = self.settings.device
        self._news.connected()
        filters = [
            self.topics.filter("work", device=mine),
            self.topics.filter("reply", requester=mine),
            self.topics.filter("model"),
            self.topics.filter("assignment"),
            self.topics.filter("state"),
            self.topics.filter("about"),
            self.topics.filter("heartbeat"),
            self.topics.filter("response", verb="plan"),
        ]
        return [
            *(Subscribe(f, 1) for f in filters),
            *self.power.handle(event, now),  # before our state, which comes back behind all that is retained
            self._online(),
            self._about(),
            *self._memory.connected(),
            *self.requester.handle(event, now),
            *self.content.handle(event, now),
            *self.profiler.handle(event, now, self.content.held),
            *self.speed_check.handle(event, now),
            *self.meter.handle(event, now),
            self._heartbeat(now),
            SetTimer("heartbeat", now + HEARTBEAT_SECONDS),
            ReadResources(),
            SetTimer("resources", now + self._news.look_seconds),
        ]

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        kind, names = event.topic.kind, event.topic.names
        self.meter.came_in(event, now)
        if kind == "work":
            return self.worker.handle(event, now)
        if kind in ("reply", "response"):
            return self.requester.handle(event, now)
        if kind in ("chunk", "chunk-request"):
            return self.content.handle(event, now)
        if kind in ("receipt", "probe", "decision"):
            return self.meter.handle(event, now)
        if kind == "meter":
            return self.power.handle(event, now)
        if kind == "state" and names["device"] == self.settings.device and event.payload == b"offline":
            # The Will of a connection that died after we were back: say that we are here.
            self._memory.will_came()
            return [self._online()]
        before = self.view.manifests.get(names["model"]) if kind == "model" else None
        try:
            if kind == "model" and (newer := self._memory.older_manifest(event, self.view)) is not None:
                return newer
            self.view.learn(event, now)
        except DecodeError as error:
            return self._refusals.log(kind, error, now)
        actions: list[Action] = []
        if kind == "model":
            actions += self._models_changed(event, before, now)
        elif kind == "assignment":
            actions += self._prepare(now)
        elif kind == "about":
            actions += self._others_hold(names["device"], now)
            if event.retained and names["device"] == self.settings.device:
                self._memory.own_about_came(self.view.devices[self.settings.device].about)
        elif kind == "state" and names["device"] == self.settings.device:
            actions += self._memory.own_state_came(self.view, now, retained=event.retained)
        return [*actions, *self.requester.handle(event, now)]

    # --- models ------------------------------------------------------------------------------------------

    def _wants(self, manifest: Manifest) -> bool:
        fits = manifest.size <= self.settings.memory_bytes * _CONTENT_SHARE
        return manifest.format in self.settings.runtimes and fits

    def _models_changed(self, event: MessageReceived, before: Manifest | None, now: float) -> list[Action]:
        manifest = self.view.manifests.get(event.topic.names["model"])
        names = {(held.name, held.digest) for held in self.content.models}
        actions: list[Action] = []
        if before is not None and (manifest is None or manifest.digest != before.digest):
            other = next((m for m in self.view.manifests.values() if m.digest == before.digest), None)
            if other is not None:
                actions += self.profiler.renamed(other, before.name)
            else:
                actions += self.content.lost_name(before.digest, manifest)
                self.crash_bench.forget(before.digest)
                self.profiler.forget(before.digest)
                topic = self._topic("profile", model=before.name)
                actions.append(Publish(topic, b"", qos=1, retain=True))
            self.worker.held = set(self.content.held)
            actions += self._prepare(now)
        if manifest is not None:
            actions += self.content.reconsider(manifest)
            if manifest.digest in self.content.held:
                actions += self.profiler.add(manifest)  # it may be one that was replaced, and is back
            elif manifest.digest in self.worker.held:  # it is cut otherwise, and to be opened anew
                self.profiler.forget(manifest.digest)
                self.worker.held = set(self.content.held)
                actions += self._prepare(now)
        else:
            self.content.forget_name(event.topic.names["model"])
        if {(held.name, held.digest) for held in self.content.models} != names:
            actions.append(self._about())
        return actions

    def _others_hold(self, device: str, now: float) -> list[Action]:
        about = self.view.about(device)
        if about is None or device == self.settings.device:
            return []
        return [a for held in about.models for a in self.content.holder_appeared(held.digest, now)]

    def _holds_more(self, digest: str, now: float) -> list[Action]:
        self.worker.held = set(self.content.held)
        manifest = self.content.held.get(digest)
        if manifest is None:
            return []
        return [self._about(), *self._prepare(now), *self.profiler.add(manifest)]

    def _prepare(self, now: float) -> list[Action]:
        return self.preparer.reconsider(self.view.assignments.values(), self.content.held, now)

    def _local_route(self, model: str) -> ChosenRoute | None:
        manifest = next((m for m in self.content.models if m.name == model), None)
        if manifest is None or manifest.format not in self.settings.runtimes:
            return None
        profile = self.profiler.published.get(manifest.digest)
        predicted = sum(profile.seconds) if profile is not None else 0.0
        whole = (Hop(self.settings.device, manifest.unit_count),)
        return ChosenRoute(whole, manifest.digest, predicted, alone=True)

    def _expect(self, event: RangeLoaded) -> None:
        """Tell the worker what a partition takes before its first run: it refuses what is too much."""
        profile = self.profiler.published.get(event.digest)
        if profile is not None and event.stop <= len(profile.seconds):
            seconds = sum(profile.seconds[event.start : event.stop])
            self.worker.expect(event.digest, event.start, event.stop, seconds)

    def _model_name(self, digest: str) -> str:
        manifest = self.content.manifest_of(digest)
        return digest if manifest is None else manifest.name

    def _run_ended(self, event: RunFinished) -> None:
        """Keep what is to be noted of it for the next event: what it made should not wait for that."""
        run = self._runs.pop(event.run, None)
        if run is not None:
            self._ended.append((run, event.run_seconds))

    def _noted(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for run, seconds in self._ended:
            self.profiler.ran(now)
            actions += self.meter.ran(run.digest, run.start, run.stop, seconds, now)
            surprising = self.meter.doubts(run.digest, run.start, run.stop)
            actions += self.speed_check.ran(run.digest, now, surprising=surprising)
        self._ended.clear()
        return actions

    # --- presence ----------------------------------------------------------------------------------------

    def _topic(self, kind: str, **names: str) -> str:
        return self.topics.build(kind, device=self.settings.device, **names)

    def _online(self) -> Publish:
        # A broker that is stopped publishes our Will to us before it goes. Were our answer sent again, it
        # would come to the next one before we have subscribed, and look like what that broker remembers.
        return Publish(self._topic("state"), b"online", qos=1, retain=True, resend=False)

    def _about(self) -> Publish:
        s = self.settings
        models = tuple(HeldModel(m.name, m.digest) for m in self.content.models)
        about = About(
            s.boot,
            s.software,
            s.board,
            s.runtimes,
            s.threads,
            s.memory_bytes,
            models,
            s.emulated,
            minor=MINOR,
            codecs=s.codecs,
        )
        return Publish(self._topic("about"), encode_json(about), qos=1, retain=True)

    def _heartbeat(self, now: float) -> Publish:
        self._sequence += 1
        elapsed = max(now - self._last_heartbeat, 1e-3)
        self.busy_fraction = busy = min(1.0, self.worker.take_busy_seconds() / elapsed)
        self._last_heartbeat = now
        heartbeat = Heartbeat(
            self.settings.boot,
            self._sequence,
            self.worker.jobs,
            self.worker.queued_seconds(now),
            busy,
            tuple(sorted(self._ready(), key=lambda p: (p.digest, p.start, p.stop))),
        )
        expiry = TOPICS["heartbeat"].expiry
        return Publish(self._topic("heartbeat"), encode_json(heartbeat), expiry=expiry)

    def _ready(self) -> list[ReadyPartition]:
        return [p for p in self.preparer.ready if p.digest not in self.crash_bench.benched]

    def _resources(self, read: Resources, now: float) -> list[Action]:
        resources, actions = self.power.completed(read, now)
        if not self._news.look(resources, now):
            return actions
        expiry = TOPICS["resources"].expiry
        payload = encode_json(resources)
        return [*actions, Publish(self._topic("resources"), payload, retain=True, expiry=expiry)]
