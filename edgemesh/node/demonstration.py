"""The demonstration: emulated boards as separate processes, one photograph, the plan compared with others."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgemesh.errors import DecodeError, EdgemeshError, NoRouteError
from edgemesh.node.client import Client, Result
from edgemesh.node.device_agent import device_directory
from edgemesh.node.fleet import Fleet, device_names
from edgemesh.node.shell import Shell
from edgemesh.observe.plan_table import partition_texts
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile
from edgemesh.protocol.requests import PlanRequest
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.roles.actions import Action, Publish, SetTimer, Subscribe
from edgemesh.roles.events import Connected, Event, MessageReceived, TimerFired
from edgemesh.runtime.registry import installed_runtimes
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import SessionSettings

_RUNS = 5
_READY_SECONDS = 50.0
_SETTLE_SECONDS = 3.0
_ASK_SECONDS = 2.0


@dataclass(frozen=True)
class Comparison:
    """One way of running the model, predicted and measured."""

    label: str
    route: tuple[Hop, ...]
    predicted: float | None
    measured: float
    """Median seconds."""
    result: Result


@dataclass(frozen=True)
class ModelDemonstration:
    """What was found for one model."""

    manifest: Manifest
    assignment: Assignment
    ways: tuple[Comparison, ...]
    """The assignment's route first."""
    whole_seconds: dict[str, float]
    """Each device's own time for the whole model."""


class Observer:
    """A role that keeps what the demonstration waits for: assignments and profiles of one camera."""

    def __init__(self, topics: Topics, camera: str, models: Sequence[str]) -> None:
        self.assignments: dict[str, Assignment] = {}
        self.profiles: dict[tuple[str, str], Profile] = {}
        self._topics = topics
        self._camera = camera
        self._models = models

    def handle(self, event: Event, now: float) -> list[Action]:
        """Subscribe, ask for plans, remember."""
        if isinstance(event, Connected):
            return [
                Subscribe(self._topics.filter("assignment", origin=self._camera)),
                Subscribe(self._topics.filter("profile")),
                *self._ask(now),
            ]
        if isinstance(event, TimerFired):
            return self._ask(now)
        if isinstance(event, MessageReceived) and event.payload:
            try:
                self._remember(event)
            except DecodeError:
                return []  # only members of this private mesh write there
        return []

    def _ask(self, now: float) -> list[Action]:
        """Again and again: the decision node may not have begun to listen when we first ask."""
        missing = [model for model in self._models if model not in self.assignments]
        topic = self._topics.build("request", verb="plan")
        requests = [encode_json(PlanRequest("demo", model, self._camera)) for model in missing]
        expiry = TOPICS["request"].expiry
        timer: list[Action] = [SetTimer("ask", now + _ASK_SECONDS)] if missing else []
        return [*(Publish(topic, request, qos=1, expiry=expiry) for request in requests), *timer]

    def _remember(self, event: MessageReceived) -> None:
        names = event.topic.names
        if event.topic.kind == "assignment":
            self.assignments[names["model"]] = decode_json(Assignment, event.payload)
        elif event.topic.kind == "profile":
            self.profiles[names["device"], names["model"]] = decode_json(Profile, event.payload)


