"""Plans beside the chosen one: fallback routes, runner-ups, and the best ones that use idle devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

from edgemesh.planning.costs import TICKS, bound_ticks
from edgemesh.planning.effort import SEARCH_BASE, search_work, search_work_of
from edgemesh.planning.feasibility import why_unusable
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

WORK: Final = 8 * SEARCH_BASE
"""Work of looking at idle devices that is done by default (see ``effort``), some 0.1 s."""
_LOOK: Final = SEARCH_BASE // 25
"""What it takes to tell the fastest plan that uses a device, the sweeps for all of them done."""
_LATENCY: Final = Goal("latency")


@dataclass(frozen=True)
class Alternatives:
    """Plans beside the chosen one."""

    fallbacks: Mapping[str, Plan | None]
    """For each device of the plan, the best plan without it; None when there is none."""
    using: Mapping[str, Plan | None]
    """For each idle device, the best plan that uses it, within the bound if one is; None when there is
    none. The fastest one or None where it is ``unexamined``."""
    unexamined: frozenset[str]
    """Idle devices for which the search was left out, because there are so many or the model is so large."""
    runner_ups: tuple[Plan, ...]
    """The best distinct plans of these and of "all on one device", best first; last those beyond the
    bound."""


def alternatives(
    instance: Instance, plan: Plan, *, runner_ups: int, goal: Goal = _LATENCY, work: float = WORK
) -> Alternatives:
    """Alternatives to ``plan``, which is best for ``goal``, with at most ``runner_ups`` runner-ups.

    Fallbacks are plans of least latency: a job that needs one has lost time already. A fallback without the
    origin device still starts and ends there: it helps when the origin is up but cannot run units (no
    memory, a failing runtime, a full queue). Each takes one search, however large the instance is; idle
    devices are looked at within ``work`` only.
    """
    without = {device: best_plan_without(instance, device) for device in plan.devices}
    idle = [device.id for device in instance.devices if device.id not in plan.devices]
    using, unexamined = plans_using(instance, plan, idle, goal, work=work)
    candidates = [*without.values(), *using.values(), *all_on_one_device(instance).values()]
    return Alternatives(without, using, unexamined, _best_distinct(candidates, plan, runner_ups, goal))


def alternatives_work(unit_count: int, device_count: int) -> float:
    """The work of ``alternatives`` at most, about."""
    return search_work(unit_count, device_count) + min(
        float(WORK), device_count * search_work(unit_count, device_count)
    )


def plans_using(
    instance: Instance, plan: Plan, idle: Collection[str], goal: Goal = _LATENCY, *, work: float = WORK
) -> tuple[dict[str, Plan | None], frozenset[str]]:
    """``Alternatives.using`` and ``Alternatives.unexamined`` for the devices ``idle``.

    The fastest plan that uses a device tells already whether it is too slow; only for the others the best
    one within the bound is searched for, those with the fastest plans first.
    """
    using: dict[str, Plan | None] = dict.fromkeys(idle)
    able = [index for name in idle if why_unusable(instance, index := instance.indices[name]) is None]
    looked = able if work == inf else able[: int(work // _LOOK)]
    left = work - _LOOK * len(looked)
    unexamined = {instance.devices[index].id for index in able[len(looked) :]}
    fastest = best_plans_using(instance, looked) if looked else {}
    using |= {instance.devices[index].id: other for index, other in fastest.items()}
    names = RESOURCES.get(goal.objective)
    if not names:
        return using, frozenset(unexamined)
    open_ones = sorted(
        (other.total, index)
        for index, other in fastest.items()
        if other is not None and not (other.proven and _is_late(other, plan.bound))
    )
    count = len(open_ones) if work == inf else max(0, int(left // search_work_of(instance)))
    chosen = [index for _, index in open_ones[:count]]
    unexamined |= {instance.devices[index].id for _, index in open_ones[count:]}
    for index, other in (plans_within_using(instance, names, plan.bound, chosen) if chosen else {}).items():
        if other is not None:
            using[instance.devices[index].id] = other
    return using, frozenset(unexamined)


def _is_late(plan: Plan, bound: float | None) -> bool:
    return bound is not None and bound_ticks(bound) < round(plan.total * TICKS)


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
        return _is_late(plan, chosen.bound), value_of(plan.prediction, goal)

    distinct: dict[tuple[Partition, ...], Plan] = {}
    for plan in candidates:
        if plan is not None and plan.partitions != chosen.partitions:
            distinct.setdefault(plan.partitions, plan)
    return tuple(sorted(distinct.values(), key=order)[:count])
