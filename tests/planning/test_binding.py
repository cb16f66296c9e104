"""Which constraint binds, and which pins contradict each other."""

from __future__ import annotations

import math

import numpy as np
import planning_instances as build

from edgemesh.planning.binding import binding_constraint
from edgemesh.planning.contradictions import contradictory_pins
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, Pin
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan


def sentence(instance: Instance, goal: Goal) -> str:
    plan = solve(instance, goal)
    assert isinstance(plan, Plan), plan
    return binding_constraint(instance, plan, goal)


def slow_and_cheap(**others: object) -> Instance:
    """The laptop takes 10 ms and 0.2 J, the Pi 30 ms and 0.06 J."""
    return build.instance(
        [
            build.device("pi", [0.010, 0.020], busy_watts=2.0),
            build.device("laptop", [0.004, 0.006], busy_watts=20.0),
        ],
        weight_bytes=np.array([3.0, 4.0]),
        **others,
    )


def test_the_latency_bound_binds_when_a_cheaper_plan_is_slower() -> None:
    text = sentence(slow_and_cheap(), Goal(bound_factor=1.5))

    assert text.startswith("the latency bound of 15.0 ms binds") and "60.0 mJ instead of 200 mJ" in text


def test_a_pin_binds_and_is_named_with_its_units_and_device() -> None:
    pins = (Pin(0, 2, frozenset({0})),)

    text = sentence(slow_and_cheap(pins=pins), Goal("latency"))

    assert text.startswith("the pin of units 0 to 1 to pi binds") and "10.0 ms instead of 30.0 ms" in text


def test_memory_binds_and_is_named_with_its_device() -> None:
    instance = build.instance(
        [build.device("pi", [0.050]), build.device("laptop", [0.001], memory_limit=5e6)],
        weight_bytes=np.array([8e6]),
    )

    assert sentence(instance, Goal("latency")).startswith(
        "the memory of laptop, 5.0 MB of the 8.0 MB needed, binds"
    )


def test_nothing_binds_where_nothing_constrains() -> None:
    assert sentence(slow_and_cheap(), Goal("latency")).startswith("nothing binds")


def test_a_bound_that_no_plan_keeps_names_the_best_latency() -> None:
    answer = solve(slow_and_cheap(), Goal(bound_seconds=0.005))

    assert isinstance(answer, Infeasible) and answer.kind == "deadline"
    assert "5.00 ms" in answer.reason and "10.0 ms" in answer.reason
    assert answer.reason.endswith("raise the bound to 10.0 ms; no other constraint makes plans slow")


def test_a_bound_that_no_plan_keeps_names_the_constraint_to_lift() -> None:
    pinned = slow_and_cheap(pins=(Pin(1, 2, frozenset({0})),))

    answer = solve(pinned, Goal(bound_seconds=0.012))

    assert isinstance(answer, Infeasible) and answer.kind == "deadline"
    assert "or lift the pin of units 1 to 1 to pi: 10.0 ms would be possible then" in answer.reason


def test_contradictory_pins_are_named_with_their_unit() -> None:
    pins = (Pin(0, 2, frozenset({0})), Pin(1, 2, frozenset({1})))
    instance = slow_and_cheap(pins=pins)

    text = contradictory_pins(instance)

    assert "unit 1 'layer1'" in text and "to pi (units 0 to 1) and to laptop (units 1 to 1)" in text
    answer = solve(instance, Goal())
    assert isinstance(answer, Infeasible) and answer.kind == "pinned" and answer.reason == text


def test_pins_that_share_a_device_do_not_contradict_each_other() -> None:
    pins = (Pin(0, 2, frozenset({0, 1})), Pin(1, 2, frozenset({1})))

    assert contradictory_pins(slow_and_cheap(pins=pins)) == ""


def test_a_device_beyond_the_bound_is_idle_because_it_is_too_slow() -> None:
    from edgemesh.planning.alternatives import alternatives
    from edgemesh.planning.explanation import why_idle

    goal = Goal(bound_seconds=0.012)
    instance = build.instance(
        [
            build.device("laptop", [0.010], busy_watts=20.0),
            build.device("pi", [0.140], busy_watts=1.0),
            build.device("desktop", [0.008], busy_watts=100.0),
            build.device("away", [math.inf]),
        ]
    )
    plan = solve(instance, goal)
    assert isinstance(plan, Plan)

    idle = {
        i.device: i
        for i in why_idle(instance, plan, alternatives(instance, plan, runner_ups=3, goal=goal).using, goal)
    }

    assert idle["pi"].kind == "late" and "140.0 ms against the bound of 12.0 ms" in idle["pi"].text
    assert idle["desktop"].kind == "costlier" and "600 mJ more" in idle["desktop"].text
    assert idle["away"].kind == "incapable"
