"""Plans for several models and origins that share devices.

Each (model, origin) is a task with a demand in jobs per second. What the plans of others run on a device
makes a job wait there (``queueing.mean_wait``), and what they hold in memory is missing, unless it is just
what the task runs there as well (``holdings``). Planning one task after the other lets the first take what a
later one needs more, so plans are improved in rounds: each task answers the others with its best plan, with
plans that leave a shared device to them, and pairs are planned anew together. Only what lowers the total is
kept, so the result is never worse.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Final

from edgemesh.planning.effort import search_work_of
from edgemesh.planning.goal import Goal
from edgemesh.planning.holdings import Holding, confined_to, holding
from edgemesh.planning.instance import Instance
from edgemesh.planning.objectives import solve, solve_plainly
from edgemesh.planning.plan import Infeasible, Partition, Plan, Prediction
from edgemesh.planning.prediction import memory_need, route_of_plan
from edgemesh.planning.queueing import mean_wait
from edgemesh.planning.value import value_of

ROUNDS: Final = 3
"""Two are usual; each costs some solves per task."""
LATE: Final = 10.0
"""What breaking the latency bound by its own length costs, against 1 for all that the goal minimises."""
NO_PLAN: Final = 1e6
"""What a task without a plan costs."""
_PAIRS: Final = 12
"""Pairs that are planned anew together in one round."""


@dataclass(frozen=True)
class Joint:
    """Plans of all tasks, in their order, each predicted with the others' load."""

    plans: tuple[Plan | Infeasible, ...]
    total: float
    """Mean over jobs of what the goal minimises, against the best of a task that is alone; lateness added."""
    one_by_one: float
    """The same for planning one task after the other."""


@dataclass(frozen=True)
class Load:
    """What the plans of others put on one device."""

    busy: float = 0.0
    """Share of its time."""
    squares: float = 0.0
    """Jobs per second times the square of their seconds."""
    held: float = 0.0
    """Bytes."""

    @property
    def wait(self) -> float:
        """Seconds that a job waits."""
        return mean_wait(self.busy, self.squares)

    def plus(self, other: Load) -> Load:
        """Both."""
        return Load(self.busy + other.busy, self.squares + other.squares, self.held + other.held)


def loads_of(instance: Instance, plan: Plan, demand: float) -> dict[str, Load]:
    """What ``plan`` puts on each of its devices at ``demand`` jobs per second."""
    runs = route_of_plan(instance, plan).runs
    loads: dict[str, Load] = {}
    for hop in plan.prediction.hops:
        device = hop.partition.device
        held = 0.0 if device in loads else memory_need(instance, runs, instance.indices[device])
        took = hop.run + (hop.arrival.decode if hop.arrival is not None else 0.0)
        loads[device] = loads.get(device, Load()).plus(Load(demand * took, demand * took * took, held))
    return loads


def under_load(instance: Instance, loads: Mapping[str, Load]) -> Instance:
    """``instance`` on devices that also carry ``loads``: jobs wait longer, less memory is left."""
    devices = tuple(
        dataclasses.replace(
            device,
            queue_seconds=device.queue_seconds + loads[device.id].wait,
            memory_limit=max(0.0, device.memory_limit - loads[device.id].held),
        )
        if device.id in loads
        else device
        for device in instance.devices
    )
    return dataclasses.replace(instance, devices=devices)


def planned_jointly(tasks: Tasks, *, rounds: int = ROUNDS, work: float = inf) -> Joint:
    """Plans for all tasks; never worse in total than planning them one by one in the given order.

    Once the searches, those that ``tasks`` made before among them, took ``work`` (see ``effort``), the best
    plans met so far are taken; each task is planned once in any case.
    """
    order = list(range(len(tasks)))
    plans = tasks.one_by_one(order)
    one_by_one = total = tasks.total(plans)
    heaviest = sorted(order, key=lambda task: -tasks.weight(task))
    for other in (heaviest, heaviest[::-1]):
        if other != order and tasks.spent < work:
            again = tasks.one_by_one(other)
            if (cost := tasks.total(again)) < total:
                plans, total = again, cost
    for _ in range(rounds):
        before = total
        for candidate in tasks.changes(order, plans):
            if tasks.spent >= work:
                break
            if (cost := tasks.total(changed := {**plans, **candidate(plans)})) < total:
                plans, total = changed, cost
        if total >= before:
            break
    return Joint(tuple(tasks.final(plans)), total, one_by_one)


