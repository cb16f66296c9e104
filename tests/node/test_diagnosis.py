"""What ``edgemesh doctor`` says about a broker that lacks something."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from edgemesh.node.diagnosis import Finding, _environment, _of_a_plan, _of_no_holder, _size, _Trial
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.protocol.activation import Hop
from tests.brokers.servers import Mosquitto
from tests.roles.build import DIGEST, FACE, TOPICS, about, assignment, heartbeat, state


def test_a_new_environment_is_filled_from_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: the advice asked an index, where the package is not."""
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))

    found = _environment()

    assert found.verdict == "note" and "PEP 668" in found.found
    assert "pip install '.[tflite,image]'" in found.mend and "in the checkout" in found.mend


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("max_packet_size", "the broker refuses 1 MB: it takes 200,000 bytes at most"),
        ("message_size_limit", "the broker refuses 1 MB"),
    ],
)
def test_a_limit_of_size_is_found_and_spoils_no_other_finding(
    setting: str, found: str, tmp_path: Path
) -> None:
    with Mosquitto.shipped(tmp_path, **{setting: "200000"}) as broker:
        payload, retained = asyncio.run(_trials(broker))

    assert (payload.verdict, payload.found) == ("wrong", found) and setting in payload.mend
    assert retained.verdict == "ok"


def test_a_limit_that_photographs_exceed_is_a_note(tmp_path: Path) -> None:
    """As Mosquitto 2.1 has it where its file says nothing."""
    with Mosquitto.shipped(tmp_path, max_packet_size="2000000") as broker:
        payload, _ = asyncio.run(_trials(broker))

    assert payload.verdict == "note" and "at most 2,000,000 bytes" in payload.found
    assert "max_packet_size" in payload.mend


async def _trials(broker: Mosquitto) -> list[Finding]:
    trial = _Trial("home", broker.address)
    try:
        return [await trial.large(), await trial.retained()]
    finally:
        await trial.close()


def test_a_mesh_of_more_messages_than_brokers_send_to_slow_clients_is_told() -> None:
    reading = MeshReading("reader", TOPICS)
    for number in range(801):
        reading.handle(replace(state(f"device-{number}"), retained=True), 1.0)

    (found,) = _size(reading.retained)

    assert found.verdict == "note" and found.found.startswith("801 retained messages")
    assert "max_queued_messages" in found.mend and _size(800) == []


def test_a_plan_that_waits_for_a_device_is_told_with_its_units() -> None:
    """Found by a reader: jobs went over another route for a minute, and nothing was wrong."""
    reading = MeshReading("reader", TOPICS)
    route = Hop("one", 2), Hop("two", 4)
    for event in (
        *map(state, ("one", "two")),
        about("one", DIGEST),
        about("two", DIGEST),
        assignment(*route),
    ):
        reading.handle(event, 1.0)
    plan = reading.view.assignments["face", "app"]

    reading.handle(heartbeat("one", (0, 2)), 1.1)
    reading.handle(heartbeat("two", (0, 4)), 1.1)
    waits = _of_a_plan(reading, plan, ["one", "two"])
    reading.handle(heartbeat("two", (2, 4)), 1.2)
    serves = _of_a_plan(reading, plan, ["one", "two"])

    assert waits.verdict == "note" and "waits for two (units 2 to 4)" in waits.found
    assert (serves.verdict, serves.found) == ("ok", "held by one, two; planned on one, two")


def test_a_model_of_devices_that_are_away_is_not_to_be_added_again() -> None:
    """Found by a reader: after a night, with all boards off, every model was to be added again."""
    reading = MeshReading("reader", TOPICS)
    for event in (about("one", DIGEST), state("one", "stopped"), about("two"), state("two")):
        reading.handle(event, 1.0)

    away = _of_no_holder(reading, FACE)
    reading.handle(about("one"), 2.0)
    nowhere = _of_no_holder(reading, FACE)

    assert away.verdict == "wrong" and away.found == "no device online holds it; away: one"
    assert away.mend.startswith("start one of them again")
    assert nowhere.mend == "add it again:  edgemesh model add ... --name face"
