"""Several models on shared devices: together never worse than one by one, and often better."""

from __future__ import annotations

import dataclasses
import math
from random import Random

import numpy as np
import planning_instances as build
import pytest

from edgemesh.planning.goal import Goal
from edgemesh.planning.holdings import Holding, confined_to, holding
from edgemesh.planning.instance import Instance
from edgemesh.planning.joint import Load, Tasks, loads_of, planned_jointly, under_load
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import memory_need, route_of_plan

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
        joint = planned_jointly(Tasks(*crowded_mesh(seed)))

        assert joint.total <= joint.one_by_one, seed
        better += joint.total < 0.99 * joint.one_by_one
    assert better >= MESHES / 3


def test_joint_plans_keep_the_memory_of_every_device() -> None:
    for seed in range(MESHES // 2):
        instances, goals, demands = crowded_mesh(seed)

        joint = planned_jointly(Tasks(instances, goals, demands))

        held: dict[str, float] = {}
        for instance, plan in zip(instances, joint.plans, strict=True):
            if isinstance(plan, Plan):
                for device, load in loads_of(instance, plan, 1.0).items():
                    held[device] = held.get(device, 0.0) + load.held
        for device in instances[0].devices:
            assert held.get(device.id, 0.0) <= device.memory_limit + 1e-6


def test_equal_tasks_get_equal_plans() -> None:
    assert planned_jointly(Tasks(*crowded_mesh(3))) == planned_jointly(Tasks(*crowded_mesh(3)))


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

    joint = planned_jointly(Tasks([small, great], [Goal("latency")] * 2, [1.0, 1.0]))

    first, second = joint.plans
    assert isinstance(first, Plan) and first.devices == ("pi",)
    assert isinstance(second, Plan) and second.devices == ("desktop",)
    assert joint.one_by_one > 1000.0 > joint.total


def test_a_task_that_nothing_can_run_does_not_stop_the_others() -> None:
    fine, impossible = (build.instance([build.device("a", [seconds])]) for seconds in (0.01, math.inf))

    joint = planned_jointly(Tasks([fine, impossible], [Goal()] * 2, [1.0, 1.0]))

    assert isinstance(joint.plans[0], Plan) and isinstance(joint.plans[1], Infeasible)


def test_a_load_of_others_lengthens_the_queue_as_pollaczek_and_khinchine_say() -> None:
    # Five jobs of 0.1 s each second: half busy, and a job waits 5 * 0.01 / (2 * 0.5) s.
    instance = build.instance([build.device("a", [0.1])])
    plan = solve(instance, Goal("latency"))
    assert isinstance(plan, Plan)

    loaded = under_load(instance, loads_of(instance, plan, 5.0))

    assert loaded.devices[0].queue_seconds == pytest.approx(0.05)
    assert Load(busy=1.2, squares=0.1).wait > Load(busy=0.95, squares=0.1).wait > 0.9


MB = 1e6


def camera(origin: int, first: float, *, hub_memory: float) -> Instance:
    """Four units of 100 MB; the inputs of a camera, which runs the first unit in ``first`` seconds."""
    slow = [first, 1.0, 1.0, 1.0]
    fast = build.link(up=1e7, down=1e7, latency_up=0.001)
    return build.instance(
        [
            build.device("hub", [0.02] * 4, link=fast, memory_limit=hub_memory * MB),
            build.device("cam-1", slow, link=fast, memory_limit=450 * MB),
            build.device("cam-2", slow, link=fast, memory_limit=450 * MB),
        ],
        [[2e5], [1e4], [1e5], [1e5], [1e3]],
        weight_bytes=np.full(4, 100 * MB),
        peak_bytes=np.full(4, 1 * MB),
        origin=origin,
    )


def together(instances: list[Instance], contents: list[str]) -> list[Plan]:
    """Plans of two tasks with a job in two seconds each."""
    tasks = Tasks(instances, [Goal("latency")] * 2, [0.5, 0.5], contents)
    plans = [plan for plan in planned_jointly(tasks).plans if isinstance(plan, Plan)]
    assert len(plans) == 2
    return plans


def held_once(instances: list[Instance], plans: list[Plan], contents: list[str]) -> dict[str, float]:
    """Bytes on each device, where what several plans have loaded there counts once."""
    held = {
        holding(plan, device, content): memory_need(
            instance, route_of_plan(instance, plan).runs, instance.indices[device]
        )
        for instance, plan, content in zip(instances, plans, contents, strict=True)
        for device in plan.devices
    }
    return {
        device.id: sum(nbytes for there, nbytes in held.items() if there.device == device.id)
        for device in instances[0].devices
    }


def test_what_serves_two_origins_is_in_memory_once() -> None:
    """Found by a reader: a plan was thrown out because one model counted twice on a hub that holds it."""
    cameras = [camera(1, 0.02, hub_memory=350), camera(2, 0.02, hub_memory=350)]

    shared, apart = together(cameras, ["face", "face"]), together(cameras, ["face", "hands"])

    assert [part.device for part in shared[0].partitions] == ["cam-1", "hub"]
    assert [part.device for part in shared[1].partitions] == ["cam-2", "hub"]
    assert [part.stop for plan in shared for part in plan.partitions] == [1, 4, 1, 4]
    assert sum(plan.total for plan in shared) < sum(plan.total for plan in apart)


def test_without_room_for_two_cuts_of_a_content_the_second_origin_runs_the_one_that_is_loaded() -> None:
    # Alone the second camera would leave all to the hub: another range, which is loaded beside the first.
    cameras = [camera(1, 0.01, hub_memory=450), camera(2, 0.1, hub_memory=450)]
    alone = solve(cameras[1], Goal("latency"))
    assert isinstance(alone, Plan) and alone.devices == ("hub",)

    plans = together(cameras, ["face", "face"])
    roomy = together([camera(1, 0.01, hub_memory=800), camera(2, 0.1, hub_memory=800)], ["face", "face"])

    assert len({holding(plan, "hub", "face") for plan in plans}) == 1
    assert len({holding(plan, "hub", "face") for plan in roomy}) == 2


@pytest.mark.parametrize("seed", range(12))
def test_joint_plans_of_shared_contents_keep_memory_and_gain_by_what_is_shared(seed: int) -> None:
    instances, goals, demands = crowded_mesh(seed)
    random = Random(seed)
    # Every second task is the one before it with inputs from elsewhere.
    contents = [str(task // 2) for task in range(len(instances))]
    for task in range(1, len(instances), 2):
        instances[task] = dataclasses.replace(instances[task - 1], origin=random.randrange(4))

    joint = planned_jointly(Tasks(instances, goals, demands, contents))

    planned = [task for task, plan in enumerate(joint.plans) if isinstance(plan, Plan)]
    plans = [plan for plan in joint.plans if isinstance(plan, Plan)]
    held = held_once([instances[task] for task in planned], plans, [contents[task] for task in planned])
    assert all(held[device.id] <= device.memory_limit + 1e-6 for device in instances[0].devices)
    assert joint.total <= joint.one_by_one
    assert joint == planned_jointly(Tasks(instances, goals, demands, contents))


def test_a_device_confined_to_what_it_has_loaded_runs_that_and_no_more() -> None:
    instance = build.instance([build.device("a", [0.1] * 6), build.device("b", [0.01] * 6)])

    plan = solve(confined_to(instance, Holding("b", "face", ((0, 1), (3, 5)))), Goal("latency"))

    assert isinstance(plan, Plan)
    assert [(part.start, part.stop, part.device) for part in plan.partitions] == [
        (0, 1, "b"), (1, 3, "a"), (3, 5, "b"), (5, 6, "a"),
    ]  # fmt: skip
