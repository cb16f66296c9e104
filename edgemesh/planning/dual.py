"""Lagrangian prices: what a second of latency is worth at a bound, and a byte on a device that is too small.

Any prices give valid bounds on the cost of a plan, so both are sought over few cuts.

Latency: the dual of "least cost within a latency bound" by the method of Handler and Zang ("A dual algorithm
for the constrained shortest path problem", Networks 10, 1980): the two best known plans on either side of the
bound give the next price, until no plan is better at it than those two. Memory: bisection, device by device.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def price_of_latency(
    costs: Costs, cost: Share, bound: float, fast: Route | None
) -> tuple[float, list[Route]]:
    """``cost`` ticks per tick of latency at a ``bound`` in ticks, and the plans met.

    ``fast`` is a plan within the bound. First some cuts only are crossed, then all of them. The price is next
    to nothing where the cheapest plan keeps the bound. Memory across several runs is left aside: the price
    and the plans are guesses for a caller who proves the rest.
    """
    few, every = _few_cuts(costs), np.arange(len(costs.weights))
    tie = tie_price(costs, cost)
    routes: list[Route] = []

    def met(cuts: IntArray, weighting: tuple[tuple[Share, float], ...]) -> tuple[float, ...] | None:
        route = _best(costs, cuts, weighting)
        if route is None:
            return None
        routes.append(route)
        return costs.amounts((cost, costs.seconds), route)

    fast_at = met(few, ((costs.seconds, 1.0),)) if fast is None else costs.amounts((cost, costs.seconds), fast)
    cheap_at: tuple[float, ...] | None = None
    price = tie
    for cuts, rounds in ((few, ROUNDS), (every, WHOLE_ROUNDS)):
        if cheap_at is None:
            cheap = met(cuts, ((cost, 1.0), (costs.seconds, tie)))
            if cheap is None or fast_at is None:
                return tie, routes
            if cheap[1] <= bound:
                fast_at = min(fast_at, cheap)
                continue
            cheap_at = cheap
        for _ in range(rounds):
            if cheap_at[0] >= fast_at[0] or cheap_at[1] <= fast_at[1]:
                break
            price = (fast_at[0] - cheap_at[0]) / (cheap_at[1] - fast_at[1])
            at = met(cuts, ((cost, 1.0), (costs.seconds, price)))
            assert at is not None
            if at[0] + price * at[1] >= (fast_at[0] + price * fast_at[1]) * (1.0 - 1e-9):
                break
            if at[1] <= bound:
                fast_at = at
            else:
                cheap_at = at
    return price, routes


def prices_of_memory(
    costs: Costs, cost: Share, price: float, devices: Sequence[int]
) -> tuple[FloatArray, list[Route]]:
    """``[D]``: ticks per byte of weights at which the best plan just fits each of ``devices``, and plans met.

    "Best" is by ``cost`` plus ``price`` times latency.
    """
    few = _few_cuts(costs)
    routes: list[Route] = []
    per_byte = np.zeros(costs.device_count)

    def excess(device: int, of_device: float) -> float:
        per_byte[device] = of_device
        route = _best(costs, few, ((cost, 1.0), (costs.seconds, price), (costs.room(per_byte), 1.0)))
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


def _best(costs: Costs, cuts: IntArray, weighting: tuple[tuple[Share, float], ...]) -> Route | None:
    whole = len(cuts) == len(costs.weights)
    thin = costs if whole else costs.at(cuts)
    steps = weighted_steps(thin, [tuple((share if whole else share.at(cuts), by) for share, by in weighting)])
    (values,) = values_of(steps)
    device, total = best_end(steps, values)
    if not np.isfinite(total):
        return None
    route = route_of(steps, values, device)
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