Plans = dict[int, Plan | Infeasible]
_Asked = tuple[int, tuple[tuple[str, Load], ...], tuple[Holding, ...], str]
"""A task, what others put on devices, what they have loaded of its own content, a device to leave alone."""


class _Change:
    """Tasks to plan anew one after the other, without a device."""

    def __init__(self, tasks: Tasks, order: tuple[int, ...], without: str = "") -> None:
        self._tasks, self._order, self._without = tasks, order, without

    def __call__(self, plans: Plans) -> Plans:
        kept = {task: plan for task, plan in plans.items() if task not in self._order}
        made: Plans = {}
        for number, task in enumerate(self._order):
            without = self._without if number == 0 else ""
            made[task] = self._tasks.answer(task, {**kept, **made}, without)
        return made


class Tasks:
    """Tasks with what each comes to alone, and the answers found so far."""

    def __init__(
        self,
        instances: Sequence[Instance],
        goals: Sequence[Goal],
        demands: Sequence[float],
        contents: Sequence[str] = (),
    ) -> None:
        """Plans each alone. ``demands`` are jobs per second, ``contents`` digests; by default all differ.

        Waits in the instances are those that these tasks do not cause. The latency bound of a task is what
        it is without the others.
        """
        assert len(instances) == len(goals) == len(demands)
        self.spent = sum(map(search_work_of, instances))
        """Work of the searches so far."""
        self._instances, self._demands = instances, demands
        self._contents = contents or [str(task) for task in range(len(instances))]
        self._known: dict[tuple[int, tuple[Partition, ...]], dict[Holding, Load]] = {}
        self._answers: dict[_Asked, Plan | Infeasible] = {}
        alone = [solve(instance, goal) for instance, goal in zip(instances, goals, strict=True)]
        self._goals = [
            dataclasses.replace(goal, bound_seconds=plan.bound)
            if isinstance(plan, Plan) and plan.bound is not None
            else goal
            for goal, plan in zip(goals, alone, strict=True)
        ]
        self._alone = alone

    def __len__(self) -> int:
        return len(self._instances)

    def weight(self, task: int) -> float:
        """Its seconds of work per second, planned alone."""
        plan = self._alone[task]
        busy = sum(hop.run for hop in plan.prediction.hops) if isinstance(plan, Plan) else 0.0
        return busy * self._demands[task]

    def one_by_one(self, order: Sequence[int]) -> Plans:
        """Each task planned beside those before it in ``order``."""
        plans: Plans = {}
        for task in order:
            plans[task] = self.answer(task, plans)
        return plans

    def answer(self, task: int, others: Plans, without: str = "") -> Plan | Infeasible:
        """The best plan of a task beside the plans of others, maybe without a device."""
        shared = self._loaded(others, task)
        loads = self._loads(others, task, shared)
        asked = task, tuple(sorted(loads.items(), key=lambda item: item[0])), shared, without
        if asked not in self._answers:
            plan = self._solved(task, self._instances[task], loads, without)
            if shared and isinstance(plan, Plan) and not self._fits(task, plan, others):
                # It would load other ranges of its content than those that are there, and there is no room.
                near = [there for there in shared if there.device in plan.devices]
                plan = self._beside(task, others, near, without)
            self._answers[asked] = plan
        return self._answers[asked]

    def _beside(self, task: int, others: Plans, shared: Sequence[Holding], without: str) -> Plan | Infeasible:
        """The best of the plans that load all of their own, or run on one device what is loaded there."""
        instance = self._instances[task]
        answers = [self._solved(task, instance, self._loads(others, task), without)]
        for there in shared:
            loads = self._loads(others, task, (there,))
            answers.append(self._solved(task, confined_to(instance, there), loads, without))
        return min(answers, key=lambda plan: self._cost(task, {**others, task: plan}))

    def _solved(
        self, task: int, instance: Instance, loads: Mapping[str, Load], without: str
    ) -> Plan | Infeasible:
        self.spent += search_work_of(instance)
        instance = under_load(instance, loads)
        if without:
            excluded = instance.excluded | {instance.indices[without]}
            instance = dataclasses.replace(instance, excluded=excluded)
        plan = solve_plainly(instance, self._goals[task])
        if isinstance(plan, Infeasible) and plan.kind == "deadline":
            # Others make it late: as fast as it can is the best that is left.
            plan = solve_plainly(instance, Goal("latency"))
        return plan

    def total(self, plans: Plans) -> float:
        """See ``Joint.total``."""
        weights = [max(demand, 1e-9) for demand in self._demands]
        costs = [weight * self._cost(task, plans) for task, weight in enumerate(weights)]
        return sum(costs) / sum(weights)

    def changes(self, order: Sequence[int], plans: Plans) -> list[_Change]:
        """What may better ``plans``: answers, answers that leave a shared device alone, pairs anew."""
        users: defaultdict[str, set[int]] = defaultdict(set)
        for task, plan in plans.items():
            for device in plan.devices if isinstance(plan, Plan) else ():
                users[device].add(task)
        changes = [_Change(self, (task,)) for task in order]
        shared = [(device, tasks) for device, tasks in sorted(users.items()) if len(tasks) > 1]
        changes += [_Change(self, (task,), device) for device, tasks in shared for task in sorted(tasks)]
        pairs = dict.fromkeys(pair for _, tasks in shared for pair in combinations(sorted(tasks), 2))
        for one, other in list(pairs)[:_PAIRS]:
            changes += [_Change(self, (one, other)), _Change(self, (other, one))]
        return changes

    def final(self, plans: Plans) -> list[Plan | Infeasible]:
        """The plans as predicted beside each other."""
        final: list[Plan | Infeasible] = []
        for task in range(len(self._instances)):
            plan, prediction = plans[task], self._prediction(task, plans)
            if isinstance(plan, Plan) and isinstance(prediction, Prediction):
                plan = dataclasses.replace(
                    plan, prediction=prediction, bound=self._goals[task].bound(plan.total)
                )
            elif isinstance(prediction, Infeasible):
                plan = prediction
            final.append(plan)
        return final

    def _cost(self, task: int, plans: Plans) -> float:
        prediction, alone, goal = self._prediction(task, plans), self._alone[task], self._goals[task]
        if not isinstance(prediction, Prediction) or not isinstance(alone, Plan):
            return NO_PLAN
        best = value_of(alone.prediction, goal)[0]
        cost = value_of(prediction, goal)[0] / best if best > 0.0 else 1.0
        late = prediction.total / alone.bound - 1.0 if alone.bound is not None else 0.0
        # Between plans that cost the same, the faster ones.
        return cost + LATE * max(0.0, late) + 1e-3 * prediction.total / alone.total

    def _prediction(self, task: int, plans: Plans) -> Prediction | Infeasible:
        """The plan beside the others: only waits change, so the cost model need not be asked again."""
        plan = plans[task]
        if isinstance(plan, Infeasible):
            return plan
        instance, own = self._instances[task], self._load(task, plan)
        others = self._loads(plans, task, own)
        held = {there.device: load.held for there, load in own.items()}
        hops = []
        for hop in plan.prediction.hops:
            name = hop.partition.device
            device, load = instance.devices[instance.indices[name]], others.get(name, Load())
            if held[name] > max(0.0, device.memory_limit - load.held):
                return Infeasible("memory", f"others leave too little of the memory of {name}")
            hops.append(dataclasses.replace(hop, queue=device.queue_seconds + load.wait))
        waits = sum(hop.queue for hop in hops) - sum(hop.queue for hop in plan.prediction.hops)
        return dataclasses.replace(plan.prediction, hops=tuple(hops), total=plan.prediction.total + waits)

    def _fits(self, task: int, plan: Plan, others: Plans) -> bool:
        return isinstance(self._prediction(task, {**others, task: plan}), Prediction)

    def _load(self, task: int, plan: Plan) -> dict[Holding, Load]:
        key = task, plan.partitions
        if key not in self._known:
            loads = loads_of(self._instances[task], plan, self._demands[task])
            content = self._contents[task]
            self._known[key] = {holding(plan, device, content): load for device, load in loads.items()}
        return self._known[key]

    def _loaded(self, plans: Plans, without: int) -> tuple[Holding, ...]:
        """What others have loaded of the content of the task ``without``."""
        content = self._contents[without]
        same = [task for task in plans if task != without and self._contents[task] == content]
        loaded = [self._load(task, plan) for task in same if isinstance(plan := plans[task], Plan)]
        return tuple(sorted({there for each in loaded for there in each}))

    def _loads(self, plans: Plans, without: int, shared: Collection[Holding] = ()) -> dict[str, Load]:
        """What all but the task ``without`` put on devices; ``shared`` takes none of its memory."""
        loads: dict[str, Load] = {}
        counted = set(shared)
        for task, plan in plans.items():
            if task != without and isinstance(plan, Plan):
                for there, load in self._load(task, plan).items():
                    if there in counted:
                        load = dataclasses.replace(load, held=0.0)
                    counted.add(there)
                    loads[there.device] = loads.get(there.device, Load()).plus(load)
        return loads
