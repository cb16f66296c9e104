"""A board is killed under a job: what is told of it, and that nothing is told that did not happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edgemesh.errors import DeadlineError
from edgemesh.node.killed_board import KilledBoard, KilledBoardTest, largest_difference
from edgemesh.node.prepared_job import Result
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.tensors import section_bytes
from tests.node.test_busy_board import ALONE, SPLIT, assignment

ELSEWHERE = (Hop("pi", 2), Hop("lap", 4))
NORMAL, LATE = 0.005, 0.02
"""Seconds that jobs report."""
JOBS = 10
"""Of a median."""


def result(route: tuple[Hop, ...], seconds: float = NORMAL, attempts: int = 1, value: float = 1.0) -> Result:
    section = section_bytes([np.full(3, value, np.float32)])
    return Result("face", seconds, route, (), attempts, 0.06, section)


@dataclass
class Mesh:
    """Reader, client and decision node at once."""

    in_force: Assignment = field(default_factory=lambda: assignment(SPLIT))
    boards: tuple[str, ...] = ("desk", "lap", "pi")
    killed: list[str] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    hit: Result | Exception = field(default_factory=lambda: result(ELSEWHERE, LATE, 2))
    """What becomes of the job under which a board is killed."""
    too_fast: bool = False
    """Whether jobs end before anything can happen to them."""
    replans: bool = True
    goes_back: bool = False
    """Whether the plan becomes one of the camera alone under the jobs before."""
    jobs: int = 0
    aimed_after: int = JOBS
    """Jobs of the median come before the one that is to be hit."""

    # --- as the reader ---
    @property
    def reading(self) -> Mesh:
        return self

    @property
    def view(self) -> Mesh:
        return self

    @property
    def assignments(self) -> dict[tuple[str, str], Assignment]:
        return {("face", "pi"): self.in_force}

    def online(self) -> list[str]:
        return [board for board in self.boards if board not in self.killed]

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        for _ in range(100):
            if holds():
                return True
            await asyncio.sleep(0)
        return holds()

    async def publish_retained(self, kind: str, payload: bytes, **names: str) -> None:
        self.policies.append(decode_json(Policy, payload))
        self.in_force = assignment((Hop("desk", 4),))
        self.aimed_after = self.jobs + JOBS

    # --- as the client ---
    async def infer(self, model: str, image: bytes) -> Result:
        self.jobs += 1
        if self.jobs == 3 and self.goes_back:
            self.in_force, self.goes_back = assignment(ALONE), False
        if self.jobs <= self.aimed_after or self.killed or self.too_fast:
            return result(self.in_force.route)
        while not self.killed:
            await asyncio.sleep(0)
        if self.replans:
            self.in_force = assignment(ELSEWHERE, "desk is gone")
        if isinstance(self.hit, Exception):
            raise self.hit
        return self.hit

    def kill(self, name: str) -> None:
        self.killed.append(name)


def played(mesh: Any) -> KilledBoard:
    said: list[str] = []
    without = Policy(exclude=("pi",))
    act = KilledBoardTest(mesh, mesh, "face", "pi", b"", without, mesh.kill, said.append)
    return asyncio.run(act.run())


def test_the_job_under_way_is_told_beside_those_before_and_after() -> None:
    mesh = Mesh()

    found = played(mesh)

    assert mesh.killed == ["desk"] and mesh.policies == []
    assert found.kill is not None
    assert (found.kill.device, found.kill.hit, found.kill.attempts) == ("desk", True, 2)
    assert found.kill.late == pytest.approx(LATE - NORMAL) and found.kill.difference == 0.0
    assert found.kill.replanned is not None
    assert [(period.route, period.jobs) for period in found.periods] == [
        (SPLIT, 10), (ELSEWHERE, 1), (ELSEWHERE, 10),
    ]  # fmt: skip


def test_an_answer_that_differs_is_owned_up_to() -> None:
    found = played(Mesh(hit=result(ELSEWHERE, LATE, 2, value=1.25)))

    assert found.kill is not None and found.kill.difference == 0.25


@pytest.mark.parametrize("answer", [result(SPLIT, NORMAL, 1), result(SPLIT, NORMAL, 2)])
def test_a_job_that_came_home_over_the_dead_board_was_not_hit(answer: Result) -> None:
    found = played(Mesh(hit=answer))

    assert found.kill is not None
    assert (found.kill.hit, found.kill.late) == (False, None)
    assert [period.label for period in found.periods] == ["before", "plan without desk"]


def test_a_job_that_ended_in_an_error_is_told_with_the_error() -> None:
    found = played(Mesh(hit=DeadlineError("the job did not end in 20 s")))

    assert found.kill is not None and (found.kill.hit, found.kill.seconds) == (False, None)
    assert "did not end in 20 s" in found.note


def test_jobs_that_are_over_at_once_are_not_said_to_be_hit() -> None:
    mesh = Mesh(too_fast=True)

    found = played(mesh)

    assert mesh.killed == [] and found.kill is None
    assert "ended before desk could be killed" in found.note


def test_no_plan_without_the_board_is_told_as_such() -> None:
    found = played(Mesh(replans=False))

    assert found.kill is not None and found.kill.replanned is None
    assert len(found.periods) == 2


@pytest.mark.parametrize(
    "mesh", [Mesh(assignment(ALONE), aimed_after=1000), Mesh(goes_back=True, aimed_after=1000)]
)
def test_a_camera_that_does_everything_is_kept_from_it_by_policy_and_never_killed(mesh: Mesh) -> None:
    found = played(mesh)

    assert found.without_camera and mesh.policies == [Policy(exclude=("pi",))]
    assert mesh.killed == ["desk"] and found.kill is not None and found.kill.hit
    assert found.periods[0].route == (Hop("desk", 4),)


def test_without_two_other_boards_a_camera_that_does_everything_stays_alone() -> None:
    mesh = Mesh(assignment(ALONE), boards=("pi", "desk"))

    found = played(mesh)

    assert found.kill is None and mesh.killed == [] and mesh.policies == []
    assert found.note


def test_outputs_of_other_shapes_differ_without_bound() -> None:
    other = Result("face", 0.1, (), (), 1, None, section_bytes([np.zeros(4, np.float32)]))

    assert largest_difference(result(SPLIT), other) == float("inf")
