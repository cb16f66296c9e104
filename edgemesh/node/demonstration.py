"""The demonstration: emulated boards as separate processes, one photograph, the plan compared with others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgemesh.device.identity import cache_directory, data_directory
from edgemesh.errors import EdgemeshError, NoRouteError
from edgemesh.node import busy_board, killed_board
from edgemesh.node.busy_board import BusyBoard, BusyBoardTest
from edgemesh.node.client import AsyncClient
from edgemesh.node.device_agent import device_directory
from edgemesh.node.fleet import Fleet, device_names
from edgemesh.node.killed_board import KilledBoard, KilledBoardTest
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.policy_change import whoever_runs_this
from edgemesh.node.prepared_job import Result
from edgemesh.observe.plan_table import partition_texts
from edgemesh.planning.goal import Goal
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.what_if import FrontRequest, FrontResponse, PlannedRoute
from edgemesh.runtime.registry import installed_runtimes
from edgemesh.transport.address import BrokerAddress

_RUNS: Final = 5
_READY_SECONDS: Final = 180.0
_STALL_SECONDS: Final = 60.0
"""Without a new measurement for so long the boards that are missing are done without."""
_SETTLE_SECONDS: Final = 3.0
"""Until heartbeats say that boards do not measure any more: until then they count as busy."""
_FIRST_JOBS: Final = 4
"""Over each board, before anything is predicted. Until then links were probed while all boards measured their
units on the cores of this machine, and looked slower than they are."""
_REPORT_SECONDS: Final = 1.5
"""By when the decision node has heard what those jobs took."""
_RELIEF_SECONDS: Final = 4.0
_RELIEF_PAUSE_SECONDS: Final = 0.1
"""Runs that agree and lie seconds apart are believed to be a board's new speed."""
_ASK_SECONDS: Final = 2.0
_BOUND_FACTOR: Final = Goal().bound_factor
_OBJECTIVE: Final = "latency"
"""Splits show best with it; by default a mesh saves energy within a bound."""


@dataclass(frozen=True)
class Comparison:
    """One way of running the model, predicted and measured."""

    label: str
    route: tuple[Hop, ...]
    predicted: float | None
    """Seconds."""
    joules: float | None
    """Modelled: no board is metered here."""
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


