"""Joint plans: several (model, origin) that share crowded devices, planned together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.joint import loads_of, plan_jointly, total_cost
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.switching import MARGIN
from edgemesh.protocol.requests import Policy
from edgemesh.roles.instances import OtherWork
from edgemesh.roles.plans import Key, Plans, Situation
from edgemesh.roles.switching import Switch

CROWDED: Final = 0.2
"""Share of its time that jobs of several plans take on one device from which on they get in each other's way:
below it a job waits for less than an eighth of the time of one."""
_ROUND_SECONDS: Final = 60.0
"""Between two plannings of the same tasks."""
_LEAST_SECONDS: Final = 10.0
"""Between two plannings of any."""


@dataclass(frozen=True, eq=False)
class Task:
    """One (model, origin) that jobs come for."""

    key: Key
    instance: Instance
    """Without the work of the other tasks, and without queues, which are theirs."""
    goal: Goal
    demand: float
    """Jobs per second."""
    plan: Plan
    """In force."""


def crowded(tasks: Sequence[Task]) -> bool:
    """Whether several tasks keep one device so busy that they get in each other's way."""
    busy: dict[str, list[float]] = {}
    for task in tasks:
        for device, load in loads_of(task.instance, task.plan, task.demand).items():
            busy.setdefault(device, []).append(load.busy)
    return any(len(shares) > 1 and sum(shares) > CROWDED for shares in busy.values())


class JointPlans:
    """Plans tasks together now and then."""

    def __init__(self) -> None:
        self._planned: frozenset[Key] = frozenset()
        self._planned_at = float("-inf")
        self._before: dict[Key, Plan] = {}
        """What was better the last time, and waits to be so again."""

    def is_due(self, keys: Collection[Key], now: float) -> bool:
        """Whether the tasks ``keys`` are to be planned together now."""
        same = frozenset(keys) == self._planned and not self._before
        wait = _ROUND_SECONDS if same else _LEAST_SECONDS
        return len(keys) > 1 and now - self._planned_at >= wait

    def better(self, tasks: Sequence[Task], now: float) -> Mapping[Key, Plan]:
        """Plans that lower the total by more than the margin, for those tasks that have to change.

        Twice in a row, because estimates scatter. Empty while nothing is to be done.
        """
        self._planned, self._planned_at = frozenset(task.key for task in tasks), now
        if len(tasks) < 2 or not crowded(tasks):
            self._before = {}
            return {}
        joint = plan_jointly([t.instance for t in tasks], [t.goal for t in tasks], [t.demand for t in tasks])
        kept = cost(tasks, {})
        if joint.total >= kept * (1.0 - MARGIN):
            self._before = {}
            return {}
        found = {
            task.key: plan
            for task, plan in zip(tasks, joint.plans, strict=True)
            if isinstance(plan, Plan) and plan.partitions != task.plan.partitions
        }
        again, self._before = self._before, found
        if again and found and cost(tasks, again) <= kept * (1.0 - MARGIN):
            self._before = {}
            return found
        return {}


def cost(tasks: Sequence[Task], changed: Mapping[Key, Plan]) -> float:
    """The total of all tasks with the plans in force, but for those ``changed``."""
    plans = [changed.get(task.key, task.plan) for task in tasks]
    return total_cost([t.instance for t in tasks], [t.goal for t in tasks], [t.demand for t in tasks], plans)


def alone(instance: Instance) -> Instance:
    """``instance`` without queues: they hold the jobs of those that are planned together."""
    if not any(device.queue_seconds for device in instance.devices):
        return instance
    return replace(instance, devices=tuple(replace(device, queue_seconds=0.0) for device in instance.devices))


class Crowd:
    """The tasks of one decision node as its plans and estimates have them."""

    def __init__(self, plans: Plans, policy: Callable[[str], Policy]) -> None:
        """``policy`` of a model."""
        self._plans = plans
        self._policy = policy
        self._joint = JointPlans()

    def better(self, now: float) -> list[tuple[Situation, Switch]]:
        """What to publish because all together gain by it."""
        if not self._joint.is_due(self._plans.in_use(now), now):
            return []
        tasks, situations = self._tasks(now)
        before = cost(tasks, {}) if len(tasks) > 1 else 0.0
        chosen = self._joint.better(tasks, now)
        if not chosen:
            return []
        saved = 1.0 - cost(tasks, chosen) / before
        reason = (
            f"planned together with the others that share its devices: all together cost {saved:.0%} less"
        )
        return [(situations[key], Switch(plan, reason)) for key, plan in chosen.items()]

    def allows(self, key: Key, plan: Plan, now: float) -> bool:
        """Whether ``plan`` for ``key`` costs the others no more than it gains."""
        if len(self._plans.in_use(now)) < 2:
            return True
        tasks, _ = self._tasks(now)
        if key not in {task.key for task in tasks} or not crowded(tasks):
            return True
        return cost(tasks, {key: plan}) <= cost(tasks, {})

    def _tasks(self, now: float) -> tuple[list[Task], dict[Key, Situation]]:
        tasks: list[Task] = []
        situations: dict[Key, Situation] = {}
        for key, demand in sorted(self._plans.in_use(now).items()):
            manifest = self._plans.in_force[key].manifest
            situation = self._plans.situation(manifest, key[1], self._policy(key[0]), now, others=OtherWork())
            if isinstance(situation, Infeasible):
                continue
            situation = replace(situation, instance=alone(situation.instance))
            plan = self._plans.predicted(key, situation)
            if plan is not None:
                tasks.append(Task(key, situation.instance, situation.goal, demand, plan))
                situations[key] = situation
        return tasks, situations
