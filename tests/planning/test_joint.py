"""Several models on shared devices: together never worse than one by one, and often better."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import planning_instances as build
import pytest

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.joint import Load, loads_of, plan_jointly, under_load
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan

MESHES = 16


def crowded_mesh(seed: int) -> tuple[list[Instance], list[Goal], list[float]]:
    """Three to five tasks on four devices of different speeds, of which no one could carry them all."""
    random = Random(seed)
    speeds = [
        random.uniform(0.5, 2.0),
        random.uniform(1.0, 4.0),
        random.uniform(2.0, 8.0),
        random.uniform(4.0, 16.0),
    ]
    watts = [random.choice((2.0, 4.0)), 6.0, 15.0, 60.0]
    links = [
        build.link(up=random.uniform(1e6, 2e7), down=random.uniform(1e6, 2e7), latency_up=0.001)
        for _ in speeds
    ]
    memory = [random.uniform(40e6, 400e6) for _ in speeds]
    instances, goals, demands = [], [], []
    for _ in range(random.randint(3, 5)):
        units = random.randint(4, 10)
        work = [random.uniform(0.01, 0.06) for _ in range(units)]
        instances.append(
            build.instance(
                [
                    build.device(
                        f"d{d}",
                        [w / speed for w in work],
                        link=links[d],
                        busy_watts=watts[d],
                        radio_watts=0.5,
                        memory_limit=memory[d],
                        run_overhead=0.001,
                    )
                    for d, speed in enumerate(speeds)
                ],
                [[random.uniform(1e4, 4e5)] for _ in range(units + 1)],
                weight_bytes=np.array([random.uniform(1e6, 2e7) for _ in range(units)]),
                peak_bytes=np.full(units, 1e6),
                origin=random.randrange(2),
            )
        )
        goals.append(Goal(random.choice(("latency", "bounded-energy")), 1.5))
        demands.append(random.uniform(1.0, 12.0))
    return instances, goals, demands


def test_joint_plans_are_never_worse_than_one_by_one_and_better_on_a_third_of_crowded_meshes() -> None:
    better = 0
    for seed in range(MESHES):
        joint = plan_jointly(*crowded_mesh(seed))

        assert joint.total <= joint.one_by_one, seed
        better += joint.total < 0.99 * joint.one_by_one
    assert better >= MESHES / 3


def test_joint_plans_keep_the_memory_of_every_device() -> None:
    for seed in range(MESHES // 2):
        instances, goals, demands = crowded_mesh(seed)

        joint = plan_jointly(instances, goals, demands)

        held: dict[str, float] = {}
        for instance, plan in zip(instances, joint.plans, strict=True):
            if isinstance(plan, Plan):
                for device, load in loads_of(instance, plan, 1.0).items():
                    held[device] = held.get(device, 0.0) + load.held
        for device in instances[0].devices:
            assert held.get(device.id, 0.0) <= device.memory_limit + 1e-6


def test_equal_tasks_get_equal_plans() -> None:
    assert plan_jointly(*crowded_mesh(3)) == plan_jointly(*crowded_mesh(3))


def test_the_greater_task_gets_the_only_memory_that_can_hold_it() -> None:
    # One by one, the small model takes the fast device and the great one has no place left.
    small = build.instance(
        [build.device("pi", [0.05], memory_limit=10e6), build.device("desktop", [0.01], memory_limit=50e6)],
        weight_bytes=np.array([8e6]),
    )
    great = build.instance(
        [build.device("pi", [0.5], memory_limit=10e6), build.device("desktop", [0.1], memory_limit=50e6)],
        weight_bytes=np.array([45e6]),
    )

    joint = plan_jointly([small, great], [Goal("latency")] * 2, [1.0, 1.0])

    first, second = joint.plans
    assert isinstance(first, Plan) and first.devices == ("pi",)
    assert isinstance(second, Plan) and second.devices == ("desktop",)
    assert joint.one_by_one > 1000.0 > joint.total


def test_a_task_that_nothing_can_run_does_not_stop_the_others() -> None:
    fine, impossible = (build.instance([build.device("a", [seconds])]) for seconds in (0.01, math.inf))

    joint = plan_jointly([fine, impossible], [Goal()] * 2, [1.0, 1.0])

    assert isinstance(joint.plans[0], Plan) and isinstance(joint.plans[1], Infeasible)


def test_a_load_of_others_lengthens_the_queue_as_pollaczek_and_khinchine_say() -> None:
    # Five jobs of 0.1 s each second: half busy, and a job waits 5 * 0.01 / (2 * 0.5) s.
    instance = build.instance([build.device("a", [0.1])])
    plan = solve(instance, Goal("latency"))
    assert isinstance(plan, Plan)

    loaded = under_load(instance, loads_of(instance, plan, 5.0))

    assert loaded.devices[0].queue_seconds == pytest.approx(0.05)
    assert Load(busy=1.2, squares=0.1).wait > Load(busy=0.95, squares=0.1).wait > 0.9
