"""Whatever the mesh says within the limits of its messages, the decision node goes on; its plans are sound.

Figures are zero, the largest that there are, and everything between: what a decoder refuses is lost, and what
it accepts must not harm.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemesh.protocol.activation import Timing, check_route
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.link import JobReport, LinkReport, RunReport, Transfer
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.presence import (
    About,
    CodecSpeed,
    Heartbeat,
    HeldModel,
    MeasuredRun,
    PowerFigures,
    Profile,
    Resources,
)
from edgemesh.protocol.requests import Policy
from edgemesh.roles.decider import Decider
from edgemesh.roles.events import Connected
from tests.roles.build import DIGEST, FACE, TOPICS, about, heartbeat, manifest, message, profile, state
from tests.roles.driven import Driven, HearsItself, sent

DEVICES = ("one", "two")
UNITS = FACE.unit_count
WILD = st.sampled_from([0.0, 5e-324, 1e-12, 1e-3, 1.0, 86_400.0, 1e12, 1.7e308]) | st.floats(0.0, 86_400.0)
ABOVE_ZERO = st.sampled_from([5e-324, 1e-12, 1e-3, 1.0, 86_400.0]) | st.floats(5e-324, 86_400.0)
COUNTS = st.sampled_from([0, 1, 1000, 1 << 40, (1 << 53) - 1])


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    digest = draw(st.sampled_from([DIGEST, "e" * 64]))
    units = draw(st.sampled_from([UNITS, UNITS, 1, UNITS + 3]))
    runs = (MeasuredRun(0, units, draw(WILD)),)
    return Profile(digest, "tflite", "1", 4, tuple(draw(ABOVE_ZERO) for _ in range(units)), runs=runs)


@st.composite
def reports(draw: st.DrawFn) -> LinkReport:
    kinds = st.sampled_from(["acknowledged", "echoed", "tail", "received"])
    peers = st.sampled_from([None, *DEVICES, "nobody"])
    transfers = [Transfer(draw(kinds), draw(COUNTS), draw(WILD), draw(peers)) for _ in range(3)]
    start = draw(st.integers(0, UNITS - 1))
    runs = (RunReport(DIGEST, start, draw(st.integers(start + 1, 1024)), draw(WILD)),)
    jobs = (JobReport("face", DIGEST, "app", draw(COUNTS), draw(COUNTS), draw(WILD)),)
    return LinkReport("b-1", tuple(transfers), runs, jobs)


@st.composite
def resources(draw: st.DrawFn) -> Resources:
    idle, busy = sorted([draw(st.floats(0.0, 10_000.0)), draw(st.floats(0.0, 10_000.0))])
    power = PowerFigures(idle, busy, draw(st.floats(0.0, 10_000.0)), "plug tasmota")
    temperature = draw(st.sampled_from([None, -300.0, 1e300]))
    return Resources(
        draw(st.floats(0.0, 1.0)),
        draw(COUNTS),
        draw(COUNTS),
        temperature,
        watts=draw(WILD),
        battery=draw(st.sampled_from([None, 0.0, 1.0])),
        on_battery=draw(st.sampled_from([None, True])),
        power=draw(st.sampled_from([None, power])),
    )


@st.composite
def abouts(draw: st.DrawFn) -> About:
    codecs = (CodecSpeed("raw", draw(WILD), draw(WILD)), CodecSpeed("q8", draw(WILD), draw(WILD)))
    return About(
        "b-1", "", "no such board", {"tflite": ""}, draw(COUNTS), draw(COUNTS), (HeldModel("face", DIGEST),),
        codecs=codecs,
    )  # fmt: skip


@st.composite
def nonsense(draw: st.DrawFn) -> Any:
    """One message about one device, or the gateway."""
    device = draw(st.sampled_from(DEVICES))
    beat = Heartbeat("b-1", 1, draw(COUNTS), draw(WILD), draw(st.floats(0.0, 1.0)))
    return draw(
        st.one_of(
            profiles().map(lambda told: message("profile", told, device=device, model="face")),
            reports().map(
                lambda told: message("link", told, requester=draw(st.sampled_from([device, "gateway-0"])))
            ),
            resources().map(lambda told: message("resources", told, device=device)),
            abouts().map(lambda told: message("about", told, device=device)),
            st.just(message("heartbeat", beat, device=device)),
        )
    )


def running() -> Driven:
    """A decision node with a model planned on two devices."""
    decider = HearsItself(Decider("laptop", "b-9", 3, TOPICS))
    decider.take(Connected(), at=0.0)
    decider.take(manifest())
    decider.take(message("policy", Policy(codecs=("raw", "q8")), model="face", retained=True))
    for device in DEVICES:
        decider.take(state(device))
        decider.take(about(device, DIGEST))
        decider.take(profile(device))
        decider.take(heartbeat(device))
    decider.pass_until(3.0)
    return decider


def plans(actions: list[Any]) -> list[Assignment]:
    return [
        decode_json(Assignment, action.payload) for action in sent("assignment", actions) if action.payload
    ]


def assert_sound(plan: Assignment) -> None:
    check_route(plan.route)
    assert plan.route[-1].stop == UNITS
    assert all(hop.device in DEVICES for hop in plan.route)
    figures = [plan.seconds, plan.return_seconds, *(hop.run for hop in plan.hops)]
    assert all(math.isfinite(figure) and figure >= 0.0 for figure in figures), figures


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(nonsense(), min_size=1, max_size=25))
def test_nonsense_neither_stops_the_decision_node_nor_its_plans(told: list[Any]) -> None:
    decider = running()
    assert plans(decider.done)

    for event in told:
        decider.take(event)
        decider.pass_until(decider.now + 0.5)
        for device in DEVICES:
            decider.take(state(device))
    decider.pass_until(decider.now + 6.0)

    for plan in plans(decider.done):
        assert_sound(plan)
    # It still decides: sense after nonsense is planned with.
    seen = len(decider.done)
    for device in DEVICES:
        decider.take(about(device, DIGEST, boot="b-2"))
        decider.take(profile(device))
    for _ in range(20):
        for device in DEVICES:
            decider.take(heartbeat(device, boot="b-2"))
        decider.pass_until(decider.now + 1.0)
    assert sent("decision", decider.done[seen:])
    in_force = plans(decider.done)[-1]
    assert_sound(in_force)


@pytest.mark.parametrize("seconds", [86_400.0, 86_401.0, 1.7e308])
def test_jobs_said_to_have_taken_for_ever_are_compared_all_the_same(seconds: float) -> None:
    decider = running()
    plan = plans(decider.done)[-1]
    timings = tuple(Timing(hop.device, hop.start, hop.stop, seconds, seconds, seconds) for hop in plan.hops)
    job = JobReport("face", DIGEST, "app", *plan.epoch, seconds, timings=timings, arrived=0.0)
    for _ in range(2):
        decider.take(message("link", LinkReport("b-1", (), (), (job, job)), requester="gateway-0"))

    outcome = decode_json(Outcome, encode_json(decider.role.estimates.outcomes.outcome("face", "app")))
    assert outcome.jobs == (4 if seconds <= 86_400.0 else 0)
    assert outcome.seconds == (seconds if seconds <= 86_400.0 else None)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e9])
def test_a_profile_of_impossible_seconds_is_refused_and_the_plan_stays(seconds: float) -> None:
    decider = running()
    before = plans(decider.done)
    good = message("profile", Profile(DIGEST, "tflite", "1", 4, (0.25,) * UNITS), device="one", model="face")
    bad = good.payload.replace(b"0.25", json.dumps(seconds).encode(), 1)

    decider.take(message("profile", bad, device="one", model="face"))
    decider.pass_until(8.0)

    assert plans(decider.done) == before
