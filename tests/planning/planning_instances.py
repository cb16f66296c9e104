"""Builders of planning instances, and the optimum by trying everything."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import numpy as np

from edgemesh.planning.instance import Instance, Link, Pin, PlanningDevice, Requester, raw_at_both_ends
from edgemesh.planning.plan import Partition, Plan

FREE_LINK = Link(0.0, math.inf, 0.0, math.inf)


def link(
    up: float = math.inf, down: float = math.inf, latency_up: float = 0.0, latency_down: float = 0.0
) -> Link:
    """A link with given rates, free where nothing is said."""
    return Link(latency_up, up, latency_down, down)


def device(name: str, seconds: list[float], **others: Any) -> PlanningDevice:
    """A device with a free link unless told otherwise."""
    return PlanningDevice(name, others.pop("link", FREE_LINK), np.array(seconds, dtype=float), **others)


def instance(
    devices: list[PlanningDevice], cut_bytes: list[list[float]] | None = None, **others: Any
) -> Instance:
    """An instance with units of no size, one codec and origin 0 unless told otherwise."""
    units = len(devices[0].seconds)
    sizes = np.array(cut_bytes if cut_bytes is not None else [[0.0]] * (units + 1), dtype=float)
    fields: dict[str, Any] = {
        "unit_names": tuple(f"layer{i}" for i in range(units)),
        "weight_bytes": np.zeros(units),
        "peak_bytes": np.zeros(units),
        "codecs": ("raw", "f16", "q8")[: sizes.shape[1]],
        "cut_bytes": sizes,
        "codec_allowed": raw_at_both_ends(units, sizes.shape[1]),
        "devices": tuple(devices),
        "origin": 0,
    }
    return Instance(**{**fields, **others})


def random_instance(random: Random, *, units: int = 5, devices: int = 3, codecs: int = 2) -> Instance:
    """A small instance in whole milliseconds, so that ties are common, with every constraint now and then."""
    units, devices, codecs = random.randint(1, units), random.randint(1, devices), random.randint(1, codecs)
    allowed = raw_at_both_ends(units, codecs)
    if random.random() < 0.3:
        allowed = np.array([[random.random() < 0.7 for _ in range(codecs)] for _ in range(units + 1)])
    pins = []
    if random.random() < 0.25:
        start = random.randrange(units)
        chosen = random.sample(range(devices), random.randint(1, devices))
        pins.append(Pin(start, random.randint(start + 1, units), frozenset(chosen)))
    origin: int | Requester = random.randrange(devices)
    if random.random() < 0.3:
        origin = Requester(random_link(random), radio_watts=random.choice((0.0, 1.0)))
    return instance(
        [_random_device(random, f"d{index}", units, codecs) for index in range(devices)],
        [[float(1000 * random.randint(0, 6) // (k + 1)) for k in range(codecs)] for _ in range(units + 1)],
        weight_bytes=np.array([float(random.randint(0, 5)) for _ in range(units)]),
        peak_bytes=np.array([float(random.randint(0, 5)) for _ in range(units)]),
        codec_allowed=allowed,
        origin=origin,
        broker_seconds=random.choice([0.0, 0.001]),
        pins=tuple(pins),
        excluded=frozenset({random.randrange(devices)}) if random.random() < 0.1 else frozenset(),
    )


def random_link(random: Random) -> Link:
    """Whole milliseconds and rates that divide whole kilobytes."""
    rates = (math.inf, 500_000.0, 1_000_000.0, 2_000_000.0)
    return Link(
        random.choice((0.0, 0.001, 0.002)),
        random.choice(rates),
        random.choice((0.0, 0.001, 0.003)),
        random.choice(rates),
    )


def _random_device(random: Random, name: str, units: int, codecs: int) -> PlanningDevice:
    runs = None
    if random.random() < 0.2:
        runs = np.array([[0.001 * random.randint(1, 20) for _ in range(units + 1)] for _ in range(units + 1)])
    per_byte = (0.0, *(random.choice((0.0, 1e-6, math.inf)) for _ in range(codecs - 1)))
    return PlanningDevice(
        name,
        random_link(random),
        np.array([math.inf if random.random() < 0.1 else 0.001 * random.randint(1, 9) for _ in range(units)]),
        run_overhead=0.001 * random.randint(0, 2),
        run_factor=random.choice((1.0, 2.0)),
        runs=runs,
        memory_limit=float(random.randint(2, 15)) if random.random() < 0.6 else math.inf,
        queue_seconds=0.001 * random.choice((0, 0, 1, 5)),
        encode=per_byte,
        decode=per_byte if random.random() < 0.5 else (),
        unavailable="is offline" if random.random() < 0.05 else "",
        **_power(random),
    )


def _power(random: Random) -> dict[str, float]:
    """Whole watts and simple prices, so that joules and money tie as often as seconds."""
    return {
        "busy_watts": float(random.choice((0, 1, 2, 5, 20))),
        "radio_watts": float(random.choice((0, 0, 1))),
        "energy_weight": random.choice((1.0, 1.0, 1.0, 0.0, 2.0)),
        "price_per_second": random.choice((0.0, 0.0, 0.5, 1.0)),
        "price_per_byte": random.choice((0.0, 0.0, 1e-6)),
    }


Figures = tuple[float, int, float]
"""Nanoseconds, partitions, bytes: the order in which plans are compared."""


def all_plans(inst: Instance) -> Iterator[tuple[Figures, tuple[int, ...]]]:
    """Figures and devices of every plan that keeps all constraints, by plain enumeration of everything."""
    units, choices = inst.unit_count, range(len(inst.devices))
    for size in range(1, units + 1):
        for inner in itertools.combinations(range(1, units), size - 1):
            cuts = (0, *inner, units)
            for used in itertools.product(choices, repeat=size):
                if any(a == b for a, b in itertools.pairwise(used)):
                    continue
                best = _plan_figures(inst, cuts, used)
                if best[0] < math.inf:
                    yield best, used


def best_by_trying(inst: Instance, *, using: int | None = None) -> Figures | None:
    """Figures of the best plan (that uses device ``using``), or None."""
    return min((f for f, used in all_plans(inst) if using is None or using in used), default=None)


def figures(plan: Plan) -> Figures:
    """The same figures of a solver's plan."""
    return (round(plan.total * 1e9), len(plan.partitions), float(plan.prediction.nbytes))


