"""When resources are published: regularly, and where they are news that must not wait for the next time."""

from __future__ import annotations

from typing import Final

from edgemesh.planning.slowdown_estimate import LOAD_NOISE, LOAD_STEP, share_of_others
from edgemesh.protocol.presence import Resources

RESOURCES_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
"""Between two looks at the machine: a step is published after one, hence no more often than that."""
LOADED_LOOK_SECONDS: Final = 0.5
"""The same while others load it: jobs that left for a slower device come back when that ends."""
BATTERY_STEP: Final = 0.05
TEMPERATURE_STEP: Final = 5.0
"""Degrees; and any crossing of the temperature from which the board lowers its clock."""


class ResourceNews:
    """What was published last on this connection, and whether more is to be said."""

    def __init__(self, throttle_celsius: float | None) -> None:
        """``throttle_celsius`` is where the board lowers its clock, if that is known."""
        self._throttle_celsius = throttle_celsius
        self._published: tuple[float, Resources] | None = None
        self._loaded = False
        """Whether the last look showed load of others."""
        self._unconfirmed = False
        """Whether a step of the load was published: who hears it believes what two readings show."""

    @property
    def look_seconds(self) -> float:
        """Until the next look."""
        return LOADED_LOOK_SECONDS if self._loaded else LOOK_SECONDS

    def connected(self) -> None:
        """Nothing was published on this connection yet."""
        self._published = None

    def look(self, resources: Resources, now: float) -> bool:
        """Whether this reading is to be published; it counts as published then."""
        others = _others(resources)
        if others is not None:
            self._loaded = others > LOAD_NOISE
        loaded = False
        if self._published is not None:
            at, before = self._published
            loaded = _load_stepped(_others(before), others)
            due = now - at >= RESOURCES_SECONDS - self.look_seconds / 2
            stepped = loaded or self._unconfirmed or _is_step(before, resources, self._throttle_celsius)
            if not due and not stepped:
                return False
        self._published, self._unconfirmed = (now, resources), loaded
        return True


def _is_step(before: Resources, after: Resources, throttle_celsius: float | None) -> bool:
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


def _others(resources: Resources) -> float | None:
    return share_of_others(resources.cpu, resources.own or 0.0)


def _load_stepped(before: float | None, after: float | None) -> bool:
    """Whether other programs take more or less than they did; False where that cannot be told."""
    return before is not None and after is not None and abs(after - before) >= LOAD_STEP


def _state_of_plug(resources: Resources) -> tuple[str, str] | None:
    plug = resources.plug
    return None if plug is None else (plug.topic, plug.state)


def _moved(before: float | None, after: float | None, step: float) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= step


def _is_hot(resources: Resources, limit: float | None) -> bool:
    return limit is not None and resources.temperature is not None and resources.temperature >= limit
