"""What a device's resources and the policy make of it for planning: watts, weights, prices, limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from edgemesh.planning.wording import listed
from edgemesh.protocol.presence import Resources
from edgemesh.protocol.requests import Policy

BATTERY_WEIGHT: Final = 2.0
"""A joule from a battery counts this often unless the policy says otherwise: it will be missed later."""
MOST_WATTS: Final = 2000.0
"""A device that says it takes more than a full rack server is not believed."""
MOST_RADIO_WATTS: Final = 50.0
FLOOR_HYSTERESIS: Final = 0.03
"""A battery must be charged by so much more than the floor before the device gets work again."""
TEMPERATURE_HYSTERESIS: Final = 5.0
"""Degrees: idle, a board cools by that within a minute; without it the work would come and go with it."""


@dataclass(frozen=True)
class Watts:
    """Above idle, as the planner counts them."""

    busy: float
    radio: float
    source: str


@dataclass(frozen=True)
class Condition:
    """What the planner is told of one device beside its speed and its link."""

    watts: Watts = Watts(0.0, 0.0, "unknown")
    energy_weight: float = 1.0
    price_per_second: float = 0.0
    price_per_byte: float = 0.0
    unavailable: str = ""
    """Why it gets no work, in words that follow its name."""


@dataclass(frozen=True)
class Conditions:
    """Of all devices, with what a reader of the plan should know of the figures."""

    of: Mapping[str, Condition]
    notes: tuple[str, ...]
    watts_known: bool
    """Whether any device told its watts: without, energy counts nothing."""


class Limits:
    """Battery floors and temperature limits, with a memory so that work does not come and go at the limit."""

    def __init__(self) -> None:
        self._over: set[tuple[str, str, str]] = set()

    def why_limited(self, model: str, device: str, resources: Resources | None, policy: Policy) -> str:
        """Why ``device`` gets no new work of ``model``; empty when it does. Words that follow its name."""
        if resources is None:
            return ""
        return self._battery(model, device, resources, policy) or self._temperature(
            model, device, resources, policy
        )

    def _battery(self, model: str, device: str, resources: Resources, policy: Policy) -> str:
        floor, charge = policy.battery_floor, resources.battery
        if floor is None or charge is None or resources.on_battery is False:
            return self._is_over((model, device, "battery"), over=False)
        key = model, device, "battery"
        over = charge < (floor + FLOOR_HYSTERESIS if key in self._over else floor)
        back = f", back from {floor + FLOOR_HYSTERESIS:.0%} on" if charge >= floor else ""
        return self._is_over(key, over=over) and (
            f"has its battery at {charge:.0%}, below the floor of {floor:.0%}{back}"
        )

    def _temperature(self, model: str, device: str, resources: Resources, policy: Policy) -> str:
        limit, now = policy.max_temperature, resources.temperature
        key = model, device, "temperature"
        if limit is None or now is None:
            return self._is_over(key, over=False)
        over = now > (limit - TEMPERATURE_HYSTERESIS if key in self._over else limit)
        back = f", back below {limit - TEMPERATURE_HYSTERESIS:.0f}" if now <= limit else ""
        return self._is_over(key, over=over) and f"is at {now:.0f} degrees, limit {limit:.0f}{back}"

    def _is_over(self, key: tuple[str, str, str], *, over: bool) -> str:
        if over:
            self._over.add(key)
            return "over"
        self._over.discard(key)
        return ""


def conditions(
    model: str,
    devices: Iterable[str],
    resources: Mapping[str, Resources | None],
    policy: Policy,
    limits: Limits,
) -> Conditions:
    """What is to be told the planner of each device, for ``model``.

    A device whose watts nobody knows counts with the median of the others: with 0 all work would flow to it.
    """
    devices = list(devices)
    found = {device: believable_watts(resources.get(device)) for device in devices}
    known = {device: watts for device, watts in found.items() if isinstance(watts, Watts)}
    notes = [
        f"watts of {device} are not used: {why}" for device, why in found.items() if isinstance(why, str)
    ]
    silent = [device for device in devices if device not in known]
    usual = Watts(0.0, 0.0, "unknown")
    if known:
        usual = Watts(
            median(watts.busy for watts in known.values()),
            median(watts.radio for watts in known.values()),
            "median of the others",
        )
        if silent:
            counted = f"counted with the median of the others, {usual.busy:.1f} W"
            notes.append(f"no watts are known of {listed(silent)}: {counted}")
    elif devices:
        notes.append("no device tells its watts: energy counts nothing, so the fastest plan is taken")
    prices = {price.device: price for price in policy.prices}
    of = {}
    for device in devices:
        told, price = resources.get(device), prices.get(device)
        of[device] = Condition(
            known.get(device, usual),
            energy_weight(policy, on_battery=told is not None and bool(told.on_battery)),
            price.per_second if price else 0.0,
            price.per_gigabyte / 1e9 if price else 0.0,
            limits.why_limited(model, device, told, policy),
        )
    return Conditions(of, tuple(notes), bool(known))


def believable_watts(resources: Resources | None) -> Watts | str | None:
    """Watts above idle; a sentence why they are not believed; None where none are told."""
    power = resources.power if resources is not None else None
    if power is None:
        return None
    if power.busy_watts > MOST_WATTS:
        return f"{power.busy_watts:.0f} W busy ({power.source or 'no source'}) is beyond {MOST_WATTS:.0f} W"
    if power.radio_watts > MOST_RADIO_WATTS:
        return f"a radio of {power.radio_watts:.0f} W is beyond {MOST_RADIO_WATTS:.0f} W"
    busy = power.busy_watts - power.idle_watts
    if busy < 0.0:
        return f"{power.busy_watts:.1f} W busy is less than {power.idle_watts:.1f} W idle"
    learned = ", learned" if power.learned else ""
    return Watts(busy, power.radio_watts, f"{power.source or 'unnamed source'}{learned}")


def energy_weight(policy: Policy, *, on_battery: bool) -> float:
    """How often a joule of a device counts."""
    if on_battery:
        return BATTERY_WEIGHT if policy.battery_weight is None else policy.battery_weight
    return 1.0 if policy.mains_weight is None else policy.mains_weight
