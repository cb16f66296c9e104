"""Lagrangian prices: what a second of latency is worth at a bound, and a byte on a device that is too small.

Any prices give valid bounds on the cost of a plan, so both are sought over few cuts.

Latency: the dual of "least cost within a latency bound" by the method of Handler and Zang ("A dual algorithm
for the constrained shortest path problem", Networks 10, 1980): the two best known plans on either side of the
bound give the next price, until no plan is better at it than those two. Memory: bisection, device by device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from edgemesh.planning.costs import Costs, FloatArray, IntArray, Route, Share
from edgemesh.planning.prediction import memory_need
from edgemesh.planning.sweep import best_end, route_of, values_of, weighted_steps

ROUNDS: Final = 12
"""Six are usual; any price gives a valid bound, so ending early costs speed and no more."""
WHOLE_ROUNDS: Final = 2
"""Over all cuts, beginning with what was found over some."""
DOUBLINGS: Final = 20
HALVINGS: Final = 7
CUTS: Final = 32
"""Cuts that the price is sought over: it hardly depends on the others."""


@dataclass
class Bracket:
    """Cost and seconds, in ticks, of a plan within the bound and of a cheaper one beyond it; None where
    none is known."""

    fast: tuple[float, ...] | None
    cheap: tuple[float, ...] | None = None

    def take(self, at: tuple[float, ...], bound: float) -> None:
        """Let a plan replace the one on its side of the bound."""
        if at[1] <= bound:
            self.fast = at if self.fast is None else min(self.fast, at)
        else:
            self.cheap = at

    @property
    def price(self) -> float | None:
        """At which both plans are as good; None where there is no such price."""
        fast, cheap = self.fast, self.cheap
        if fast is None or cheap is None or cheap[0] >= fast[0] or cheap[1] <= fast[1]:
            return None
        return (fast[0] - cheap[0]) / (cheap[1] - fast[1])


def price_of_latency(
    costs: Costs, cost: Share, bound: float, bracket: Bracket, *, few: bool
) -> tuple[float, list[Route]]:
    """``cost`` ticks per tick of latency at a ``bound`` in ticks, and the plans met; ``bracket`` is narrowed.

    Over a ``few`` cuts only, or over all for some rounds more. The price is next to nothing where the
    cheapest plan keeps the bound. Memory across several runs is left aside: the price and the plans are
    guesses for a caller who proves the rest.
    """
    cuts = _Cuts(costs, _few_cuts(costs) if few else np.arange(len(costs.weights)))
    tie = tie_price(costs, cost)
    routes: list[Route] = []

    def met(*weights: float) -> tuple[float, ...] | None:
        """Cost and seconds of the best plan by what the two weigh."""
        route = cuts.best(tuple(zip((cuts.share(cost), cuts.costs.seconds), weights, strict=True)))
        if route is None:
            return None
        routes.append(route)
        return costs.amounts((cost, costs.seconds), route)

    if bracket.fast is None:
        bracket.fast = met(0.0, 1.0)
    if bracket.cheap is None and (cheapest := met(1.0, tie)) is not None:
        bracket.take(cheapest, bound)
    price = tie
    for _ in range(ROUNDS if few else WHOLE_ROUNDS):
        if (following := bracket.price) is None or bracket.fast is None:
            break
        price, line = following, bracket.fast[0] + following * bracket.fast[1]
        at = met(1.0, price)
        if at is None or at[0] + price * at[1] >= line * (1.0 - 1e-9):
            break
        bracket.take(at, bound)
    return price, routes


def prices_of_memory(
    costs: Costs, cost: Share, price: float, devices: Sequence[int]
) -> tuple[FloatArray, list[Route]]:
    """``[D]``: ticks per byte of weights at which the best plan just fits each of ``devices``, and plans met.

    "Best" is by ``cost`` plus ``price`` times latency.
    """
    few = _Cuts(costs, _few_cuts(costs))
    main = few.share(cost)
    routes: list[Route] = []
    per_byte = np.zeros(costs.device_count)

    def excess(device: int, of_device: float) -> float:
        per_byte[device] = of_device
        route = few.best(((main, 1.0), (few.costs.seconds, price), (few.costs.room(per_byte), 1.0)))
        if route is None:
            return -1.0
        routes.append(route)
        return memory_need(costs.instance, route.runs, device) - costs.instance.devices[device].memory_limit

    for _ in range(2 if len(devices) > 1 else 1):
        for device in devices:
            low, high = 0.0, 1e-3
            if excess(device, low) <= 0.0:
                continue
            for _ in range(DOUBLINGS):
                if excess(device, high) <= 0.0:
                    break
                low, high = high, high * 8.0
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                low, high = (low, middle) if excess(device, middle) <= 0.0 else (middle, high)
            per_byte[device] = high
    return per_byte, routes


class _Cuts:
    """An instance at some of its cuts."""

    def __init__(self, costs: Costs, cuts: IntArray) -> None:
        self._cuts = cuts
        self._whole = len(cuts) == len(costs.weights)
        self.costs = costs if self._whole else costs.at(cuts)

    def share(self, share: Share) -> Share:
        """The same of a resource."""
        return share if self._whole else share.at(self._cuts)

    def best(self, weighting: tuple[tuple[Share, float], ...]) -> Route | None:
        """The plan of least weighted sum of shares as ``share`` gives them, by the cuts of the whole."""
        steps = weighted_steps(self.costs, [weighting])
        (values,) = values_of(steps)
        device, total = best_end(steps, values)
        if not np.isfinite(total):
            return None
        route = route_of(steps, values, device)
        cuts = self._cuts
        return Route(tuple((int(cuts[a]), int(cuts[b]), d) for a, b, d in route.runs), route.codecs)


def tie_price(costs: Costs, cost: Share) -> float:
    """A price of latency too small to matter but where costs are equal."""
    return 1e-6 * (float(cost.before[-1].max()) + 1.0) / (float(costs.seconds.before[-1].max()) + 1.0)


def _few_cuts(costs: Costs) -> IntArray:
    """Both ends and, of each stretch between, the cut with the fewest bytes."""
    units = len(costs.weights) - 1
    if units <= CUTS:
        return np.arange(units + 1)
    sizes = costs.instance.cut_bytes.min(axis=1)
    borders = np.linspace(1, units, CUTS, dtype=np.intp)
    inner = [int(a + sizes[a:b].argmin()) for a, b in pairwise(borders) if b > a]
    return np.array([0, *inner, units], dtype=np.intp)
