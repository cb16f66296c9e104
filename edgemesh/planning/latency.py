"""The plan of least latency, exactly."""

from __future__ import annotations

from edgemesh.planning.feasibility import why_infeasible
from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.paths import best_path
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import crowded_devices, plan_of


def solve_latency(instance: Instance) -> Plan | Infeasible:
    """The plan of least predicted seconds; ties go to fewer partitions, then to fewer bytes sent.

    A shortest path is enough, ``O(U^2 * D + U * D * K)``, unless it goes back to a device whose memory
    cannot hold all of its runs at once; then ``best_path_within_memory`` decides.
    """
    path = best_path(instance.tables)
    if path is None:
        return why_infeasible(instance)
    crowded = crowded_devices(instance, path.runs)
    if not crowded:
        return plan_of(instance, path)
    found = best_path_within_memory(instance, crowded)
    return why_infeasible(instance) if found is None else plan_of(instance, found.path, proven=found.proven)
