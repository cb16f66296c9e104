"""Plans beside the chosen one: fallback routes, runner-ups, and the best ones that use idle devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edgemesh.planning.forced_use import best_plans_using
from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.paths import Path
from edgemesh.planning.plan import Partition, Plan
from edgemesh.planning.prediction import plan_of


@dataclass(frozen=True)
class Alternatives:
    """Plans beside the chosen one."""

    fallbacks: Mapping[str, Plan | None]
    """For each device of the plan, the best plan without it; None when there is none."""
    using: Mapping[str, Plan | None]
    """For each idle device, the best plan that uses it; None when there is none."""
    runner_ups: tuple[Plan, ...]
    """The best distinct plans of these and of "all on one device", best first."""


def alternatives(instance: Instance, plan: Plan, *, runner_ups: int) -> Alternatives:
    """Alternatives to ``plan``, with at most ``runner_ups`` runner-ups.

    A fallback without the origin device still starts and ends there: it helps when the origin is up but
    cannot run units (no memory, a failing runtime, a full queue).
    """
    without = {device: best_plan_without(instance, device) for device in plan.devices}
    idle = [index for index, device in enumerate(instance.devices) if device.id not in plan.devices]
    using = {instance.devices[index].id: other for index, other in best_plans_using(instance, idle).items()}
    candidates = [*without.values(), *using.values(), *all_on_one_device(instance).values()]
    return Alternatives(without, using, _best_distinct(candidates, plan, runner_ups))


def best_plan_without(instance: Instance, device: str) -> Plan | None:
    """The plan of least latency that runs nothing on ``device``; None when there is none."""
    excluded = instance.excluded | {instance.indices[device]}
    found = solve_latency(dataclasses.replace(instance, excluded=excluded))
    return found if isinstance(found, Plan) else None


def all_on_one_device(instance: Instance) -> dict[str, Plan | None]:
    """For each device the plan with all units on it, or None where that is impossible."""
    tables, units = instance.tables, instance.unit_count
    totals = (tables.first + tables.run[units, :, 0] + tables.last).real
    return {
        device.id: plan_of(instance, Path(((0, units, index),), ())) if np.isfinite(totals[index]) else None
        for index, device in enumerate(instance.devices)
    }


def _best_distinct(candidates: Iterable[Plan | None], chosen: Plan, count: int) -> tuple[Plan, ...]:
    distinct: dict[tuple[Partition, ...], Plan] = {}
    for plan in candidates:
        if plan is not None and plan.partitions != chosen.partitions:
            distinct.setdefault(plan.partitions, plan)
    return tuple(sorted(distinct.values(), key=_order)[:count])


def _order(plan: Plan) -> tuple[float, int, int]:
    return plan.total, len(plan.partitions), plan.prediction.nbytes