class Outcome(NamedTuple):
    """Figures of one complete plan, in whole ticks: nanoseconds, nanojoules, a millionth of a millionth."""

    seconds: int
    joules: int
    money: int
    bottleneck: int
    partitions: int
    nbytes: int
    used: frozenset[int]


def outcome_of(inst: Instance, plan: Plan) -> Outcome:
    """The figures that a solver's plan claims."""
    p = plan.prediction
    return Outcome(
        round(p.total * 1e9), round(p.joules * 1e9), round(p.money * 1e12), round(p.bottleneck * 1e9),
        len(plan.partitions), p.nbytes, frozenset(inst.indices[name] for name in plan.devices),
    )  # fmt: skip


def all_outcomes(inst: Instance) -> list[Outcome]:
    """Every plan that keeps all constraints, with every choice of codecs, by plain recursion."""
    found: list[Outcome] = []
    _extend(inst, 0, None, [], [], found)
    return found


def _extend(
    inst: Instance,
    cut: int,
    at: int | None,
    runs: list[tuple[int, int, int]],
    sent: list[Any],
    found: list[Outcome],
) -> None:
    if cut == inst.unit_count:
        for last in _messages(inst, cut, at, None):
            outcome = _outcome(inst, runs, [*sent, *last])
            found += [] if outcome is None else [outcome]
        return
    for d, spec in enumerate(inst.devices):
        if d == at or spec.unavailable or d in inst.excluded:
            continue
        for message in _messages(inst, cut, at, d):
            for stop in range(cut + 1, inst.unit_count + 1):
                unit = stop - 1
                barred = any(p.start <= unit < p.stop and d not in p.devices for p in inst.pins)
                if barred or spec.seconds[unit] == math.inf:
                    break
                _extend(inst, stop, d, [*runs, (cut, stop, d)], [*sent, *message], found)


def _messages(inst: Instance, cut: int, a: int | None, b: int | None) -> list[list[tuple[Any, ...]]]:
    """Ways to move a cut's tensors: none needed, or one per codec. None stands for the requester."""
    sender, receiver = (inst.requester if d is None else inst.devices[d] for d in (a, b))
    if sender is receiver:
        return [[]]
    ways: list[list[tuple[Any, ...]]] = []
    for k in range(len(inst.codecs)):
        encode = float(sender.encode[k]) if sender.encode else 0.0
        decode = float(receiver.decode[k]) if receiver.decode else 0.0
        if inst.codec_allowed[cut, k] and encode < math.inf and decode < math.inf:
            raw, size = float(inst.cut_bytes[cut, 0]), float(inst.cut_bytes[cut, k])
            ways.append([(sender, receiver, encode * raw, decode * raw, size)])
    return ways


