"""The exact front of latency against joules.

In two phases (Ulungu and Teghem, "The two phases method", 1995): the corners of the front's convex hull by
weighted sums, each pair of neighbours giving the next weight (Aneja and Nair, Management Science 25, 1979);
then, between each two neighbours, labels within the box that they span.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from edgemesh.planning.costs import Costs, Route, Share
from edgemesh.planning.instance import Instance
from edgemesh.planning.labels import Limits, Search
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Plan
from edgemesh.planning.prediction import can_hold, crowded_devices, plan_of_route, route_of_plan
from edgemesh.planning.sweep import best_end, route_of, values_of, weighted_steps
from edgemesh.planning.within import plan_within

_LEVELS: Final = 4
"""Halvings of the hull: corners that are missed are found by labels, in larger boxes."""
_TRACKING: Final = 8

Point = tuple[float, float]
"""Ticks of latency and of energy."""


def pareto_front(instance: Instance) -> tuple[Plan, ...]:
    """One plan for each pair of seconds and joules that no plan beats in one without losing in the other.

    Latency ascending; of plans that tie in both the one with fewer partitions, then with fewer bytes. Empty
    when there is no plan. A plan that is not ``proven`` may hide others.
    """
    fastest, cheapest = solve_latency(instance), plan_within(instance, ("joules",), lambda _: None)
    if not isinstance(fastest, Plan) or not isinstance(cheapest, Plan):
        return ()
    costs = instance.costs
    ends = [route_of_plan(instance, plan) for plan in (fastest, cheapest)]
    corners, prices = _hull(costs, [_point(costs, route) for route in ends])
    front: dict[Point, tuple[float, Route]] = {}
    proven = fastest.proven and cheapest.proven
    for amounts, route, sure in _between(costs, corners, prices):
        proven &= sure
        point, tie = (amounts[1], amounts[0]), amounts[2]
        if point not in front or tie < front[point][0]:
            front[point] = tie, route
    plans = []
    least = float("inf")
    for point in sorted(front):
        if point[1] < least:
            least = point[1]
            plans.append(plan_of_route(instance, front[point][1], proven=proven))
    return tuple(plans)


def _point(costs: Costs, route: Route) -> Point:
    seconds, joules = costs.amounts((costs.seconds, costs.joules), route)
    return seconds, joules


def _hull(costs: Costs, corners: list[Point]) -> tuple[list[Point], list[float]]:
    """Points of feasible plans, none better than another, and the prices of latency between them.

    ``corners`` are the ends. One sweep serves all pairs of neighbours at once.
    """
    instance = costs.instance
    prices: list[float] = []
    open_pairs = [(corners[0], corners[1])] if corners[1][0] > corners[0][0] else []
    for _ in range(_LEVELS):
        if not open_pairs:
            break
        weights = [(fast[1] - cheap[1]) / (cheap[0] - fast[0]) for fast, cheap in open_pairs]
        prices += weights
        steps = weighted_steps(costs, [((costs.joules, 1.0), (costs.seconds, by)) for by in weights])
        (values,) = values_of(steps)
        following = []
        for column, (by, (fast, cheap)) in enumerate(zip(weights, open_pairs, strict=True)):
            device, _ = best_end(steps, values, column)
            route = route_of(steps, values, device, column)
            point = _point(costs, route)
            if point[1] + by * point[0] >= (fast[1] + by * fast[0]) * (1.0 - 1e-9):
                continue  # nothing lies below the line between the two
            if can_hold(instance, route):
                corners.append(point)
            if fast[0] < point[0] < cheap[0] and cheap[1] < point[1] < fast[1]:
                following += [(fast, point), (point, cheap)]
        open_pairs = following
    kept: list[Point] = []
    for point in sorted(set(corners)):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept, prices


def _between(
    costs: Costs, corners: Sequence[Point], prices: Sequence[float]
) -> list[tuple[tuple[float, ...], Route, bool]]:
    """Amounts and routes of all plans at the corners and in the boxes between them; whether all are there."""
    shares = costs.joules, costs.seconds
    mixes = sorted({*prices, 1.0})
    weightings: list[tuple[tuple[Share, float], ...]] = [((costs.joules, 1.0),), ((costs.seconds, 1.0),)]
    weightings += [((costs.joules, 1.0), (costs.seconds, price)) for price in mixes]
    steps = weighted_steps(costs, weightings)
    values, back = values_of(steps, steps.mirrored)
    found = []
    for fast, cheap in [(corners[0], corners[0]), *pairwise(corners)]:
        # Nothing is faster than the first corner or cheaper than the last, so the boxes hold all the front.
        slope = (fast[1] - cheap[1]) / (cheap[0] - fast[0]) if cheap[0] > fast[0] else 1.0
        near = min(range(len(mixes)), key=lambda index: abs(np.log(mixes[index] / slope)))
        columns = [0, 1, *sorted({near, max(near - 1, 0), min(near + 1, len(mixes) - 1)} - {-1})]
        columns = [0, 1, *(2 + index for index in columns[2:])]
        weights = np.array([(1.0, 0.0), (0.0, 1.0), *((1.0, mixes[index - 2]) for index in columns[2:])])
        most = weights @ (fast[1], cheap[0])
        picked = steps.columns(columns)
        limits = Limits(values.columns(columns), (back.columns(columns),) * 2, picked, weights, most)
        tracked: list[int] = []
        for _ in range(_TRACKING):
            search = Search(costs, shares, limits, tracked=tracked)
            plans = search.run()
            crowded = {d for plan in plans for d in crowded_devices(costs.instance, plan.route.runs)}
            if not crowded:
                break
            tracked = sorted({*tracked, *crowded})
        sure = search.complete and not crowded
        found += [
            (plan.amounts, plan.route, sure)
            for plan in plans
            if not crowded_devices(costs.instance, plan.route.runs)
        ]
    return found
