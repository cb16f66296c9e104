"""Pins that leave a unit no device."""

from __future__ import annotations

from edgemesh.planning.instance import Instance, Pin
from edgemesh.planning.wording import listed


def contradictory_pins(instance: Instance) -> str:
    """A sentence that names the first unit whose pins exclude each other, and these pins; empty if none
    do."""
    for unit in range(instance.unit_count):
        pins = [pin for pin in instance.pins if pin.start <= unit < pin.stop]
        if not pins:
            continue
        common = frozenset.intersection(*(pin.devices for pin in pins))
        name = f"unit {unit} '{instance.unit_names[unit]}'"
        if not common:
            each = listed(
                (f"to {_devices(instance, pin)} (units {pin.start} to {pin.stop - 1})" for pin in pins),
                " and ",
            )
            return f"{name} is pinned {each}: no device satisfies all of these pins, take one of them away"
        if common <= instance.excluded:
            names = listed(instance.devices[device].id for device in sorted(common))
            return f"{name} is pinned to {names}, and that is excluded: lift the pin or the exclusion"
    return ""


def _devices(instance: Instance, pin: Pin) -> str:
    return listed((instance.devices[device].id for device in sorted(pin.devices)), " or ") or "no device"
