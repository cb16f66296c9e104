"""The best plan that uses a given device."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgemesh.planning.instance import Instance
from edgemesh.planning.memory import best_path_within_memory
from edgemesh.planning.paths import Ways, joined, path_from, path_to_arrival, ways_from_start
from edgemesh.planning.plan import Plan
from edgemesh.planning.prediction import crowded_devices, plan_of
from edgemesh.planning.tables import CostArray


def best_plans_using(instance: Instance, devices: Iterable[int]) -> dict[int, Plan | None]:
    """For each of ``devices`` the plan of least latency with a run on it; None when there is none.

    One pass forwards and one backwards serve all devices, ``O(U^2 * D + U * D * K)`` in all: a path uses a
    device exactly if it arrives there at some cut and goes on from there.
    """
    ways = ways_from_start(instance.tables)
    back = ways_from_start(instance.tables.mirrored)
    totals = ways.arrive + back.end[:, ::-1]
    return {device: _plan_using(instance, device, totals[device], ways, back) for device in devices}


def _plan_using(instance: Instance, device: int, totals: CostArray, ways: Ways, back: Ways) -> Plan | None:
    cut = int(totals.argmin())
    if not np.isfinite(totals[cut].real):
        return None
    path = joined(path_to_arrival(ways, device, cut), path_from(back, device, cut))
    crowded = crowded_devices(instance, path.runs)
    if not crowded:
        return plan_of(instance, path.runs, path.codecs)
    found = best_path_within_memory(instance, crowded, wanted=device)
    return (
        None if found is None else plan_of(instance, found.path.runs, found.path.codecs, proven=found.proven)
    )
