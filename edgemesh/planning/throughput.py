"""The plan of the smallest bottleneck: the participant or link direction that is busy longest per job.

Loads of a device that comes up twice are summed, so the problem contains the makespan on unrelated machines
and is NP-hard. Labels carry every load; a price on each load (multiplicative weights: Arora, Hazan and Kale,
Theory of Computing 8, 2012) gives the bound that keeps them few: no plan's largest load is less than its
loads' weighted mean. Up to the number of labels the answer is exact; beyond it is the best plan met.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edgemesh.planning.costs import (
    Costs,
    FloatArray,
    Route,
    Share,
    airtime_ticks,
    overhead_ticks,
)
from edgemesh.planning.instance import Instance
from edgemesh.planning.labels import Limits, Search
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import can_hold, crowded_devices, plan_of_route, route_of_plan
from edgemesh.planning.sweep import best_end, route_of, scaled, values_of, weighted_steps

ROUNDS: Final = 24
"""Of prices; the bound is within some percent of its best then."""
PARTICIPANTS: Final = 16
"""Whose loads labels carry; with more devices the ones that the priced plans use most are taken."""
WIDTHS: Final = (40, 240)
"""Labels that grow together, of the first search and of the last."""
_STEP: Final = 0.4
_TRACKING: Final = 8


def solve_throughput(instance: Instance) -> Plan | Infeasible:
    """The plan of the smallest bottleneck; ties go to fewer seconds, partitions and bytes."""
    fastest = solve_latency(instance)
    if isinstance(fastest, Infeasible):
        return fastest
    loads = _Loads(instance.costs)
    best = route_of_plan(instance, fastest)
    least = loads.order(best)
    prices, met = _prices(loads, best)
    for route in met:
        if loads.order(route) < least and can_hold(instance, route):
            best, least = route, loads.order(route)
    considered = _considered(loads, met)
    proven = False
    for width in WIDTHS:
        # Few labels find a good plan, which keeps many from being needed to prove the best.
        found = _searched(loads, prices, considered, least[0], width)
        if found is not None:
            route, proven = found
            if proven or loads.order(route) < least:
                best, least = route, loads.order(route)
        if proven:
            break
    everyone = len(considered) == len(instance.participants)
    return plan_of_route(instance, best, proven=proven and everyone and fastest.proven)


class _Loads:
    """What each participant's computing, sending and receiving take of a plan."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        instance = costs.instance
        self._overhead = overhead_ticks(instance)
        sides = instance.participants
        self._encode, self._decode = costs.coding
        self._up, self._down = (airtime_ticks(instance, sides, rate) for rate in ("rate_up", "rate_down"))

    def mixed(self, prices: FloatArray) -> Share:
        """The loads weighted by ``prices``, ``[3, P]``: computing, sending, receiving."""
        seconds = self.costs.seconds
        computing, sending, receiving = prices
        leave = self._encode * computing[:, None] + self._up * sending[:, None]
        enter = self._decode * computing[:, None] + self._down * receiving[:, None]
        return Share(
            seconds.before * computing,
            np.where(np.isfinite(seconds.fixed), self._overhead * computing, np.inf),
            np.where(np.isfinite(seconds.leave), leave, np.inf),
            np.where(np.isfinite(seconds.enter), enter, np.inf),
            {device: scaled(runs, float(computing[device])) for device, runs in seconds.runs.items()},
        )

    def of(self, route: Route) -> FloatArray:
        """``[3, P]`` ticks."""
        costs, requester = self.costs, self.costs.requester
        loads = np.zeros((3, len(self._overhead)))
        for start, stop, device in route.runs:
            loads[0, device] += costs.seconds.run(start, stop, device)
            loads[0, device] -= costs.seconds.fixed[device] - self._overhead[device]
        places = [requester, *(device for _, _, device in route.runs), requester]
        cuts = [*(start for start, _, _ in route.runs), route.runs[-1][1]]
        for cut, sender, receiver, codec in zip(cuts, places[:-1], places[1:], route.codecs, strict=True):
            if sender != receiver:
                loads[0, sender] += self._encode[cut, sender, codec]
                loads[0, receiver] += self._decode[cut, receiver, codec]
                loads[1, sender] += self._up[cut, sender, codec]
                loads[2, receiver] += self._down[cut, receiver, codec]
        return loads

    def order(self, route: Route) -> tuple[float, ...]:
        """What plans are compared by, up to bytes."""
        seconds = self.costs.amounts((self.costs.seconds,), route)[0]
        return float(self.of(route).max()), seconds, float(len(route.runs))


def _prices(loads: _Loads, route: Route) -> tuple[FloatArray, list[Route]]:
    """Prices under which even the cheapest plan is dear, and the plans met."""
    costs, met = loads.costs, [route]
    total = loads.of(route)
    least = float(total.max())
    best, best_value = np.full(total.shape, 1.0 / total.size), -1.0
    for _ in range(ROUNDS):
        mean = total / len(met)
        prices = np.exp((mean / mean.max() - 1.0) * _STEP * np.sqrt(len(met)) * np.log(total.size + 1.0))
        prices /= prices.sum()
        steps = weighted_steps(costs, [((loads.mixed(prices), 1.0),)])
        (values,) = values_of(steps)
        device, value = best_end(steps, values)
        if value > best_value:
            best, best_value = prices, value
        if best_value >= least - 1.0:
            break  # nothing can be better than what is met
        met.append(route_of(steps, values, device))
        least = min(least, loads.order(met[-1])[0])
        total = total + loads.of(met[-1])
    return best, met


def _considered(loads: _Loads, met: list[Route]) -> list[int]:
    count = len(loads.costs.instance.participants)
    if count <= PARTICIPANTS:
        return list(range(count))
    use = np.zeros(count)
    for route in met:
        for _, _, device in route.runs:
            use[device] += 1.0
    use[loads.costs.requester] = np.inf
    return sorted(use.argsort(kind="stable")[::-1][:PARTICIPANTS].tolist())


def _searched(
    loads: _Loads, prices: FloatArray, considered: list[int], most: float, width: int
) -> tuple[Route, bool] | None:
    costs = loads.costs
    each = []
    for participant in considered:
        for kind in range(3):
            only = np.zeros(prices.shape)
            only[kind, participant] = 1.0
            each.append((loads.mixed(only), float(prices[kind, participant])))
    steps = weighted_steps(costs, [((loads.mixed(prices), 1.0),)])
    values, back = values_of(steps, steps.mirrored)
    weights = np.array([[0.0, *(price for _, price in each)]])
    limits = Limits(values, (back, back), steps, weights, np.array([most]))
    tracked: list[int] = []
    for _ in range(_TRACKING):
        search = Search(
            costs, (costs.seconds,), limits, tracked=tracked, bounded=False,
            loads=[share for share, _ in each], most_load=most, width=width,
        )  # fmt: skip
        found = search.run()
        if not found:
            return None
        route = min(found, key=lambda plan: (plan.load, plan.amounts)).route
        crowded = crowded_devices(costs.instance, route.runs)
        if not crowded:
            return route, search.complete
        tracked = sorted({*tracked, *crowded})
    return None
