"""The best plan that uses a given device."""

from __future__ import annotations

from collections.abc import Iterable

from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.paths import best_path_using, ways_from_start
from edgemesh.planning.plan import Plan
from edgemesh.planning.prediction import crowded_devices, plan_of


def best_plans_using(instance: Instance, devices: Iterable[int]) -> dict[int, Plan | None]:
    """For each of ``devices`` the plan of least latency with a run on it; None when there is none.

    One pass forwards and one backwards serve all devices: ``O(U^2 * D + U * D * K)`` unless memory binds.
    """
    ways = ways_from_start(instance.tables)
    back = ways_from_start(instance.tables.mirrored)
    plans: dict[int, Plan | None] = {}
    for device in devices:
        path = best_path_using(device, ways, back)
        proven = True
        crowded = crowded_devices(instance, path.runs) if path else []
        if crowded:
            found = best_path_within_memory(instance, crowded, wanted=device)
            path, proven = (found.path, found.proven) if found else (None, True)
        plans[device] = plan_of(instance, path, proven=proven) if path else None
    return plans
