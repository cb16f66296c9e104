"""The plan of least latency, exactly."""

from __future__ import annotations

import numpy as np

from edgemesh.planning.feasibility import why_infeasible
from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import crowded_devices, plan_of, plan_of_route
from edgemesh.planning.sweep import best_end, latency_steps, route_of, values_of


def solve_latency(instance: Instance) -> Plan | Infeasible:
    """The plan of least predicted seconds; ties go to fewer partitions, then to fewer bytes sent.

    A shortest path is enough, ``O(U * D * K)``, unless it goes back to a device whose memory cannot hold all
    of its runs at once; then ``best_path_within_memory`` decides.
    """
    steps = latency_steps(instance.costs)
    (values,) = values_of(steps)
    device, cost = best_end(steps, values)
    if not np.isfinite(cost.real):
        return why_infeasible(instance)
    route = route_of(steps, values, device)
    crowded = crowded_devices(instance, route.runs)
    if not crowded:
        return plan_of_route(instance, route)
    found = best_path_within_memory(instance, crowded)
    return why_infeasible(instance) if found is None else plan_of(instance, found.path, proven=found.proven)
