"""The plan of least latency, exactly."""

from __future__ import annotations

from edgemesh.planning.feasibility import why_infeasible
from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.paths import path_to_end, ways_from_start
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import crowded_devices, plan_of


def solve_latency(instance: Instance) -> Plan | Infeasible:
    """The plan of least predicted seconds; ties go to fewer partitions, then to fewer bytes sent.

    A shortest path is enough, ``O(U^2 * D + U * D * K)``, unless it goes back to a device whose memory
    cannot hold all of its runs at once; then ``memory.best_path_within_memory`` decides.
    """
    tables = instance.tables
    ways = ways_from_start(tables)
    totals = ways.end[:, -1] + tables.last
    device = int(totals.argmin())
    if totals[device].real == float("inf"):
        return why_infeasible(instance)
    path = path_to_end(ways, device, instance.unit_count)
    if not crowded_devices(instance, path.runs):
        return plan_of(instance, path.runs, path.codecs)
    found = best_path_within_memory(instance, crowded_devices(instance, path.runs))
    if found is None:
        return why_infeasible(instance)
    return plan_of(instance, found.path.runs, found.path.codecs, proven=found.proven)
