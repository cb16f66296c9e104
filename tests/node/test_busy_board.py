"""A board gets busy under a stream of jobs: what is told of it, and that the load never stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgemesh.device.emulated_load import FILE
from edgemesh.errors import BusyError
from edgemesh.node.busy_board import TIMES, BusyBoard, BusyBoardTest, busiest, why_kept
from edgemesh.node.prepared_job import Result
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment, HopPrediction
from edgemesh.protocol.presence import Profile
from edgemesh.protocol.what_if import FrontResponse, PlannedRoute

SPLIT = (Hop("pi", 2), Hop("desk", 4))
ALONE = (Hop("pi", 4),)
OWN = 0.01
"""Seconds of each unit on each board."""


def assignment(route: tuple[Hop, ...], reason: str = "first plan") -> Assignment:
    starts = (0, *(hop.stop for hop in route))
    hops = [
        HopPrediction(hop.device, start, hop.stop, 0.0, 0.0, OWN * (hop.stop - start), 0)
        for hop, start in zip(route, starts, strict=False)
    ]
    digest = "a" * 64
    return Assignment(
        1, 1, "face", digest, "pi", "latency", route, tuple(hops), 0.0, 0.05, reason, joules=0.2
    )


@dataclass
class Mesh:
    """Reader, client and decision node at once; a second is ten turns of the event loop."""

    directory: Path
    after: Assignment | None
    """What is assigned after five jobs under the load."""
    in_force: Assignment = field(default_factory=lambda: assignment(SPLIT))
    run: float = OWN
    """Seconds that a unit takes in a job."""
    loads: list[float] = field(default_factory=list)
    under_load: int = 0
    failing: int = 0
    elsewhere: float = 0.3
    """Seconds of a job that does everything on the other device."""

    # --- as the reader ---
    requester = "reader"

    @property
    def reading(self) -> Mesh:
        return self

    @property
    def view(self) -> Mesh:
        return self

    @property
    def assignments(self) -> dict[tuple[str, str], Assignment]:
        return {("face", "pi"): self.in_force}

    @property
    def profiles(self) -> dict[tuple[str, str], Profile]:
        profile = Profile("a" * 64, "tflite", "2.0", 1, (OWN,) * 4, (0.0,) * 4)
        return {("pi", "face"): profile, ("desk", "face"): profile}

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        for _ in range(int(seconds * 10)):
            if holds():
                return True
            await asyncio.sleep(0)
        return holds()

    async def asked(self, verb: str, request: object, response: type) -> FrontResponse:
        route = self.in_force.route
        plan = PlannedRoute(route, 0.07)
        there = PlannedRoute((Hop("desk", 4),), self.elsewhere)
        return FrontResponse("reader", "face", "pi", points=(plan,), in_force=plan, singles=(there,))

    # --- as the client ---
    async def infer(self, model: str, image: bytes) -> Result:
        route = self.in_force.route
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise BusyError("desk is busy")
        file = self.directory / FILE
        if file.exists():
            self.loads.append(float(file.read_text()))
            self.under_load += 1
            if self.under_load == 5 and self.after is not None:
                self.in_force = self.after
        starts = (0, *(hop.stop for hop in route))
        timings = [
            Timing(hop.device, start, hop.stop, queue=0.0, run=self.run * (hop.stop - start), code=0.0)
            for hop, start in zip(route, starts, strict=False)
        ]
        return Result("face", 0.08 if file.exists() else 0.05, route, tuple(timings), 1, None)


def second_act(mesh: Any, said: list[str]) -> BusyBoardTest:
    return BusyBoardTest(mesh, mesh, "face", "pi", b"", lambda device: mesh.directory, said.append)


def played(mesh: Mesh) -> BusyBoard:
    return asyncio.run(second_act(mesh, []).run())


def test_before_and_after_stand_beside_each_other(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, assignment(ALONE, "desk became slow"), failing=1)

    found = played(mesh)

    assert (found.device, found.times, found.failed) == ("desk", TIMES, 1)
    assert [period.route for period in found.periods] == [SPLIT, SPLIT, ALONE]
    assert [period.measured for period in found.periods] == [0.05, 0.08, 0.08]
    assert found.periods[1].jobs >= 4 and found.periods[2].jobs >= 10
    assert found.noticed is not None and found.reason == "desk became slow"
    assert not list(tmp_path.iterdir())


def test_a_plan_that_stays_is_explained(tmp_path: Path) -> None:
    found = played(Mesh(tmp_path, None))

    assert found.noticed is None
    assert [period.route for period in found.periods] == [SPLIT, SPLIT]
    assert found.reason == "it is the fastest even so (70.0 ms); all on desk would take 300.0 ms"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("run", "load"), [(OWN, TIMES), (OWN / 2, TIMES), (2 * OWN, 2 * TIMES)])
def test_a_machine_slower_than_the_board_gets_a_load_that_jobs_notice(
    tmp_path: Path, run: float, load: float
) -> None:
    mesh = Mesh(tmp_path, assignment(ALONE), run=run)

    played(mesh)

    assert mesh.loads[0] == pytest.approx(load)


def test_the_load_is_gone_when_the_act_is_cut_short(tmp_path: Path) -> None:
    async def cut_short() -> None:
        mesh = Mesh(tmp_path, None)
        act = asyncio.create_task(second_act(mesh, []).run())
        while not mesh.loads:
            await asyncio.sleep(0)
        act.cancel()
        with pytest.raises(asyncio.CancelledError):
            await act

    asyncio.run(cut_short())

    assert not list(tmp_path.iterdir())


def test_the_camera_gets_busy_only_where_it_does_everything() -> None:
    assert busiest(assignment((Hop("pi", 3), Hop("desk", 4))), "pi") == "desk"
    assert busiest(assignment(ALONE), "pi") == "pi"


@pytest.mark.parametrize(("elsewhere", "times"), [(0.25, 15.0), (0.06, TIMES)])
def test_a_camera_that_does_everything_gets_busy_enough_to_let_go(
    tmp_path: Path, elsewhere: float, times: float
) -> None:
    mesh = Mesh(tmp_path, assignment(SPLIT), in_force=assignment(ALONE), elsewhere=elsewhere)

    found = played(mesh)

    assert (found.device, found.times) == ("pi", times)


def test_a_faster_plan_that_is_not_taken_is_owned_up_to() -> None:
    now, best = PlannedRoute(SPLIT, 0.2), PlannedRoute(ALONE, 0.1)

    text = why_kept(FrontResponse("r", "face", "pi", points=(best,), in_force=now, singles=(best,)))

    assert text.startswith("pi 0-4 would take 100.0 ms instead of 200.0 ms, but")