@dataclass
class Demonstration:
    """One run; ``say`` is told of progress."""

    broker: BrokerAddress
    broker_url: str
    boards: tuple[str, ...]
    """The first one is the camera."""
    image: bytes
    say: Callable[[str], None]
    quiet: bool = True

    def run(self) -> list[ModelDemonstration]:
        """Build the mesh, run the photograph, tear the mesh down; raises EdgemeshError."""
        mesh = f"demo-{os.getpid()}"
        devices = list(device_names(self.boards))
        models = self._models()
        try:
            with Fleet(mesh, self.broker_url, self.broker.ca_file, quiet=self.quiet) as fleet:
                self.say(f"starting a decision node, a gateway and {len(devices)} emulated boards")
                fleet.start_mesh(self.boards)
                for source in models.values():
                    self._add(mesh, source)
                observer = self._observe(mesh, devices, list(models))
                return [self._model(mesh, model, devices, observer) for model in models]
        finally:
            shutil.rmtree(device_directory(mesh, "x").parent, ignore_errors=True)

    def _models(self) -> dict[str, str]:
        models = {"face": "zoo:face"}
        if "torch" in installed_runtimes():
            models["mobilenetv2"] = "zoo:mobilenetv2"
        return models

    def _add(self, mesh: str, source: str) -> None:
        self.say(f"adding {source}: every board fetches it over MQTT")
        command = [sys.executable, "-m", "edgemesh.cli.main", "model", "add", source]
        environment = {**os.environ, "EDGEMESH_MESH": mesh, "EDGEMESH_BROKER": self.broker_url}
        if self.broker.ca_file is not None:
            environment["EDGEMESH_CA"] = self.broker.ca_file
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise EdgemeshError(f"cannot add {source}: {lines[-1].removeprefix('edgemesh: ')}")

    def _observe(self, mesh: str, devices: list[str], models: list[str]) -> Observer:
        self.say("measuring the models' units on every board")
        return asyncio.run(self._until_ready(mesh, devices, models))

    async def _until_ready(self, mesh: str, devices: list[str], models: list[str]) -> Observer:
        loop = asyncio.get_running_loop()
        topics = Topics(mesh)
        observer = Observer(topics, devices[0], models)
        shell = Shell(observer, topics, loop)
        shell.connect(self.broker, f"{mesh}-observer", SessionSettings())
        ends = loop.time() + _READY_SECONDS
        wanted = {(device, model) for device in devices for model in models}
        measured_at: float | None = None
        while measured_at is None or loop.time() < measured_at + _SETTLE_SECONDS:
            await asyncio.sleep(0.1)
            if loop.time() > ends and not set(models) <= observer.assignments.keys():
                missing = ", ".join(f"{d} ({m})" for d, m in sorted(wanted - observer.profiles.keys()))
                raise NoRouteError(
                    f"no plan after {_READY_SECONDS:.0f} s; not measured yet: {missing or 'none'}"
                )
            whole = wanted <= observer.profiles.keys() and set(models) <= observer.assignments.keys()
            if measured_at is None and (whole or loop.time() > ends):
                # The decision node plans at most every 2 s: let the last profile reach its plan.
                measured_at = loop.time()
        await shell.close([])
        return observer

    def _model(self, mesh: str, model: str, devices: list[str], observer: Observer) -> ModelDemonstration:
        camera, assignment = devices[0], observer.assignments[model]
        with Client(self.broker, mesh=mesh, origin=camera, timeout=20.0) as client:
            manifest = client.manifest(model)
            whole = {
                device: sum(profile.seconds)
                for device in devices
                if (profile := observer.profiles.get((device, model))) is not None
            }
            fastest = min(whole, key=lambda device: whole[device])
            everything = {
                f"plan ({', '.join(partition_texts(assignment.route))})": assignment.route,
                f"all on the camera ({camera})": (Hop(camera, manifest.unit_count),),
                f"all on the fastest ({fastest})": (Hop(fastest, manifest.unit_count),),
            }
            self.say(f"{model}: running the photograph {_RUNS} times in each of {len(everything)} ways")
            taken: dict[str, list[Result]] = {label: [] for label in everything}
            for turn in range(_RUNS + 1):
                for label, route in everything.items():
                    result = client.infer(model, self.image, route=route)
                    if turn > 0:  # the first loads the units
                        taken[label].append(result)
            ways = tuple(
                _comparison(label, route, taken[label], assignment) for label, route in everything.items()
            )
            return ModelDemonstration(manifest, assignment, ways, whole)


def _comparison(
    label: str, route: tuple[Hop, ...], results: list[Result], assignment: Assignment
) -> Comparison:
    results.sort(key=lambda result: result.seconds)
    middle = results[len(results) // 2]
    measured = statistics.median(result.seconds for result in results)
    return Comparison(label, route, _predicted(route, assignment), measured, middle)


def _predicted(route: tuple[Hop, ...], assignment: Assignment) -> float | None:
    plain = [(hop.device, hop.stop) for hop in route]
    if plain == [(hop.device, hop.stop) for hop in assignment.route]:
        return assignment.seconds
    others = [(other.route, other.seconds) for other in assignment.runners_up]
    others += [(other.route, other.seconds) for other in assignment.fallbacks]
    for other_route, seconds in others:
        if plain == [(hop.device, hop.stop) for hop in other_route]:
            return seconds
    return None


def as_plain(found: ModelDemonstration) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "model": found.manifest.name,
        "digest": found.manifest.digest,
        "emulated": list(found.assignment.emulated),
        "ways": [
            {
                "label": way.label,
                "route": [{"device": hop.device, "stop": hop.stop, "codec": hop.codec} for hop in way.route],
                "predicted": way.predicted,
                "measured": way.measured,
            }
            for way in found.ways
        ],
        "outputs": found.ways[0].result.outputs,
    }
