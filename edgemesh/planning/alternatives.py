"""Plans beside the chosen one: fallback routes, runner-ups, and the best ones that use idle devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgemesh.planning.costs import TICKS, bound_ticks
from edgemesh.planning.forced_use import best_plans_using
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.objectives import RESOURCES
from edgemesh.planning.paths import Path
from edgemesh.planning.plan import Partition, Plan
from edgemesh.planning.prediction import plan_of
from edgemesh.planning.value import value_of
from edgemesh.planning.within import plans_within_using

_LATENCY: Final = Goal("latency")


@dataclass(frozen=True)
class Alternatives:
    """Plans beside the chosen one."""

    fallbacks: Mapping[str, Plan | None]
    """For each device of the plan, the best plan without it; None when there is none."""
    using: Mapping[str, Plan | None]
    """For each idle device, the best plan that uses it, within the bound if one is; None when there is
    none."""
    runner_ups: tuple[Plan, ...]
    """The best distinct plans of these and of "all on one device", best first; last those beyond the
    bound."""


def alternatives(instance: Instance, plan: Plan, *, runner_ups: int, goal: Goal = _LATENCY) -> Alternatives:
    """Alternatives to ``plan``, which is best for ``goal``, with at most ``runner_ups`` runner-ups.

    Fallbacks are plans of least latency: a job that needs one has lost time already. A fallback without the
    origin device still starts and ends there: it helps when the origin is up but cannot run units (no
    memory, a failing runtime, a full queue).
    """
    without = {device: best_plan_without(instance, device) for device in plan.devices}
    idle = [index for index, device in enumerate(instance.devices) if device.id not in plan.devices]
    using = {instance.devices[index].id: other for index, other in _using(instance, plan, idle, goal).items()}
    candidates = [*without.values(), *using.values(), *all_on_one_device(instance).values()]
    return Alternatives(without, using, _best_distinct(candidates, plan, runner_ups, goal))


def _using(instance: Instance, plan: Plan, idle: list[int], goal: Goal) -> dict[int, Plan | None]:
    names = RESOURCES.get(goal.objective)
    if not names or not idle:
        return best_plans_using(instance, idle)
    found = plans_within_using(instance, names, plan.bound, idle)
    late = [device for device, other in found.items() if other is None]
    return {**found, **best_plans_using(instance, late)} if late else found


def best_plan_without(instance: Instance, device: str) -> Plan | None:
    """The plan of least latency that runs nothing on ``device``; None when there is none."""
    excluded = instance.excluded | {instance.indices[device]}
    found = solve_latency(dataclasses.replace(instance, excluded=excluded))
    return found if isinstance(found, Plan) else None


def all_on_one_device(instance: Instance) -> dict[str, Plan | None]:
    """For each device the plan with all units on it, or None where that is impossible."""
    costs, units, requester = instance.costs, instance.unit_count, instance.costs.requester
    plans: dict[str, Plan | None] = {}
    for index, device in enumerate(instance.devices):
        away = index != requester
        ends = (costs.seconds.leave[0, requester] + costs.seconds.enter[0, index]).min() if away else 0.0
        ends += (
            (costs.seconds.leave[units, index] + costs.seconds.enter[units, requester]).min() if away else 0.0
        )
        possible = costs.earliest[units, index] == 0 and np.isfinite(
            costs.seconds.run(0, units, index) + ends
        )
        plans[device.id] = plan_of(instance, Path(((0, units, index),), ())) if possible else None
    return plans


def _best_distinct(
    candidates: Iterable[Plan | None], chosen: Plan, count: int, goal: Goal
) -> tuple[Plan, ...]:
    def order(plan: Plan) -> tuple[bool, tuple[float, ...]]:
        late = chosen.bound is not None and bound_ticks(chosen.bound) < round(plan.total * TICKS)
        return late, value_of(plan.prediction, goal)

    distinct: dict[tuple[Partition, ...], Plan] = {}
    for plan in candidates:
        if plan is not None and plan.partitions != chosen.partitions:
            distinct.setdefault(plan.partitions, plan)
    return tuple(sorted(distinct.values(), key=order)[:count])
