"""Joint plans: several (model, origin) that share crowded devices, planned together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edgemesh.planning.effort import search_work_of
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.joint import Joint, Tasks, loads_of, planned_jointly
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.switching import MARGIN
from edgemesh.protocol.requests import Policy
from edgemesh.roles.instances import OtherWork
from edgemesh.roles.plans import Key, Plans, Situation
from edgemesh.roles.switching import Switch

CROWDED: Final = 0.2
"""Share of its time that jobs of several plans take on one device from which on they get in each other's way:
below it a job waits for less than an eighth of the time of one."""
WORK: Final = 14_000_000
"""Of one joint planning at most (see ``effort``), some 0.3 s: 13 models of 60 units on 6 devices, or 6 of 200
units on 16. More are not planned together."""
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
    digest: str
    """Of its content: what devices have loaded of it serves all origins."""


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

    def better(self, tasks: Sequence[Task], now: float, together: Together | None = None) -> dict[Key, Plan]:
        """Plans that lower the total by more than the margin, for those tasks that have to change.

        Twice in a row, because estimates scatter. Empty while nothing is to be done. ``together`` are
        ``tasks`` where they are planned alone already.
        """
        self._planned, self._planned_at = frozenset(task.key for task in tasks), now
        if len(tasks) < 2 or not crowded(tasks):
            self._before = {}
            return {}
        together = together or Together(tasks)
        joint = together.planned()
        kept = together.cost({})
        if joint.total >= kept * (1.0 - MARGIN):
            self._before = {}
            return {}
        found = {
            task.key: plan
            for task, plan in zip(tasks, joint.plans, strict=True)
            if isinstance(plan, Plan) and plan.partitions != task.plan.partitions
        }
        again, self._before = self._before, found
        if again and found and together.cost(again) <= kept * (1.0 - MARGIN):
            self._before = {}
            return found
        return {}


class Together:
    """Tasks at one moment, each planned alone once: what it costs then is the measure of its cost."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self._joint = Tasks(
            [task.instance for task in tasks],
            [task.goal for task in tasks],
            [task.demand for task in tasks],
            [task.digest for task in tasks],
        )

    def cost(self, changed: Mapping[Key, Plan]) -> float:
        """The total of all tasks with the plans in force, but for those ``changed``."""
        return self._joint.total(
            {number: changed.get(task.key, task.plan) for number, task in enumerate(self.tasks)}
        )

    def planned(self) -> Joint:
        """Plans made together, the best met within ``WORK``."""
        return planned_jointly(self._joint, work=WORK)


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
        self._round: tuple[list[Task], dict[Key, Situation], Together | None] | None = None

    def begin(self) -> None:
        """A new round of planning: estimates may have moved."""
        self._round = None

    def notes(self, now: float) -> tuple[str, ...]:
        """What the reader of a plan must know of it."""
        keys = self._plans.in_use(now)
        if len(keys) < 2 or not self._too_large(keys):
            return ()
        return (
            f"{len(keys)} plans are in use, too many or too large to be planned together: each takes the "
            "others as they are",
        )

    def better(self, now: float) -> list[tuple[Situation, Switch]]:
        """What to publish because all together gain by it."""
        keys = self._plans.in_use(now)
        if not self._joint.is_due(keys, now) or self._too_large(keys):
            return []
        self._round = None  # plans were taken over in this round
        tasks, situations, together = self._together(now)
        chosen = self._joint.better(tasks, now, together)
        if not chosen or together is None:
            return []
        saved = 1.0 - together.cost(chosen) / together.cost({})
        reason = (
            f"planned together with the others that share its devices: all together cost {saved:.0%} less"
        )
        return [(situations[key], Switch(plan, reason)) for key, plan in chosen.items()]

    def allows(self, key: Key, plan: Plan, now: float) -> bool:
        """Whether ``plan`` for ``key`` costs the others no more than it gains."""
        keys = self._plans.in_use(now)
        if len(keys) < 2 or key not in keys or self._too_large(keys):
            return True
        tasks, _, together = self._together(now)
        if together is None or key not in {task.key for task in tasks}:
            return True
        in_force = self._plans.in_force
        # What was taken over since the round began counts, too.
        taken = {
            task.key: current.plan
            for task in tasks
            if (current := in_force.get(task.key)) and current.plan.partitions != task.plan.partitions
        }
        return together.cost({**taken, key: plan}) <= together.cost(taken)

    def _too_large(self, keys: Collection[Key]) -> bool:
        """Whether planning each alone and once beside the others is more than a round may take."""
        return 2 * sum(search_work_of(self._plans.in_force[key].instance) for key in keys) > WORK

    def _together(self, now: float) -> tuple[list[Task], dict[Key, Situation], Together | None]:
        """The tasks of this round; planned alone where they are crowded."""
        if self._round is None:
            tasks, situations = self._tasks(now)
            self._round = tasks, situations, Together(tasks) if crowded(tasks) else None
        return self._round

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
                tasks.append(Task(key, situation.instance, situation.goal, demand, plan, manifest.digest))
                situations[key] = situation
        return tasks, situations
