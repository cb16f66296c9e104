"""Fallbacks, runner-ups and plans for idle devices."""

from __future__ import annotations

import dataclasses
import math
from random import Random

import planning_instances as build

from edgemesh.planning.alternatives import all_on_one_device, alternatives
from edgemesh.planning.costs import bound_ticks
from edgemesh.planning.effort import SEARCH_BASE
from edgemesh.planning.explanation import why_idle
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Pin
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan
from edgemesh.planning.within import plans_within_using


def test_a_fallback_avoids_its_device_and_is_the_best_that_does() -> None:
    found = 0
    for seed in range(150):
        instance = build.random_instance(Random(seed))
        plan = solve_latency(instance)
        if not isinstance(plan, Plan):
            continue

        fallbacks = alternatives(instance, plan, runner_ups=3).fallbacks

        assert set(fallbacks) == set(plan.devices)
        for device, fallback in fallbacks.items():
            excluded = instance.excluded | {instance.indices[device]}
            best = build.best_by_trying(dataclasses.replace(instance, excluded=excluded))
            assert (build.figures(fallback) if fallback else None) == best, seed
            assert fallback is None or device not in fallback.devices
            found += fallback is not None
    assert found > 30


def test_the_best_plan_that_uses_an_idle_device_equals_trying_every_plan() -> None:
    found = 0
    for seed in range(150):
        instance = build.random_instance(Random(seed))
        plan = solve_latency(instance)
        if not isinstance(plan, Plan):
            continue

        using = alternatives(instance, plan, runner_ups=3).using

        for device, other in using.items():
            best = build.best_by_trying(instance, using=instance.indices[device])
            assert (build.figures(other) if other else None) == best, seed
            assert other is None or device in other.devices
            found += other is not None
    assert found > 30


def test_beyond_the_work_fallbacks_are_whole_and_the_devices_left_out_are_named() -> None:
    examined = left_out = 0
    for seed in range(150):
        instance = build.random_instance(Random(seed), devices=6)
        plan = solve(instance, Goal())
        if not isinstance(plan, Plan):
            continue
        whole = alternatives(instance, plan, runner_ups=3, goal=Goal(), work=math.inf)

        some = alternatives(instance, plan, runner_ups=3, goal=Goal(), work=1.3 * SEARCH_BASE)

        assert some.fallbacks == whole.fallbacks and not whole.unexamined
        for device, other in whole.using.items():
            if device not in some.unexamined:
                assert some.using[device] == other, (seed, device)
                examined += other is not None
        told = {idle.device: idle for idle in why_idle(instance, plan, some.using, Goal(), some.unexamined)}
        assert set(told) == set(whole.using)
        assert all(told[device].text.startswith("not examined") for device in some.unexamined)
        left_out += len(some.unexamined)
    assert examined > 100 and left_out > 15


def test_a_pinned_device_has_no_fallback() -> None:
    instance = build.instance(
        [build.device("camera", [0.001, 0.1]), build.device("desktop", [0.001, 0.001])],
        pins=(Pin(0, 1, frozenset({0})),),
    )
    plan = solve_latency(instance)
    assert isinstance(plan, Plan)

    fallbacks = alternatives(instance, plan, runner_ups=3).fallbacks

    assert fallbacks["camera"] is None
    desktop = fallbacks["desktop"]
    assert desktop is not None and desktop.devices == ("camera",)


def test_runner_ups_are_distinct_and_sorted_and_no_better_than_the_plan() -> None:
    for seed in range(100):
        instance = build.random_instance(Random(seed))
        plan = solve_latency(instance)
        if not isinstance(plan, Plan):
            continue

        others = alternatives(instance, plan, runner_ups=2).runner_ups

        assert len(others) <= 2
        assert len({plan.partitions, *(other.partitions for other in others)}) == len(others) + 1
        totals = [plan.total, *(other.total for other in others)]
        assert totals == sorted(totals)


def test_all_on_one_device_is_an_ordinary_candidate() -> None:
    instance = build.instance([build.device("pi", [0.01, 0.02]), build.device("zero", [0.1, math.inf])])

    plans = all_on_one_device(instance)

    whole = plans["pi"]
    assert whole is not None and whole.partitions == tuple(build.forced((0, 2, "pi")))
    assert plans["zero"] is None


def test_the_cheapest_plan_within_the_bound_that_uses_a_device_equals_trying_every_plan() -> None:
    found = 0
    for seed in range(150):
        instance = build.random_instance(Random(seed), units=3)
        plan = solve(instance, Goal())
        if not isinstance(plan, Plan) or plan.bound is None:
            continue
        outcomes = [o for o in build.all_outcomes(instance) if o.seconds <= bound_ticks(plan.bound)]

        using = plans_within_using(instance, ("joules",), plan.bound, range(len(instance.devices)))

        for device, other in using.items():
            best = min(((o.joules, o.seconds) for o in outcomes if device in o.used), default=None)
            got = build.outcome_of(instance, other) if other else None
            assert (got and (got.joules, got.seconds)) == best, (seed, device)
            found += best is not None
    assert found > 50
