"""Steps: when resources are news that must not wait for the next regular message."""

from __future__ import annotations

from edgemesh.protocol.presence import Resources

BATTERY_STEP = 0.05
TEMPERATURE_STEP = 5.0
"""Degrees; and any crossing of the temperature from which the board lowers its clock."""


def is_step(before: Resources, after: Resources, throttle_celsius: float | None = None) -> bool:
    """Whether ``after`` differs from what was published last by more than drift."""
    if (before.on_battery, before.throttled) != (after.on_battery, after.throttled):
        return True
    if _state_of_plug(before) != _state_of_plug(after):
        return True
    if _moved(before.battery, after.battery, BATTERY_STEP):
        return True
    if _moved(before.temperature, after.temperature, TEMPERATURE_STEP):
        return True
    return _is_hot(before, throttle_celsius) != _is_hot(after, throttle_celsius)


def _state_of_plug(resources: Resources) -> tuple[str, str] | None:
    plug = resources.plug
    return None if plug is None else (plug.topic, plug.state)


def _moved(before: float | None, after: float | None, step: float) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= step


def _is_hot(resources: Resources, limit: float | None) -> bool:
    return limit is not None and resources.temperature is not None and resources.temperature >= limit
