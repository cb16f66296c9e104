"""Plans that share crowded devices are made together, and none may gain at the cost of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, Link, PlanningDevice, raw_at_both_ends
from edgemesh.planning.joint import Tasks, planned_jointly
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan
from edgemesh.roles.joint_plans import JointPlans, Task, Together, crowded

LATENCY = Goal("latency")
LINK = Link(0.001, 1e7, 0.001, 1e7)


def instance(seconds: dict[str, float], excluded: tuple[str, ...] = ()) -> Instance:
    """One unit; inputs arise on the last device."""
    devices = tuple(PlanningDevice(name, LINK, np.array([took])) for name, took in seconds.items())
    return Instance(
        ("all",),
        np.ones(1),
        np.ones(1),
        ("raw",),
        np.full((2, 1), 1000.0),
        raw_at_both_ends(1, 1),
        devices,
        len(devices) - 1,
        excluded=frozenset(i for i, name in enumerate(seconds) if name in excluded),
    )


def task(name: str, demand: float, seconds: dict[str, float], on: str) -> Task:
    """A task whose plan in force is all on one device."""
    plan = solve(instance(seconds, tuple(other for other in seconds if other != on)), LATENCY)
    assert isinstance(plan, Plan)
    return Task((name, "app"), instance(seconds), LATENCY, demand, plan, f"digest of {name}")


SECONDS = {"fast": 0.10, "middling": 0.12, "slow": 1.0}


def both_on_fast(demand: float) -> list[Task]:
    return [task("one", demand, SECONDS, "fast"), task("two", demand, SECONDS, "fast")]


def test_two_that_crowd_one_device_are_parted_after_two_looks() -> None:
    tasks, joint = both_on_fast(4.5), JointPlans()
    assert crowded(tasks)

    assert joint.better(tasks, 0.0) == {}
    found = joint.better(tasks, 10.0)

    assert [plan.devices for plan in found.values()] == [("middling",)]
    assert Together(tasks).cost(found) < Together(tasks).cost({})


def test_a_model_that_a_device_holds_once_for_two_origins_stays_there() -> None:
    """Found by a reader: it was counted twice, and a plan of four times the latency took its place."""
    small = 1.5
    tasks = []
    for each in both_on_fast(1.5):
        devices = tuple(replace(device, memory_limit=2.0 * small) for device in each.instance.devices)
        sized = replace(each.instance, devices=devices, weight_bytes=np.full(1, small))
        tasks.append(replace(each, key=("face", each.key[0]), instance=sized, digest="one"))
    assert crowded(tasks)
    joint = JointPlans()

    assert joint.better(tasks, 0.0) == joint.better(tasks, 10.0) == {}
    assert Together(tasks).cost({}) < 2.0 < Together([replace(t, digest=t.key[1]) for t in tasks]).cost({})


def test_devices_with_room_for_all_are_left_alone() -> None:
    tasks, joint = both_on_fast(0.1), JointPlans()
    assert not crowded(tasks)
    assert joint.better(tasks, 0.0) == joint.better(tasks, 60.0) == {}


def test_what_helps_one_and_costs_the_others_more_is_seen_in_the_total() -> None:
    parted = [task("one", 4.5, SECONDS, "fast"), task("two", 4.5, SECONDS, "middling")]
    to_fast = task("two", 4.5, SECONDS, "fast").plan
    assert to_fast.total < parted[1].plan.total

    assert Together(parted).cost({parted[1].key: to_fast}) > Together(parted).cost({})


def test_work_that_is_spent_ends_the_search_with_the_best_plans_met() -> None:
    tasks = Tasks([instance(SECONDS)] * 4, [LATENCY] * 4, [4.5, 4.4, 4.3, 4.2])
    each = tasks.spent // 4

    short = planned_jointly(tasks, work=0.0)

    assert tasks.spent == 8 * each and short.total == short.one_by_one
    assert planned_jointly(tasks).total <= short.total


def test_the_same_tasks_are_planned_together_once_a_minute() -> None:
    tasks, joint = both_on_fast(0.1), JointPlans()
    keys = [task.key for task in tasks]
    joint.better(tasks, 0.0)

    assert not joint.is_due(keys, 30.0) and joint.is_due(keys, 60.0)
    assert joint.is_due([*keys, ("three", "app")], 10.0)
    assert not joint.is_due(keys[:1], 1000.0)
