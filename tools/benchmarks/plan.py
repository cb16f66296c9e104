"""Planning: 200 units over 16 and over 1,000 devices, against networkx on the same graph."""

from __future__ import annotations

import dataclasses
import importlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import NotMeasurableError, Report
from edgemesh.planning.costs import TICKS
from edgemesh.planning.front import pareto_front
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, Link, PlanningDevice, raw_at_both_ends
from edgemesh.planning.objectives import solve
from edgemesh.planning.sweep import best_end, latency_steps, route_of, values_of

UNITS, DEVICES, MANY, CODECS = 200, 16, 1000, 3
_NX_UNITS = 40
"""Of the graph with 1,000 devices: networkx needs an edge for each run, 20 million of them at 200 units."""


def measure(report: Report) -> None:
    """Processor time of one thread, because the planner waits for nothing; instances are fresh for each
    solve.

    So the cost model's arrays are part of the planner's time. networkx is timed on the search alone, against
    our search alone; the figures from the instance to the plan, its graph made too, are printed beside.
    """
    try:
        networkx: Any = importlib.import_module("networkx")
    except ImportError as error:
        raise NotMeasurableError("networkx is the baseline: install the dev extra") from error
    planners: dict[str, Callable[[Instance], object]] = {
        "latency": partial(solve, goal=Goal("latency")),
        "bounded-energy": partial(solve, goal=Goal("bounded-energy")),
        "front": pareto_front,
    }
    near: dict[str, list[float]] = {name: [] for name in planners}
    for seed in range(9 if report.quick else 40):
        for name, planner in planners.items():
            near[name].append(_seconds(planner, _instance(seed, UNITS, DEVICES)))
    many = {
        name: [
            _seconds(planners[name], _instance(seed, UNITS, MANY)) for seed in range(2 if report.quick else 7)
        ]
        for name in ("latency", "bounded-energy")
    }
    size = f"{UNITS} units x {DEVICES} devices x {CODECS} codecs"
    for name, limit in (("latency", 10.0), ("bounded-energy", 10.0), ("front", 100.0)):
        report.claim(f"{name}, {size}", 1e3 * median(near[name]), limit, "ms")
    for name, samples in many.items():
        report.claim(f"{name}, {UNITS} units x {MANY} devices x {CODECS} codecs", median(samples), 1.0, "s")
    few = _NX_UNITS // (2 if report.quick else 1)
    for units, devices, count in ((UNITS, DEVICES, 3 if report.quick else 9), (few, MANY, 1)):
        ratios = [_compared(networkx, report, _instance(seed, units, devices)) for seed in range(count)]
        report.claim(
            f"latency against networkx, {units} units x {devices} devices x {CODECS} codecs",
            median(ratios),
            1 / 20,
        )
    _growth(report, planners)


def _growth(report: Report, planners: dict[str, Callable[[Instance], object]]) -> None:
    """How the time grows with units and with devices."""
    sizes = ((50, 16), (100, 16), (200, 16), (400, 16), (200, 32), (200, 64), (200, 128), (200, 256))
    for units, devices in sizes:
        for name in ("latency", "bounded-energy"):
            samples = [_seconds(planners[name], _instance(seed, units, devices)) for seed in range(3)]
            report.figure(f"{name}, {units} units x {devices} devices, ms", 1e3 * median(samples))


def _seconds(planner: Callable[[Instance], object], instance: Instance) -> float:
    """The least of three: what else the machine does can only add."""
    samples = []
    for _ in range(3):
        fresh = dataclasses.replace(instance)
        began = time.process_time()
        planner(fresh)
        samples.append(time.process_time() - began)
    return min(samples)


def _compared(networkx: Any, report: Report, instance: Instance) -> float:
    """Our search over networkx's; both find the same latency."""
    began = time.process_time()
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from(_edges(instance))
    made = time.process_time()
    shortest = networkx.dijkstra_path_length(graph, "input", "output")
    theirs = time.process_time() - made
    whole = time.process_time() - began
    planned = _seconds(partial(solve, goal=Goal("latency")), instance)
    steps = latency_steps(instance.costs)
    began = time.process_time()
    (values,) = values_of(steps)
    device, cost = best_end(steps, values)
    route_of(steps, values, device)
    ours = time.process_time() - began
    assert math.isclose(cost.real / TICKS, shortest, abs_tol=1e-6), (cost, shortest)
    size = f"{instance.unit_count} units x {len(instance.devices)} devices"
    report.figure(f"{size}: networkx's search, ms", 1e3 * theirs)
    report.figure(f"{size}: instance to plan, networkx over ours", whole / planned)
    return ours / theirs


