"""Exact search where a device comes up more than once and its memory cannot hold all of its runs.

Best-first search (A*) over labels: a place of the shortest-path graph plus the memory used so far on the
crowded devices. The rest of the way is bounded from below twice: by the ways without memory, which are exact
when memory does not bind, and by the ways that pay for memory (``memory_price``). Only devices that a found
path really overfills are tracked, and more are added until the path fits (as in decremental state space
relaxation: Righini and Salani, Networks 51(3), 2008).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgemesh.planning.instance import Instance
from edgemesh.planning.memory_price import Prices, memory_prices, priced
from edgemesh.planning.paths import IntArray, Path, Run, cost_of, ways_from_start
from edgemesh.planning.prediction import crowded_devices
from edgemesh.planning.tables import CostArray, Tables

LABELS: Final = 6_000
"""Labels of one search, 0.1 to 0.3 ms each; the problem contains the knapsack problem, so a bound is needed.
When it is reached, the answer is the best path met while looking for prices, or the first one that a
depth-first search meets, and it says that it is not proven. Most searches need a few hundred labels."""

DONE: Final = -1
"""Target of a label whose path is complete."""

Used = tuple[tuple[float, float], ...]
"""Bytes of weights and largest peak, per tracked device."""


@dataclass(frozen=True)
class Found:
    """A path within memory; ``proven`` when no other path is better."""

    path: Path
    proven: bool


@dataclass(frozen=True)
class _Bounds:
    """Least costs of the rest of the way, ``[2, D, U + 1]``: still to see the wanted device, or no longer."""

    start: CostArray
    """About to run at the cut."""
    end: CostArray
    """Just finished at the cut."""


@dataclass(frozen=True)
class _Place:
    """Where a label is; only labels of one place are compared."""

    cut: int
    device: int
    ended: bool
    """Just finished a run there, as against about to start one."""
    seen: bool
    """Whether the wanted device has been used."""


@dataclass
class _Label:
    place: _Place
    cost: complex
    used: Used
    parent: int
    targets: IntArray
    """Where it can go, best first: stops of a run, or devices to send to, or ``DONE``."""
    bounds: CostArray
    """Least total cost of a path that goes there."""
    following: int = 0


def best_path_within_memory(
    instance: Instance, crowded: list[int], wanted: int | None = None
) -> Found | None:
    """The best path that fits all memories and uses device ``wanted``, if one is; None when there is none.

    ``crowded`` are the devices that the path without memory overfills. Exact up to ``LABELS`` labels.
    """
    tables = instance.tables
    bounds = _bounds(tables, wanted)
    tracked = sorted(crowded)
    while True:
        prices = memory_prices(instance, tracked, wanted)
        priced_bounds = _bounds(priced(tables, prices.per_byte), wanted)
        search = _Search(instance, bounds, priced_bounds, prices, tracked, wanted)
        path = search.run(deep=False)
        if search.exhausted:
            break
        if path is None:
            return None
        more = [device for device in crowded_devices(instance, path.runs) if device not in tracked]
        if not more:
            return Found(path, proven=True)
        tracked = sorted({*tracked, *more})
    if prices.path is not None:
        return Found(prices.path, proven=False)
    everywhere = list(range(len(instance.devices)))
    path = _Search(instance, bounds, priced_bounds, prices, everywhere, wanted).run(deep=True)
    return None if path is None else Found(path, proven=False)


def _bounds(tables: Tables, wanted: int | None) -> _Bounds:
    mirrored = tables.mirrored
    free = ways_from_start(mirrored)
    ways = [free if wanted is None else ways_from_start(mirrored, through=(wanted, free)), free]
    # Ways backwards: what has just ended there is about to start here. About to run on the wanted device
    # counts as seen in both halves, because ``ways_from_start`` takes it from the free ways.
    start, end = (np.stack([getattr(way, name)[:, ::-1] for way in ways]) for name in ("end", "arrive"))
    return _Bounds(start, end)


class _Search:
    """One search with a fixed set of tracked devices."""

    def __init__(
        self,
        instance: Instance,
        bounds: _Bounds,
        priced_bounds: _Bounds,
        prices: Prices,
        tracked: list[int],
        wanted: int | None,
    ) -> None:
        self._tables = instance.tables
        self._priced = priced_bounds
        self._known = prices.path
        known_cost = cost_of(self._tables, prices.path) if prices.path else 0j
        self._known_order = (known_cost.real, known_cost.imag)
        self._prices = prices.per_byte[tracked]
        self._smallest = float(instance.peak_bytes.min())
        self._limits = [instance.devices[device].memory_limit for device in tracked]
        self._bounds = bounds
        self._slots = {device: slot for slot, device in enumerate(tracked)}
        self._wanted = wanted
        self._labels: list[_Label] = []
        self._heap: list[tuple[float, float, float, int]] = []
        self._kept: dict[_Place, list[tuple[tuple[float, float], Used]]] = {}
        self.exhausted = False
        """Whether it ended because of ``LABELS``."""

    def run(self, *, deep: bool) -> Path | None:
        """The best complete path, or with ``deep`` the first that a depth-first search meets."""
        nothing: Used = ((0.0, 0.0),) * len(self._slots)
        for device, cost in enumerate(self._tables.first):
            self._add(_Place(0, device, False, self._sees(device)), complex(cost), nothing, -1)
        for number in range(len(self._labels)):
            self._push(number, deep)
        while self._heap:
            _, *bound, number = heapq.heappop(self._heap)
            if self._known is not None and tuple(bound) >= self._known_order:
                return self._known
            label = self._labels[number]
            target = int(label.targets[label.following])
            label.following += 1
            self._push(number, deep)
            if target == DONE:
                return self._path(label)
            if len(self._labels) >= LABELS:
                self.exhausted = True
                return None
            if self._add(*self._step(label, target), number):
                self._push(len(self._labels) - 1, deep)
        return None

    def _push(self, number: int, deep: bool) -> None:
        label = self._labels[number]
        if label.following < len(label.targets):
            bound = complex(label.bounds[label.following])
            depth = -float(label.place.cut) if deep else 0.0
            heapq.heappush(self._heap, (depth, bound.real, bound.imag, number))

    def _sees(self, device: int) -> bool:
        return self._wanted is None or device == self._wanted

    def _step(self, label: _Label, target: int) -> tuple[_Place, complex, Used]:
        tables, place = self._tables, label.place
        if place.ended:
            cost = label.cost + complex(
                (tables.leave[place.cut, place.device] + tables.enter[place.cut, target]).min()
            )
            return _Place(place.cut, target, False, place.seen or self._sees(target)), cost, label.used
        used, slot = label.used, self._slots.get(place.device)
        if slot is not None:
            weights, peak = used[slot]
            weights += float(tables.weights[target] - tables.weights[place.cut])
            peak = max(peak, float(tables.peak[target, place.cut]))
            used = (*used[:slot], (weights, peak), *used[slot + 1 :])
        cost = label.cost + float(tables.run[target, place.device, place.cut])
        return _Place(target, place.device, True, place.seen), cost, used

    def _add(self, place: _Place, cost: complex, used: Used, parent: int) -> bool:
        used = self._without_slack(used, place.cut)
        kept = self._kept.setdefault(place, [])
        order = (cost.real, cost.imag)
        if any(other <= order and _no_more(memory, used) for other, memory in kept):
            return False
        kept.append((order, used))
        targets, bounds = self._options(place, cost, used)
        best = bounds.argsort(kind="stable")[: int(np.isfinite(bounds.real).sum())]
        self._labels.append(_Label(place, cost, used, parent, targets[best], bounds[best]))
        return True

    def _options(self, place: _Place, cost: complex, used: Used) -> tuple[IntArray, CostArray]:
        tables, cut, device, seen = self._tables, place.cut, place.device, int(place.seen)
        last = len(tables.weights) - 1
        if place.ended and cut == last:
            return np.array([DONE]), cost + self._bounds.end[seen, device, cut:]
        if place.ended:
            step = cost + (tables.leave[cut, device] + tables.enter[cut]).min(axis=1)
            step[device] = np.inf
            rest, dear = self._bounds.start[seen, :, cut], self._priced.start[seen, :, cut]
            return np.arange(len(step)), _larger(step + rest, step + dear - self._worth(used))
        stops = np.arange(cut + 1, last + 1)
        step = cost + tables.run[stops, device, cut]
        rest, dear = self._bounds.end[seen, device, stops], self._priced.end[seen, device, stops]
        worth: Any = self._worth(used)
        slot = self._slots.get(device)
        if slot is not None:
            weights, peak = used[slot]
            need = weights + tables.weights[stops] - tables.weights[cut]
            need += np.maximum(peak, tables.peak[stops, cut])
            step[need > self._limits[slot]] = np.inf
            worth = worth + self._prices[slot] * (weights + max(peak, self._smallest) - need)
        return stops, _larger(step + rest, step + dear - worth)

    def _worth(self, used: Used) -> float:
        """What the memory that is left could spare the rest of the way: at most its price."""
        worth = 0.0
        for price, limit, (weights, peak) in zip(self._prices, self._limits, used, strict=True):
            if price:  # a device without a price may be without a limit: infinity times zero
                worth += float(price) * (limit - weights - max(peak, self._smallest))
        return worth

    def _without_slack(self, used: Used, cut: int) -> Used:
        # Memory that even all the remaining units would not fill cannot matter any more: counted as unused,
        # more labels dominate each other.
        rest = float(self._tables.weights[-1] - self._tables.weights[cut])
        peak = float(self._tables.peak[-1, cut])
        return tuple(
            (0.0, 0.0) if weights + rest + max(largest, peak) <= limit else (weights, largest)
            for (weights, largest), limit in zip(used, self._limits, strict=True)
        )

    def _path(self, label: _Label) -> Path:
        runs: list[Run] = []
        codecs: list[int] = []
        tables = self._tables
        while label.parent >= 0:
            before = self._labels[label.parent]
            cut, device = before.place.cut, label.place.device
            if label.place.ended:
                runs.append((cut, label.place.cut, device))
            else:
                codecs.append(
                    int((tables.leave[cut, before.place.device] + tables.enter[cut, device]).argmin())
                )
            label = before
        return Path(tuple(reversed(runs)), tuple(reversed(codecs)))


def _larger(bounds: CostArray, priced_bounds: CostArray) -> CostArray:
    # Real costs are whole ticks, so a fraction above a whole one means the next. The small allowance is for
    # the rounding of prices, which unlike everything else here are not exact.
    dear = np.ceil(priced_bounds.real - 0.01)
    raised = dear > bounds.real
    bounds[raised] = dear[raised]
    return bounds


def _no_more(one: Used, other: Used) -> bool:
    return all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(one, other, strict=True))
