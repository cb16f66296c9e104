"""The plan of least cost within a latency bound, exactly: bounds from both ends, then labels between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

import numpy as np

from edgemesh.planning.costs import TICKS, Costs, Route, Share, bound_ticks
from edgemesh.planning.dual import Bracket, price_of_latency, prices_of_memory
from edgemesh.planning.feasibility import why_infeasible
from edgemesh.planning.forced_use import best_plans_using
from edgemesh.planning.instance import Instance
from edgemesh.planning.labels import Found, Limits, Search
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.lateness import too_late
from edgemesh.planning.narrowing import Part, all_of, part_within
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import can_hold, crowded_devices, plan_of_route, route_of_plan
from edgemesh.planning.sweep import best_end, route_of, route_through, values_of, weighted_steps

_TRACKING: Final = 8
"""Rounds of tracking more devices whose memory the best plan overfills; one or two are usual."""

BoundOf = Callable[[float], float | None]
"""The latency bound in seconds where the best latency is the argument; None for none."""


def plan_within(instance: Instance, names: Sequence[str], bound_of: BoundOf) -> Plan | Infeasible:
    """The plan with the least of the resources ``names``, compared from the left, then of latency.

    Ties go to fewer partitions, then to fewer bytes. Exact, up to the number of labels that ``Plan.proven``
    tells of.
    """
    shares = [share for share in (getattr(instance.costs, name) for name in names) if _matters(share)]
    if not shares:
        return _fastest_within(instance, bound_of)
    search = _Within(instance, shares)
    fast = search.fastest()
    if isinstance(fast, Infeasible):
        return fast
    bound = bound_of(fast / TICKS)
    most = inf if bound is None else bound_ticks(bound)
    if most < fast:
        return too_late(bound or 0.0, fast / TICKS)
    found = search.best(most)
    if found is None:
        return why_infeasible(instance)
    return plan_of_route(instance, found[0], proven=found[1], bound=bound)


def plans_within_using(
    instance: Instance, names: Sequence[str], bound: float | None, devices: Iterable[int]
) -> dict[int, Plan | None]:
    """For each of ``devices`` the best plan with a run on it within ``bound`` seconds; None when there is
    none.

    "Best" as in ``plan_within``.
    """
    shares = [share for share in (getattr(instance.costs, name) for name in names) if _matters(share)]
    search = _Within(instance, shares)
    most = inf if bound is None else bound_ticks(bound)
    plans: dict[int, Plan | None] = {}
    for device in devices:
        found = search.best(most, wanted=device)
        plans[device] = plan_of_route(instance, found[0], proven=found[1], bound=bound) if found else None
    return plans


def _fastest_within(instance: Instance, bound_of: BoundOf) -> Plan | Infeasible:
    """Where nothing costs anything but time."""
    plan = solve_latency(instance)
    if isinstance(plan, Infeasible):
        return plan
    bound = bound_of(plan.total)
    if bound is not None and bound_ticks(bound) < round(plan.total * TICKS):
        return too_late(bound, plan.total)
    return dataclasses.replace(plan, bound=bound)


class _Within:
    """The parts of one search."""

    def __init__(self, instance: Instance, shares: Sequence[Share]) -> None:
        self._instance = instance
        self._costs: Costs = instance.costs
        self._shares = (*shares, self._costs.seconds)
        """Seconds last; the ones before are costs."""
        self._met: list[Route] = []

    def fastest(self) -> float | Infeasible:
        """Ticks of the least latency."""
        seconds = self._costs.seconds
        steps = weighted_steps(self._costs, [((seconds, 1.0),)])
        (values,) = values_of(steps)
        device, ticks = best_end(steps, values)
        if not np.isfinite(ticks):
            return why_infeasible(self._instance)
        route = route_of(steps, values, device)
        if can_hold(self._instance, route) and self._costs.amounts((seconds,), route)[0] == ticks:
            self._met.append(route)
            return float(ticks)
        # Bounds only, or memory binds: the exact one.
        plan = solve_latency(self._instance)
        if isinstance(plan, Infeasible):
            return plan
        self._met.append(route_of_plan(self._instance, plan))
        return round(plan.total * TICKS)

    def best(self, bound: float, wanted: int | None = None) -> tuple[Route, bool] | None:
        """The best plan (with a run on ``wanted``), and whether that is proven; None when there is none."""
        part, price, cheapest = self._narrowed(bound, wanted)
        lot = _Lot(self._instance, part, self._shares, price)
        if wanted is not None:
            self._met += lot.cheapest_through(wanted)
            quick = best_plans_using(self._instance, [wanted])[wanted]
            self._met += [] if quick is None else [route_of_plan(self._instance, quick)]
        tracked: list[int] = []
        if cheapest is not None:
            # The bounds are better with a price on memory, if the plan that they come from overfills it.
            tracked = crowded_devices(self._instance, cheapest.runs)
            if tracked:
                self._met += lot.price_memory(tracked)
        for _ in range(_TRACKING):
            best, amounts = self._best_known(bound, wanted)
            found, complete = lot.search(bound, amounts, tracked, wanted)
            if not found:
                break
            route = part.widened(min(found, key=lambda each: each.amounts).route)
            crowded = crowded_devices(self._instance, route.runs)
            if not crowded:
                return route, complete
            tracked = sorted({*tracked, *crowded})
            if len(self._shares) > 1:
                self._met += lot.price_memory(tracked)
        return None if best is None else (best, False)

    def _narrowed(self, bound: float, wanted: int | None) -> tuple[Part, float, Route | None]:
        """What a plan no worse than the best known may use, the price of latency, and the plan of the least
        priced sum.

        By the sum of the main resource and of priced latency, which limits on both limit too.
        """
        costs, main = self._costs, self._shares[0]
        if main is costs.seconds:
            return all_of(costs), 0.0, None
        both = main, costs.seconds
        bracket = Bracket(costs.amounts(both, self._met[0]) if self._met else None)
        price, met = price_of_latency(costs, main, bound, bracket, few=True)
        self._met += met
        # Without a bound on latency no price limits anything.
        counted = price if bound < inf else 0.0
        steps = weighted_steps(costs, [((main, 1.0), (costs.seconds, counted))])
        values, back = values_of(steps, steps.mirrored)
        device, total = best_end(steps, values)
        if not np.isfinite(total):
            return all_of(costs), price, None
        cheapest = route_of(steps, values, device)
        self._met.append(cheapest)
        least = self._best_known(bound, wanted)[1][0]
        most = least + counted * bound if counted else least
        if wanted is not None or most == inf:
            return all_of(costs), price, cheapest
        part = part_within(costs, steps, values, back, most)
        if bound < inf:
            bracket.take(costs.amounts(both, cheapest), bound)
            if bracket.price is not None:
                price, met = price_of_latency(part.costs, part.share(main), bound, bracket, few=False)
                self._met += [part.widened(route) for route in met]
                # A better plan known narrows further, by the same sweeps.
                now = self._best_known(bound, wanted)[1][0]
                if now < least:
                    part = part_within(costs, steps, values, back, now + counted * bound)
        return part, price, cheapest

    def _best_known(self, bound: float, wanted: int | None) -> tuple[Route | None, tuple[float, ...]]:
        """The best plan met so far, and its amounts: infinite when there is none."""
        best: Route | None = None
        least: tuple[float, ...] = (inf,) * len(self._shares)
        for route in dict.fromkeys(self._met):
            if wanted is not None and all(device != wanted for _, _, device in route.runs):
                continue
            amounts = self._costs.amounts(self._shares, route)
            if amounts[-1] <= bound and amounts < least and can_hold(self._instance, route):
                best, least = route, amounts
        return best, least


class _Lot:
    """The weightings over a part of an instance, swept from both ends, and searches between them."""

    def __init__(self, instance: Instance, part: Part, shares: Sequence[Share], price: float) -> None:
        self._instance, self._part, self._price = instance, part, price
        self._main = shares[0]
        self._shares = tuple(part.share(share) for share in shares)
        seconds = self._shares[-1]
        self._weightings: list[tuple[tuple[Share, float], ...]] = [((share, 1.0),) for share in self._shares]
        """Each resource alone, seconds last of them; then mixes."""
        if len(shares) > 1:
            self._weightings.append(((self._shares[0], 1.0), (seconds, price)))
        self._room: Share | None = None
        self._worth = 0.0
        self._sweep()

    def _sweep(self) -> None:
        self._steps = weighted_steps(self._part.costs, self._weightings)
        self._mirrored = self._steps.mirrored
        self._values, self._back = values_of(self._steps, self._mirrored)

    def cheapest_through(self, wanted: int) -> list[Route]:
        """Plans of least weighted sums with a run on ``wanted``."""
        routes = []
        for weighting in dict.fromkeys((0, len(self._weightings) - 1)):
            ways = self._values, self._back
            route = route_through(self._steps, self._mirrored, ways, self._part.place(wanted), weighting)
            routes += [] if route is None else [self._part.widened(route)]
        return routes

    def price_memory(self, tracked: list[int]) -> list[Route]:
        """Sweep again with a weighting that also pays for memory; plans met while its price was sought."""
        per_byte, routes = prices_of_memory(self._part.whole, self._main, self._price, tracked)
        self._room = self._part.costs.room(per_byte[self._part.devices])
        smallest = float(self._instance.peak_bytes.min())
        limits = self._part.whole.limits[tracked]
        # The weights on a device leave room for a peak at least.
        self._worth = float((per_byte[tracked] * (limits - smallest)).sum())
        mixed = (self._shares[0], 1.0), (self._shares[-1], self._price), (self._room, 1.0)
        self._weightings = [*self._weightings[: len(self._shares) + 1], mixed]
        self._sweep()
        return routes

    def search(
        self, bound: float, known: tuple[float, ...], tracked: list[int], wanted: int | None
    ) -> tuple[list[Found], bool]:
        """Plans no worse than ``known`` that no other beats, and whether none was left aside."""
        place = None if wanted is None else self._part.place(wanted)
        search = Search(
            self._part.costs, self._shares, self._limits(bound, known, place),
            tracked=[self._part.place(device) for device in tracked], wanted=place, bounded=bound < inf,
            priced=self._room,
        )  # fmt: skip
        return search.run(), search.complete

    def _limits(self, bound: float, known: tuple[float, ...], wanted: int | None) -> Limits:
        """What a plan must keep that is no worse than ``known``."""
        last = len(self._shares) - 1
        least = [best_end(self._steps, self._values, weighting)[1] for weighting in range(last + 1)]
        # A resource is limited by what is known only when the ones before it cannot be any less.
        most = [inf] * last + [bound]
        for index in range(len(known)):
            most[index] = min(most[index], known[index])
            if known[index] > least[index]:
                break
        if len(self._weightings) > last + 1:
            most.append(most[0] + self._price * most[last])
        if len(self._weightings) > last + 2:
            most.append(most[0] + self._price * most[last] + self._worth)
        resources = self._shares if self._room is None else (*self._shares, self._room)
        weights = [
            [sum(by for share, by in pairs if share is each) for each in resources]
            for pairs in self._weightings
        ]
        back = self._back
        unseen = back if wanted is None else values_of(self._mirrored, through=(wanted, back))[0]
        return Limits(self._values, (back, unseen), self._steps, np.array(weights), np.array(most))


def _matters(share: Share) -> bool:
    """Whether a resource costs anything anywhere."""
    arrays = (share.before, share.fixed, share.leave, share.enter, *share.runs.values())
    return any(bool(((values != 0.0) & np.isfinite(values)).any()) for values in arrays)
