"""The best plan that uses a given device."""

from __future__ import annotations

from collections.abc import Iterable

from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.plan import Plan
from edgemesh.planning.prediction import crowded_devices, plan_of, plan_of_route
from edgemesh.planning.sweep import latency_steps, route_through, values_of


def best_plans_using(instance: Instance, devices: Iterable[int]) -> dict[int, Plan | None]:
    """For each of ``devices`` the plan of least latency with a run on it; None when there is none.

    One sweep forwards and one backwards serve all devices: ``O(U * D * K)`` unless memory binds.
    """
    steps = latency_steps(instance.costs)
    mirrored = steps.mirrored
    (values,), (back,) = values_of(steps), values_of(mirrored)
    plans: dict[int, Plan | None] = {}
    for device in devices:
        route = route_through(steps, mirrored, (values, back), device)
        if route is None:
            plans[device] = None
            continue
        crowded = crowded_devices(instance, route.runs)
        if not crowded:
            plans[device] = plan_of_route(instance, route)
            continue
        found = best_path_within_memory(instance, crowded, wanted=device)
        plans[device] = plan_of(instance, found.path, proven=found.proven) if found else None
    return plans
