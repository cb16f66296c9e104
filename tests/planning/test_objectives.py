"""The best plan for each objective: equal to trying every plan."""

from __future__ import annotations

import dataclasses
import math
import warnings
from random import Random
from typing import Any

import numpy as np
import planning_instances as build
import pytest
from planning_instances import Outcome

from edgemesh.planning.costs import bound_ticks
from edgemesh.planning.front import pareto_front
from edgemesh.planning.goal import Goal
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan

ORDERS: dict[str, Any] = {
    "latency": lambda o: (o.seconds, o.partitions, o.nbytes),
    "energy": lambda o: (o.joules, o.seconds, o.partitions, o.nbytes),
    "bounded-energy": lambda o: (o.joules, o.seconds, o.partitions, o.nbytes),
    "throughput": lambda o: (o.bottleneck, o.seconds, o.partitions, o.nbytes),
    "money": lambda o: (o.money, o.joules, o.seconds, o.partitions, o.nbytes),
}


def best_of(outcomes: list[Outcome], goal: Goal) -> tuple[float, ...] | None:
    """What ``goal`` could reach at best, by trying everything."""
    bound = goal.bound(min((o.seconds for o in outcomes), default=0) / 1e9)
    most = math.inf if bound is None else bound_ticks(bound)
    return min((ORDERS[goal.objective](o) for o in outcomes if o.seconds <= most), default=None)


@pytest.mark.parametrize("block", range(10))
def test_every_objective_equals_trying_every_plan(block: int) -> None:
    solvable = differing = 0
    for seed in range(block * 200, block * 200 + 200):
        random = Random(seed)
        instance = build.random_instance(random, units=4 if seed % 4 == 0 else 3)
        outcomes = build.all_outcomes(instance)
        goals = [Goal(name, random.choice((1.0, 1.25, 2.0))) for name in ORDERS]
        goals = goals[: 5 if seed % 2 else 4]  # money every other time
        goals.append(Goal(bound_seconds=0.001 * random.randint(5, 40)))
        reached = set()

        for goal in goals:
            plan = solve(instance, goal)

            best = best_of(outcomes, goal)
            got = ORDERS[goal.objective](build.outcome_of(instance, plan)) if isinstance(plan, Plan) else None
            assert got == best, (seed, goal)
            assert isinstance(plan, Infeasible) or plan.proven
            solvable += best is not None
            reached.add(plan.partitions if isinstance(plan, Plan) else None)
        differing += len(reached) > 1
    assert solvable > 400 and differing > 50


def test_runs_that_cannot_be_are_no_warning_at_a_price_of_nothing() -> None:
    """Found by a reader: infinity times zero, in the output of the decision node."""
    for seed in range(60):
        instance = build.random_instance(Random(seed), units=4)
        edges = instance.unit_count + 1
        runs = np.where(np.tri(edges, dtype=bool), np.inf, 0.001 * (1.0 + np.arange(edges)))  # as measured
        devices = tuple(dataclasses.replace(device, runs=runs) for device in instance.devices)
        instance = dataclasses.replace(instance, devices=devices)
        best = best_of(build.all_outcomes(instance), Goal("throughput"))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plan = solve(instance, Goal("throughput"))

        got = ORDERS["throughput"](build.outcome_of(instance, plan)) if isinstance(plan, Plan) else None
        assert got == best, seed


def front_of(outcomes: list[Outcome]) -> list[tuple[int, int, int, int]]:
    """Every point that none beats, with the least partitions and bytes at it."""
    front: list[tuple[int, int, int, int]] = []
    for o in sorted(outcomes, key=lambda o: (o.seconds, o.joules, o.partitions, o.nbytes)):
        if not front or o.joules < front[-1][1]:
            front.append((o.seconds, o.joules, o.partitions, o.nbytes))
    return front


@pytest.mark.parametrize("block", range(4))
def test_the_front_equals_trying_every_plan_point_for_point(block: int) -> None:
    points = 0
    for seed in range(block * 75, block * 75 + 75):
        instance = build.random_instance(Random(seed), units=4)

        front = pareto_front(instance)

        got = [build.outcome_of(instance, plan) for plan in front]
        best = front_of(build.all_outcomes(instance))
        assert [(o.seconds, o.joules, o.partitions, o.nbytes) for o in got] == best, seed
        assert all(plan.proven for plan in front)
        points += len(best)
    assert points > 40