@dataclass(frozen=True)
class Acts:
    """Everything that was found."""

    models: tuple[ModelDemonstration, ...]
    busy: BusyBoard
    """A board gets busy under the model whose plan has most partitions."""
    killed: KilledBoard
    """Under the same model, after the load."""


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

    def run(self) -> Acts:
        """Build the mesh, run the photograph, tear the mesh down; raises EdgemeshError."""
        mesh = f"demo-{os.getpid()}"
        devices = list(device_names(self.boards))
        models = self._models()
        try:
            with Fleet(mesh, self.broker_url, self.broker.ca_file, quiet=self.quiet) as fleet:
                self.say(f"starting a decision node, a gateway and {len(devices)} emulated boards")
                fleet.start_mesh(self.boards)
                self._add(mesh, list(models.values()))
                return asyncio.run(self._acts(fleet, devices, list(models)))
        finally:
            for directory in (cache_directory(), data_directory()):
                shutil.rmtree(directory / mesh, ignore_errors=True)

    def _models(self) -> dict[str, str]:
        models = {"face": "zoo:face"}
        if "torch" in installed_runtimes():
            models["mobilenetv2"] = "zoo:mobilenetv2"
        return models

    def _add(self, mesh: str, sources: list[str]) -> None:
        self.say(f"adding {', '.join(sources)}: every board fetches what is added over MQTT")
        environment = {**os.environ, "EDGEMESH_MESH": mesh, "EDGEMESH_BROKER": self.broker_url}
        if self.broker.ca_file is not None:
            environment["EDGEMESH_CA"] = self.broker.ca_file
        command = [sys.executable, "-m", "edgemesh.cli.main", "model", "add"]
        with contextlib.ExitStack() as running:
            processes = {
                source: running.enter_context(_process([*command, source], environment)) for source in sources
            }
            for source, process in processes.items():
                _, said = process.communicate()
                if process.returncode != 0:
                    lines = said.strip().splitlines() or [f"status {process.returncode}"]
                    raise EdgemeshError(f"cannot add {source}: {lines[-1].removeprefix('edgemesh: ')}")

    async def _acts(self, fleet: Fleet, devices: list[str], models: list[str]) -> Acts:
        mesh, camera = fleet.mesh, devices[0]
        async with MeshReader(mesh, self.broker) as reader:
            self.say(
                f"objective of this mesh: least {_OBJECTIVE} (the default is least energy within a bound)"
            )
            policy = Policy(objective=_OBJECTIVE, changed_by=whoever_runs_this())
            for model in models:
                await reader.publish_retained("policy", encode_json(policy), model=model)
            self.say("measuring the models' units on every board")
            await self._until_measured(reader, {(device, model) for device in devices for model in models})
            await asyncio.sleep(_SETTLE_SECONDS)
            for model in models:
                await self._until_planned(reader, model, camera)
            async with AsyncClient(self.broker, mesh=mesh, origin=camera, timeout=20.0) as client:
                await self._use_everything(reader, client, models, devices)
                for model in models:
                    await self._until_planned(reader, model, camera)
                found = tuple([await self._model(reader, client, model, devices) for model in models])
                most_split = max(reversed(found), key=lambda each: len(each.assignment.route))
                busy = await BusyBoardTest(
                    reader,
                    client,
                    most_split.manifest.name,
                    camera,
                    self.image,
                    lambda device: device_directory(mesh, device),
                    self.say,
                ).run()
                await self._notice_relief(client, most_split.manifest.name, busy)
                killed = await KilledBoardTest(
                    reader,
                    client,
                    most_split.manifest.name,
                    camera,
                    self.image,
                    replace(policy, exclude=(camera,)),
                    fleet.kill,
                    self.say,
                ).run()
            return Acts(found, busy, killed)

    async def _use_everything(
        self, reader: MeshReader, client: AsyncClient, models: list[str], devices: list[str]
    ) -> None:
        self.say("a few photographs over each board, so that the links are known")
        for model in models:
            manifest = await client.manifest(model)
            measured = [device for device in devices if (device, model) in reader.reading.profiles]
            for device in measured * _FIRST_JOBS:
                await client.infer(model, self.image, route=(Hop(device, manifest.unit_count),))
        await asyncio.sleep(_REPORT_SECONDS)

    async def _notice_relief(self, client: AsyncClient, model: str, busy: BusyBoard) -> None:
        """Jobs over the board that was busy: idle ones are measured seldom, it would count as busy on."""
        loop = asyncio.get_running_loop()
        self.say(f"{busy.device} is as fast as before again; jobs over it tell the mesh so")
        ends = loop.time() + _RELIEF_SECONDS
        while loop.time() < ends:
            try:
                await client.infer(model, self.image, route=busy.periods[0].route)
            except EdgemeshError:
                await asyncio.sleep(_RELIEF_PAUSE_SECONDS)  # the next one may go through

    async def _until_measured(self, reader: MeshReader, wanted: set[tuple[str, str]]) -> None:
        loop, profiles = asyncio.get_running_loop(), reader.reading.profiles
        ends = loop.time() + _READY_SECONDS
        while not wanted <= profiles.keys():
            known = len(profiles)
            wait = min(_STALL_SECONDS, ends - loop.time())
            if not await reader.until(lambda: len(profiles) > known, wait):  # noqa: B023
                missing = ", ".join(f"{d} ({m})" for d, m in sorted(wanted - profiles.keys()))
                self.say(f"going on without what is not measured yet: {missing}")
                return

    async def _until_planned(self, reader: MeshReader, model: str, camera: str) -> None:
        """A plan that was made with all measurements: asking has it made."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STALL_SECONDS
        while True:
            try:
                await reader.asked_plan(model, camera)
                await reader.assignment(model, camera)
                return
            except NoRouteError as error:
                if loop.time() > ends:
                    raise NoRouteError(f"no plan of {model} after {_STALL_SECONDS:.0f} s: {error}") from None
                await asyncio.sleep(_ASK_SECONDS)

    async def _model(
        self, reader: MeshReader, client: AsyncClient, model: str, devices: list[str]
    ) -> ModelDemonstration:
        camera = devices[0]
        request = FrontRequest(reader.reading.requester, model, camera)
        front = await reader.asked("front", request, FrontResponse)
        assignment = reader.reading.view.assignments[model, camera]
        manifest, profiles = await client.manifest(model), reader.reading.profiles
        whole = {
            device: sum(profiles[device, model].seconds) for device in devices if (device, model) in profiles
        }
        fastest = min(whole, key=lambda device: whole[device])
        everything = {
            f"plan ({', '.join(partition_texts(assignment.route))})": assignment.route,
            f"all on the camera ({camera})": (Hop(camera, manifest.unit_count),),
            f"all on the fastest ({fastest})": (Hop(fastest, manifest.unit_count),),
        }
        thrifty = thriftiest(front.points, _BOUND_FACTOR)
        if thrifty is not None:
            everything[f"least energy within {_BOUND_FACTOR:g} x"] = thrifty.route
        self.say(f"{model}: running the photograph {_RUNS} times in each of {len(everything)} ways")
        taken: dict[str, list[Result]] = {label: [] for label in everything}
        for turn in range(_RUNS + 1):
            for label, route in everything.items():
                result = await client.infer(model, self.image, route=route)
                if turn > 0:  # the first loads the units
                    taken[label].append(result)
        in_force = PlannedRoute(assignment.route, assignment.seconds, assignment.joules or 0.0)
        known = [in_force, *front.points, *front.singles]
        ways = [_comparison(label, route, taken[label], known) for label, route in everything.items()]
        if assignment.joules is None:
            ways = [replace(way, joules=None) for way in ways]  # no watts are known
        return ModelDemonstration(manifest, assignment, tuple(ways), whole)


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Killed when the context is left before it has ended."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=nothing, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def thriftiest(points: Sequence[PlannedRoute], factor: float) -> PlannedRoute | None:
    """The plan of least energy of a front within ``factor`` times its least latency."""
    if not points:
        return None
    bound = factor * min(point.seconds for point in points)
    return min((point for point in points if point.seconds <= bound), key=lambda point: point.joules)


def _comparison(
    label: str, route: tuple[Hop, ...], results: list[Result], known: Sequence[PlannedRoute]
) -> Comparison:
    results.sort(key=lambda result: result.seconds)
    middle = results[len(results) // 2]
    measured = statistics.median(result.seconds for result in results)
    planned = next((each for each in known if each.route == route), None)
    if planned is None:
        return Comparison(label, route, None, None, measured, middle)
    return Comparison(label, route, planned.seconds, planned.joules, measured, middle)


def as_plain(found: Acts) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "models": [_model_as_plain(each) for each in found.models],
        "busy": busy_board.as_plain(found.busy),
        "killed": killed_board.as_plain(found.killed),
    }


def _model_as_plain(found: ModelDemonstration) -> dict[str, Any]:
    return {
        "model": found.manifest.name,
        "digest": found.manifest.digest,
        "objective": found.assignment.objective,
        "emulated": list(found.assignment.emulated),
        "ways": [
            {
                "label": way.label,
                "route": [{"device": hop.device, "stop": hop.stop, "codec": hop.codec} for hop in way.route],
                "predicted": way.predicted,
                "joules": way.joules,
                "measured": way.measured,
            }
            for way in found.ways
        ],
        "outputs": found.ways[0].result.outputs,
    }
