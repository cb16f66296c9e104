"""What ``edgemesh plan MODEL`` shows of several origins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgemesh.errors import NoRouteError
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.node.policy_change import _told_of
from edgemesh.protocol.assignment import PlanFailure
from tests.roles.build import TOPICS

APP, KITCHEN, SHED = ("face", "app"), ("face", "kitchen"), ("face", "shed")


class Reader:
    """There is a plan for the origins in ``planned``; of the others it is only said that there is none."""

    def __init__(self, *planned: str) -> None:
        self.reading = MeshReading("reader", TOPICS)
        self._planned = planned

    async def assignment(self, model: str, origin: str) -> None:
        if origin not in self._planned:
            raise NoRouteError(f"no assignment of {model} for {origin}: not planned yet")


def told(reader: Reader, *keys: tuple[str, str]) -> list[tuple[str, str]]:
    given: Any = reader
    return asyncio.run(_told_of(given, list(keys)))


def test_an_origin_that_has_left_hides_no_plan_of_another() -> None:
    """Found by a reader: a device that had been an origin once, and was off, took the plan from all."""
    reader = Reader("app")
    reader.reading.failures[KITCHEN] = PlanFailure("face", "kitchen", "unavailable", "kitchen is offline")

    assert told(reader, APP, KITCHEN, SHED) == [APP, KITCHEN]


def test_where_no_origin_has_a_plan_it_is_said_why() -> None:
    with pytest.raises(NoRouteError, match="no assignment of face for app: not planned yet"):
        told(Reader(), APP, KITCHEN)