def _outcome(inst: Instance, runs: list[tuple[int, int, int]], sent: list[Any]) -> Outcome | None:
    loads: dict[Any, float] = defaultdict(float)
    weights: dict[int, float] = defaultdict(float)
    peaks: dict[int, float] = defaultdict(float)
    seconds = joules = money = nbytes = 0.0
    for start, stop, d in runs:
        spec = inst.devices[d]
        own = float(sum(spec.seconds[start:stop]))
        run = (
            spec.run_overhead + spec.run_factor * own if spec.runs is None else float(spec.runs[start, stop])
        )
        weights[d] += float(sum(inst.weight_bytes[start:stop]))
        peaks[d] = max(peaks[d], float(max(inst.peak_bytes[start:stop])))
        if weights[d] + peaks[d] > spec.memory_limit:
            return None
        seconds += spec.queue_seconds + run
        joules += spec.energy_weight * spec.busy_watts * run
        money += spec.price_per_second * run
        loads["computing", id(spec)] += run
    for sender, receiver, encode, decode, size in sent:
        up, down = size / sender.link.rate_up, size / receiver.link.rate_down
        seconds += (
            encode
            + sender.link.latency_up
            + up
            + inst.broker_seconds
            + down
            + receiver.link.latency_down
            + decode
        )
        nbytes += size
        for side, codec, way, air in ((sender, encode, "up", up), (receiver, decode, "down", down)):
            joules += side.energy_weight * side.radio_watts * air
            loads["computing", id(side)] += codec
            loads[way, id(side)] += air
            if isinstance(side, PlanningDevice):
                joules += side.energy_weight * side.busy_watts * codec
                money += side.price_per_second * codec + side.price_per_byte * size
    return Outcome(
        round(seconds * 1e9), round(joules * 1e9), round(money * 1e12), round(max(loads.values()) * 1e9),
        len(runs), round(nbytes), frozenset(d for _, _, d in runs),
    )  # fmt: skip


def forced(*parts: tuple[int, int, str] | tuple[int, int, str, str]) -> list[Partition]:
    """Partitions from tuples: start, stop, device and, if not raw, codec."""
    return [Partition(*part) if len(part) == 4 else Partition(*part, "raw") for part in parts]  # type: ignore[call-arg,arg-type]


def _plan_figures(inst: Instance, cuts: tuple[int, ...], used: tuple[int, ...]) -> Figures:
    total, nbytes = 0.0, 0.0
    memory = [0.0] * len(inst.devices)
    peaks = [0.0] * len(inst.devices)
    for (start, stop), d in zip(itertools.pairwise(cuts), used, strict=True):
        spec = inst.devices[d]
        if spec.unavailable or d in inst.excluded:
            return (math.inf, 0, 0.0)
        if any(
            pin.start <= u < pin.stop and d not in pin.devices
            for pin in inst.pins
            for u in range(start, stop)
        ):
            return (math.inf, 0, 0.0)
        own = float(sum(spec.seconds[start:stop]))
        if own == math.inf:
            return (math.inf, 0, 0.0)
        took = (
            spec.run_overhead + spec.run_factor * own if spec.runs is None else float(spec.runs[start, stop])
        )
        total += spec.queue_seconds + took
        memory[d] += float(sum(inst.weight_bytes[start:stop]))
        peaks[d] = max(peaks[d], float(max(inst.peak_bytes[start:stop])))
    if any(memory[d] + peaks[d] > inst.devices[d].memory_limit for d in set(used)):
        return (math.inf, 0, 0.0)
    places = [inst.requester, *(inst.devices[d] for d in used), inst.requester]
    for cut, (sender, receiver) in zip(cuts, itertools.pairwise(places), strict=True):
        if sender is receiver:
            continue
        raw = inst.cut_bytes[cut, 0]
        options = [
            (
                round(
                    1e9
                    * (
                        (sender.encode[k] * raw if sender.encode and k else 0.0)
                        + (receiver.decode[k] * raw if receiver.decode and k else 0.0)
                        + sender.link.latency_up
                        + inst.cut_bytes[cut, k] / sender.link.rate_up
                        + inst.broker_seconds
                        + inst.cut_bytes[cut, k] / receiver.link.rate_down
                        + receiver.link.latency_down
                    )
                ),
                inst.cut_bytes[cut, k],
            )
            for k in range(len(inst.codecs))
            if inst.codec_allowed[cut, k]
            and not (sender.encode and sender.encode[k] == math.inf)
            and not (receiver.decode and receiver.decode[k] == math.inf)
        ]
        if not options:
            return (math.inf, 0, 0.0)
        seconds, size = min(options)
        total += seconds / 1e9
        nbytes += size
    return (round(total * 1e9), len(used), float(nbytes))
