"""A policy in words, for people and for the history."""

from __future__ import annotations

from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.requests import Pin, Policy, Price

NOTHING = "nothing but what is the default"


def policy_text(policy: Policy) -> str:
    """What ``policy`` keeps to beyond the defaults, in one line."""
    p, default = policy, Policy()
    parts: list[str] = []
    if p.objective is not None:
        parts.append(f"objective {p.objective}")
    if p.bound_factor is not None:
        parts.append(f"at most {p.bound_factor:g} times the best latency")
    if p.bound_seconds is not None:
        parts.append(f"at most {p.bound_seconds * 1e3:g} ms per job")
    if p.in_flight is not None:
        parts.append(f"{p.in_flight} jobs in flight")
    if p.codecs != default.codecs:
        parts.append(f"codecs {', '.join(p.codecs)}")
    if p.accuracy != default.accuracy:
        parts.append(accuracy_text(p.accuracy))
    parts += [pin_text(pin) for pin in p.pins]
    parts += [f"zone {zone.name} is {', '.join(zone.devices)}" for zone in p.zones]
    parts += [f"never {device}" for device in p.exclude]
    if p.keep_input:
        parts.append("the raw input stays on its device")
    if p.battery_floor is not None:
        parts.append(f"no new work for a battery below {p.battery_floor:.0%}")
    if p.max_temperature is not None:
        parts.append(f"no new work for a device above {p.max_temperature:g} degrees")
    if p.battery_weight is not None:
        parts.append(f"a joule from a battery counts {p.battery_weight:g} times")
    if p.mains_weight is not None:
        parts.append(f"a joule from the mains counts {p.mains_weight:g} times")
    parts += [_price_text(price) for price in p.prices]
    return "; ".join(parts) or NOTHING


def pin_text(pin: Pin) -> str:
    """``units 0-2 only on pi or laptop``."""
    where = f"in zone {pin.zone}" if pin.device is None else f"on {' or '.join((pin.device, *pin.also))}"
    return f"units {pin.start}-{pin.stop} {'never' if pin.never else 'only'} {where}"


def accuracy_text(budget: AccuracyBudget) -> str:
    """How far outputs may be off."""
    return (
        f"outputs within {budget.max_error:.3g} of the exact ones, the same best label in "
        f"{budget.min_agreement:.0%} of samples"
    )


def _price_text(price: Price) -> str:
    return f"{price.device} costs {price.per_second:g} per second and {price.per_gigabyte:g} per GB"