def _edges(instance: Instance) -> Iterator[tuple[Any, Any, float]]:
    """The star: a cut is left to the broker under a codec and entered from there; runs are edges."""
    units, origin = instance.unit_count, instance.devices[0]
    weights = np.concatenate(([0.0], np.cumsum(instance.weight_bytes)))
    for d, device in enumerate(instance.devices):
        before = np.concatenate(([0.0], np.cumsum(device.seconds * device.run_factor)))
        fixed = device.queue_seconds + device.run_overhead
        for start in range(units):
            for stop in range(start + 1, units + 1):
                need = weights[stop] - weights[start] + instance.peak_bytes[start:stop].max()
                if need > device.memory_limit:
                    break
                yield ("in", d, start), ("out", d, stop), fixed + float(before[stop] - before[start])
        for cut in range(1, units):
            for k in range(CODECS):
                yield ("out", d, cut), ("broker", k, cut), _leave(instance, device, cut, k)
                yield ("broker", k, cut), ("in", d, cut), _enter(instance, device, cut, k)
        away = d != 0
        yield (
            "input",
            ("in", d, 0),
            _leave(instance, origin, 0, 0) + _enter(instance, device, 0, 0) if away else 0.0,
        )
        back = _leave(instance, device, units, 0) + _enter(instance, origin, units, 0) if away else 0.0
        yield ("out", d, units), "output", back


def _leave(instance: Instance, device: PlanningDevice, cut: int, k: int) -> float:
    sizes, link = instance.cut_bytes[cut], device.link
    return float(device.encode[k] * sizes[0] + link.latency_up + sizes[k] / link.rate_up)


def _enter(instance: Instance, device: PlanningDevice, cut: int, k: int) -> float:
    sizes, link = instance.cut_bytes[cut], device.link
    took = device.decode[k] * sizes[0] + link.latency_down + sizes[k] / link.rate_down
    return float(took + instance.broker_seconds)


def _instance(seed: int, units: int, devices: int) -> Instance:
    """A network whose boundaries shrink on the way, on boards from a Pi Zero to a desktop, seeded.

    Whole-model times spread log-evenly over 0.02 to 3 s (inputs arise on one above 0.4 s) and links over 0.5
    to 20 MB/s; the faster a board, the more watts, though less than in proportion. One device in eight
    cannot hold the whole model.
    """
    random = Random(seed)
    work = np.array([random.lognormvariate(0.0, 1.0) for _ in range(units)])
    weights = np.array([random.lognormvariate(0.0, 1.5) for _ in range(units)])
    elements = [math.exp(-2.5 * c / units) * 1e5 * random.lognormvariate(0.0, 0.5) for c in range(units + 1)]
    elements[0], elements[-1] = 150_528.0, 1000.0
    return Instance(
        tuple(f"unit{u}" for u in range(units)),
        weights * (100e6 / weights.sum()),
        np.full(units, 2e6),
        ("raw", "f16", "q8"),
        np.rint(np.array(elements)[:, None] * [4.0, 2.0, 1.0]),
        raw_at_both_ends(units, CODECS),
        tuple(_device(random, f"d{d}", work / work.sum(), home=d == 0) for d in range(devices)),
        0,
        broker_seconds=2e-4,
    )


def _device(random: Random, name: str, work: Any, *, home: bool) -> PlanningDevice:
    whole = math.exp(random.uniform(math.log(0.4 if home else 0.02), math.log(3.0)))
    up = math.exp(random.uniform(math.log(5e5), math.log(2e7)))
    delay = random.uniform(0.0005, 0.01)
    slow = random.uniform(1.0, 8.0)
    small = random.random() < 0.125 and not home
    return PlanningDevice(
        name,
        Link(delay, up, 1.2 * delay, up * random.uniform(0.7, 1.3)),
        work * whole * np.array([random.lognormvariate(0.0, 0.15) for _ in work]),
        run_overhead=random.uniform(1e-4, 1e-3),
        run_factor=random.uniform(0.8, 1.0),
        memory_limit=random.uniform(20e6, 90e6) if small else math.inf,
        queue_seconds=random.choice((0.0, random.uniform(0.0, 0.02))),
        encode=tuple(slow * by for by in (0.1e-9, 0.6e-9, 1.2e-9)),
        decode=tuple(slow * by for by in (0.0, 0.4e-9, 0.8e-9)),
        busy_watts=random.uniform(1.0, 5.0) * (0.6 / whole) ** 0.6,
        radio_watts=random.uniform(0.2, 1.0),
    )
