"""Rules of the crash bench: a model that keeps killing the executor is left out, named, and taken again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Heartbeat, Profile
from edgemesh.roles.actions import Action, Log, RunUnits
from edgemesh.roles.crash_bench import CRASHES, FIRST_BENCH_SECONDS
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import (
    Connected,
    ContentStored,
    ExecutorLost,
    ProfileFound,
    RangeLoaded,
)
from edgemesh.simulation.models import made_up_model
from tests.roles.build import DIGEST, FACE, TOPICS, activation, assignment, message, state
from tests.roles.driven import Driven, codes, only, replies, sent

SETTINGS = DeviceSettings("one", "b-1", "edgemesh test", "pi-4b", {"tflite": "2.14"}, 4, 1 << 30)
ALONE = (Hop("one", FACE.unit_count),)


@pytest.fixture
def device() -> Iterator[Driven]:
    """Device ``one`` that holds model ``face`` and is assigned all of it, loaded."""
    driven = Driven(Device(SETTINGS, TOPICS))
    driven.take(Connected(), at=0.0)
    driven.take(state("one"))
    hold(driven, FACE)
    driven.take(assignment(*ALONE))
    driven.take(RangeLoaded(DIGEST, 0, FACE.unit_count, 0))
    yield driven
    runs = [run.run for run in only(RunUnits, driven.done)]
    assert len(runs) == len(set(runs))


def hold(device: Driven, manifest: Manifest) -> None:
    device.take(message("model", manifest, model=manifest.name))
    device.take(ContentStored(manifest.digest))
    profile = Profile(manifest.digest, "tflite", "2.14", 4, (0.01,) * manifest.unit_count)
    device.take(ProfileFound(manifest.digest, profile))


def crash(device: Driven, job: str, *, digest: str = DIGEST) -> list[Action]:
    """A job of ``face`` comes, and the executor dies of it."""
    device.take(activation(job, route=ALONE))
    return device.take(ExecutorLost("the executor process ended by signal 11", digest))


def last_ready(device: Driven) -> set[str]:
    told = decode_json(Heartbeat, sent("heartbeat", device.done)[-1].payload)
    return {partition.digest for partition in told.ready}


def test_answers_jobs_of_a_model_that_killed_the_executor_three_times_at_once_with_its_name(
    device: Driven,
) -> None:
    for number in range(CRASHES):
        crash(device, f"j-{number}")

    actions = device.take(activation("j-9", route=ALONE))

    (answer,) = replies(actions)
    assert answer.code == "bad-model"
    assert answer.text is not None and "model face" in answer.text and "one" in answer.text
    assert not only(RunUnits, actions)


def test_two_deaths_bench_nothing(device: Driven) -> None:
    for number in range(CRASHES - 1):
        crash(device, f"j-{number}")

    assert only(RunUnits, device.take(activation("j-9", route=ALONE)))


def test_deaths_that_lie_far_apart_bench_nothing(device: Driven) -> None:
    for number in range(CRASHES):
        device.pass_until(40.0 * number)
        crash(device, f"j-{number}")

    assert only(RunUnits, device.take(activation("j-9", route=ALONE)))


def test_jobs_that_wait_when_their_model_is_benched_are_answered_and_not_run(device: Driven) -> None:
    for number in range(CRASHES - 1):
        crash(device, f"j-{number}")
    device.take(activation("j-7", route=ALONE))
    device.take(activation("j-8", route=ALONE))

    actions = device.take(ExecutorLost("the executor process ended by signal 11", DIGEST))

    assert codes(actions) == [("j-7", "run-failed"), ("j-8", "bad-model")]
    assert not only(RunUnits, actions)


def test_a_benched_model_is_not_ready_and_heartbeats_go_on(device: Driven) -> None:
    assert last_ready(device) == {DIGEST}
    for number in range(CRASHES):
        crash(device, f"j-{number}")
    device.take(RangeLoaded(DIGEST, 0, FACE.unit_count, 0))

    before = len(sent("heartbeat", device.done))
    device.pass_until(device.now + 5.0)

    assert len(sent("heartbeat", device.done)) > before
    assert last_ready(device) == set()


def test_a_benched_model_is_taken_again_after_a_while_that_doubles(device: Driven) -> None:
    for number in range(CRASHES):
        crash(device, f"j-{number}")
    device.take(RangeLoaded(DIGEST, 0, FACE.unit_count, 0))

    device.pass_until(device.now + FIRST_BENCH_SECONDS)

    assert last_ready(device) == {DIGEST}
    for number in range(CRASHES):
        assert only(RunUnits, device.take(activation(f"k-{number}", route=ALONE)))
        device.take(ExecutorLost("the executor process ended by signal 11", DIGEST))
    device.pass_until(device.now + FIRST_BENCH_SECONDS)
    assert codes(device.take(activation("j-9", route=ALONE))) == [("j-9", "bad-model")]
    device.pass_until(device.now + FIRST_BENCH_SECONDS)
    assert only(RunUnits, device.take(activation("j-10", route=ALONE)))


def test_other_models_are_run_while_one_is_benched(device: Driven) -> None:
    other, _ = made_up_model("other")
    hold(device, other)
    for number in range(CRASHES):
        crash(device, f"j-{number}")

    work = activation("j-9", model="other", digest=other.digest, route=(Hop("one", other.unit_count),))

    assert only(RunUnits, device.take(work))


def test_replaced_content_is_taken_at_once(device: Driven) -> None:
    for number in range(CRASHES):
        crash(device, f"j-{number}")
    replacement, _ = made_up_model(content_bytes=250_000)
    assert replacement.digest != DIGEST

    hold(device, replacement)
    route = (Hop("one", replacement.unit_count),)

    assert only(RunUnits, device.take(activation("j-9", digest=replacement.digest, route=route)))


def test_a_death_that_no_model_caused_is_held_against_none(device: Driven) -> None:
    for number in range(CRASHES):
        device.take(activation(f"j-{number}", route=ALONE))
        device.take(ExecutorLost("the executor process ended with status 1"))

    assert only(RunUnits, device.take(activation("j-9", route=ALONE)))
    assert not [log for log in only(Log, device.done) if log.level == "error"]
