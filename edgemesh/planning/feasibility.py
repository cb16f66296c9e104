"""Why an instance has no plan, and why a device has no place in any."""

from __future__ import annotations

import dataclasses
from math import inf

import numpy as np

from edgemesh.planning.contradictions import contradictory_pins
from edgemesh.planning.instance import Instance
from edgemesh.planning.plan import Infeasible
from edgemesh.planning.sweep import best_end, latency_steps, values_of
from edgemesh.planning.wording import as_bytes, listed


def why_infeasible(instance: Instance) -> Infeasible:
    """The constraint that leaves ``instance`` without a plan: a unit nothing may run, memory, or the links.

    Constraints are taken in the order in which an operator would look at them; the first that leaves nothing
    is named.
    """
    contradiction = contradictory_pins(instance)
    if contradiction:
        return Infeasible("pinned", contradiction)
    for unit in range(instance.unit_count):
        reason = _unit_without_device(instance, unit)
        if reason is not None:
            return reason
    roomy = dataclasses.replace(
        instance,
        devices=tuple(dataclasses.replace(device, memory_limit=inf) for device in instance.devices),
    )
    if _has_plan(roomy):
        need = instance.weight_bytes.sum() + instance.peak_bytes.max()
        return Infeasible(
            "memory",
            f"the devices that may run the model have too little memory for it, alone or together: it needs "
            f"{as_bytes(need)} in one place, and they have {_memories(instance)}",
        )
    return Infeasible(
        "unreachable",
        f"the devices that may run the units cannot pass them on to each other from origin "
        f"{instance.origin_name}: no codec is allowed or known at a cut between them",
    )


def why_unusable(instance: Instance, device: int) -> Infeasible | None:
    """Why ``device`` can run no unit at all on its own account; None when it can run at least one."""
    spec = instance.devices[device]
    if spec.unavailable:
        return Infeasible("unavailable", f"{spec.id} {spec.unavailable}")
    if device in instance.excluded:
        return Infeasible("excluded", f"{spec.id} is excluded")
    able = np.isfinite(spec.seconds)
    if not able.any():
        return Infeasible("incapable", f"{spec.id} cannot run any unit of this model")
    if not instance.may_run[device].any():
        return Infeasible("pinned", f"every unit that {spec.id} can run is pinned to other devices")
    need = (instance.weight_bytes + instance.peak_bytes)[instance.may_run[device]].min()
    if need > spec.memory_limit:
        return Infeasible(
            "memory",
            f"{spec.id} has {as_bytes(spec.memory_limit)} of memory for this model, and the smallest unit "
            f"that it may run needs {as_bytes(need)}",
        )
    return None


def _unit_without_device(instance: Instance, unit: int) -> Infeasible | None:
    name = f"unit {unit} '{instance.unit_names[unit]}'"
    able = {d for d, device in enumerate(instance.devices) if np.isfinite(device.seconds[unit])}
    if not able:
        return Infeasible("incapable", f"no device can run {name}")
    present = {d for d in able if not instance.devices[d].unavailable}
    if not present:
        reasons = listed(f"{instance.devices[d].id} {instance.devices[d].unavailable}" for d in sorted(able))
        return Infeasible("unavailable", f"no device that can run {name} is available: {reasons}")
    wanted = {d for d in present if instance.pinned[d, unit]}
    if not wanted:
        pinned = [device.id for d, device in enumerate(instance.devices) if instance.pinned[d, unit]]
        return Infeasible(
            "pinned", f"{name} is pinned to {listed(pinned) or 'no device'}, which cannot run it now"
        )
    included = wanted - instance.excluded
    if not included:
        return Infeasible(
            "excluded", f"every device that may run {name} is excluded: {_ids(instance, wanted)}"
        )
    need = float(instance.weight_bytes[unit] + instance.peak_bytes[unit])
    largest = max(instance.devices[d].memory_limit for d in included)
    if need > largest:
        return Infeasible(
            "memory",
            f"{name} needs {as_bytes(need)}, and no device that may run it has more than {as_bytes(largest)}",
        )
    return None


def _has_plan(instance: Instance) -> bool:
    steps = latency_steps(instance.costs)
    (values,) = values_of(steps)
    return bool(np.isfinite(best_end(steps, values)[1]))


def _ids(instance: Instance, devices: set[int]) -> str:
    return listed(instance.devices[device].id for device in sorted(devices))


def _memories(instance: Instance) -> str:
    usable = [d for d in range(len(instance.devices)) if instance.may_run[d].any()]
    return listed(f"{instance.devices[d].id} {as_bytes(instance.devices[d].memory_limit)}" for d in usable)
