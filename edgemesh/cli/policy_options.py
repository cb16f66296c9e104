"""Options of ``edgemesh plan`` that change what the planner keeps to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgemesh.cli.amounts import price, seconds, share
from edgemesh.cli.finite_range import FiniteRange
from edgemesh.errors import SettingsError
from edgemesh.node.policy_resets import RESETS
from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.requests import OBJECTIVE_NAMES, ObjectiveName, Pin, Price, Zone

if TYPE_CHECKING:
    from edgemesh.node.policy_change import PolicyChange

_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST = 86_400.0
_MOST_WEIGHT = 1e6

_OPTIONS = (
    click.option(
        "--objective",
        type=click.Choice(OBJECTIVE_NAMES),
        help="What plans are to minimise (default: bounded-energy).",
    ),
    click.option(
        "--bound",
        metavar="1.25x|120ms",
        help="Latency bound: times the best one, or a time (default: 1.25x).",
    ),
    click.option("--deadline", metavar="TIME", help="The same as --bound with a time."),
    click.option(
        "--in-flight",
        type=click.IntRange(1, 10_000),
        help="Jobs under way at once, for throughput (default: 1).",
    ),
    click.option(
        "--pin",
        "pins",
        multiple=True,
        metavar="A-B:DEVICE,..",
        help="Units A to B (B not included) only there, repeatable; zone=NAME in place of devices.",
    ),
    click.option(
        "--keep-off",
        "keep_off",
        multiple=True,
        metavar="A-B:DEVICE,..",
        help="Units A to B never there, repeatable.",
    ),
    click.option(
        "--zone",
        "zones",
        multiple=True,
        metavar="NAME=DEVICE,..",
        help="Devices that are trusted alike, repeatable.",
    ),
    click.option(
        "--exclude", "excluded", multiple=True, metavar="DEVICE,..", help="Never use these, repeatable."
    ),
    click.option(
        "--codecs",
        metavar="C,..",
        help="How activations may be sent: raw, f16, q8, also +zstd (default: raw).",
    ),
    click.option(
        "--accuracy",
        metavar="1%[,99%]",
        help="How far lossy codecs may move the outputs; in how many samples the best label stays "
        "(default: 1%,100%).",
    ),
    click.option("--keep-input", is_flag=True, help="The raw input never leaves the device it arises on."),
    click.option("--battery-floor", metavar="20%", help="No new work for a battery below this."),
    click.option(
        "--max-temperature",
        type=FiniteRange(0, 150),
        help="No new work for a device of more degrees Celsius.",
    ),
    click.option(
        "--battery-weight",
        type=FiniteRange(0, _MOST_WEIGHT),
        help="How often a joule of a battery counts (default: 2).",
    ),
    click.option(
        "--mains-weight",
        type=FiniteRange(0, _MOST_WEIGHT),
        help="How often a joule of the mains counts (default: 1).",
    ),
    click.option(
        "--price",
        "prices",
        multiple=True,
        metavar="DEVICE=P/s,P/GB",
        help="What a device costs per second of work and per GB, repeatable: cloud=0.0001/s,0.09/GB.",
    ),
    click.option(
        "--reset",
        multiple=True,
        type=click.Choice(tuple(RESETS)),
        help="Forget what is set by that, repeatable.",
    ),
    click.option("--clear", is_flag=True, help="Forget all of this again."),
)


def policy_options(function: _F) -> _F:
    """The options above, handed on as one ``change``; what is malformed raises SettingsError."""

    @functools.wraps(function)
    def with_change(*args: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _NAMES}
        return function(*args, change=policy_change(**given), **options)

    decorated: Any = with_change
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_NAMES = (
    "objective", "bound", "deadline", "in_flight", "pins", "keep_off", "zones", "excluded", "codecs",
    "accuracy", "keep_input", "battery_floor", "max_temperature", "battery_weight", "mains_weight", "prices",
    "reset", "clear",
)  # fmt: skip


def policy_change(
    *,
    objective: ObjectiveName | None,
    bound: str | None,
    deadline: str | None,
    in_flight: int | None,
    pins: tuple[str, ...],
    keep_off: tuple[str, ...],
    zones: tuple[str, ...],
    excluded: tuple[str, ...],
    codecs: str | None,
    accuracy: str | None,
    keep_input: bool,
    battery_floor: str | None,
    max_temperature: float | None,
    battery_weight: float | None,
    mains_weight: float | None,
    prices: tuple[str, ...],
    reset: tuple[str, ...],
    clear: bool,
) -> PolicyChange:
    """What was given, parsed; raises SettingsError naming the right form."""
    from edgemesh.node.policy_change import PolicyChange

    factor, limit = _bound(bound, deadline)
    found_pins = (*(parsed_pin(text) for text in pins), *(parsed_pin(text, never=True) for text in keep_off))
    return PolicyChange(
        objective=objective,
        bound_factor=factor,
        bound_seconds=limit,
        in_flight=in_flight,
        pins=found_pins or None,
        zones=tuple(_zone(text) for text in zones) or None,
        exclude=tuple(_device(name, "--exclude") for text in excluded for name in text.split(",")) or None,
        codecs=None if codecs is None else tuple(part.strip() for part in codecs.split(",")),
        accuracy=None if accuracy is None else _accuracy(accuracy),
        keep_input=keep_input or None,
        battery_floor=None if battery_floor is None else _share(battery_floor, "--battery-floor", "20%"),
        max_temperature=max_temperature,
        battery_weight=battery_weight,
        mains_weight=mains_weight,
        prices=tuple(_price(text) for text in prices) or None,
        reset=reset,
        clear=clear,
    )


def parsed_pin(text: str, *, never: bool = False) -> Pin:
    """``0-1:pi-4b`` is unit 0 on pi-4b; raises SettingsError."""
    option = "--keep-off" if never else "--pin"
    span, _, places = text.partition(":")
    start, _, stop = span.partition("-")
    if not (start.isdecimal() and stop.isdecimal() and places) or int(start) >= int(stop):
        raise SettingsError(
            f"{option} {text!r} is no range of units on a device: write it as 0-1:pi-4b (unit 0), as "
            "0-1:pi-4b,pi-5 or as 0-1:zone=NAME"
        )
    first, last = int(start), int(stop)
    if places.startswith("zone="):
        return Pin(first, last, zone=_device(places.removeprefix("zone="), f"zone of {option}"), never=never)
    devices = [_device(name, f"device of {option}") for name in places.split(",")]
    return Pin(first, last, devices[0], tuple(devices[1:]), never=never)


def _bound(bound: str | None, deadline: str | None) -> tuple[float | None, float | None]:
    if bound is not None and deadline is not None:
        raise SettingsError("--bound and --deadline say the same thing: give one of them")
    if deadline is not None:
        if not (limit := seconds(deadline)) or limit > _LONGEST:
            raise SettingsError(f"--deadline {deadline!r} is no time up to a day: write it as 120ms or 1.5s")
        return None, limit
    if bound is None:
        return None, None
    if bound.endswith("x"):
        try:
            factor = float(bound[:-1])
        except ValueError:
            factor = 0.0
        if 1.0 <= factor <= 1000.0:
            return factor, None
    elif 0.0 < (limit := seconds(bound) or 0.0) <= _LONGEST:
        return None, limit
    raise SettingsError(
        f"--bound {bound!r} is no bound: write it as 1.25x (times the best latency, 1x or more) or as 120ms"
    )


def _zone(text: str) -> Zone:
    name, _, devices = text.partition("=")
    if not (name and devices):
        raise SettingsError(f"--zone {text!r} names no devices: write it as --zone home=pi-4b,laptop")
    return Zone(
        _device(name, "zone of --zone"),
        tuple(_device(device, "device of --zone") for device in devices.split(",")),
    )


def _accuracy(text: str) -> AccuracyBudget:
    error, comma, agreement = text.partition(",")
    largest = share(error)
    if largest is None or (comma and share(agreement) is None):
        raise SettingsError(
            f"--accuracy {text!r} is no budget: write it as 1% (of the outputs), or as 1%,99% (and the best "
            "label stays in 99 % of samples)"
        )
    least = share(agreement) if comma else None
    return AccuracyBudget(largest) if least is None else AccuracyBudget(largest, least)


def _price(text: str) -> Price:
    device, _, amounts = text.partition("=")
    found = {"s": 0.0, "gb": 0.0}
    for part in amounts.split(","):
        amount = price(part)
        if amount is None:
            raise SettingsError(f"--price {text!r} is no price: write it as --price cloud=0.0001/s,0.09/GB")
        found[amount[1]] = amount[0]
    return Price(_device(device, "device of --price"), found["s"], found["gb"])


def _share(text: str, option: str, example: str) -> float:
    value = share(text)
    if value is None:
        raise SettingsError(f"{option} {text!r} is no share: write it as {example}")
    return value


def _device(name: str, what: str) -> str:
    return checked_id(name.strip(), what)
