"""Plans to compare the decision node with, made on the true figures of a scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgemesh.device.boards import Board
from edgemesh.errors import SettingsError
from edgemesh.planning.alternatives import best_plan_without
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Partition, Plan
from edgemesh.planning.prediction import predicted_latency
from edgemesh.roles.shared_load import waiting_seconds
from edgemesh.simulation.scenario import Scenario, Stream, states_at
from edgemesh.simulation.truth import goal_of, mean_instance, true_instance
from edgemesh.simulation.unit_tables import unit_table

_ROUNDS = 3
"""Of planning the streams one after another, each with the load of the others."""

Key = tuple[str, str]
"""Model and origin."""


@dataclass(frozen=True)
class Chosen:
    """The plan of one (model, origin) with the plans for when a device of it is lost."""

    plan: Plan
    fallbacks: Mapping[str, Plan]


@dataclass(frozen=True)
class Phase:
    """What is published at one moment."""

    at: float
    """Seconds of the scenario."""
    plans: Mapping[Key, Chosen]


@dataclass(frozen=True)
class Case:
    """One scenario with one model."""

    scenario: Scenario
    model: str
    boards: Mapping[str, Board]
    """By device."""

    @property
    def goal(self) -> Goal:
        """What plans are made for."""
        return goal_of(self.scenario.policy)

    def keys(self, streams: tuple[Stream, ...]) -> dict[Key, float]:
        """Every (model, origin) of ``streams`` with its jobs per second."""
        rates: dict[Key, float] = {}
        for stream in streams:
            key = stream.model or self.model, stream.origin
            rates[key] = rates.get(key, 0.0) + self.rate(stream)
        return rates

    def rate(self, stream: Stream) -> float:
        """Jobs per second of a stream."""
        if stream.per_second is not None:
            return stream.per_second
        assert stream.busy is not None
        key = stream.model or self.model, stream.origin
        plan = _solved(self, self.instance(0.0, key, {}), key)
        busiest = max(_occupied(plan).values())
        return min(stream.busy / busiest, stream.most)

    def instance(self, at: float, key: Key, waiting: Mapping[str, float]) -> Instance:
        """The truth at ``at``."""
        states = states_at(self.scenario, at)
        return true_instance(self.scenario, self.boards, states, unit_table(key[0]), key[1], waiting)


def streams_at(scenario: Scenario, at: float) -> tuple[Stream, ...]:
    """Streams that send jobs at ``at``."""
    return tuple(stream for stream in scenario.streams if stream.start <= at < stream.stop)


def static(case: Case) -> tuple[Phase, ...]:
    """The best plan at the start, then kept; a stream that comes later gets the best at its start."""
    return tuple(_kept(case, lambda at, key: _best(case, at)[key]))


def oracle(case: Case) -> tuple[Phase, ...]:
    """The best plan of each phase."""
    return tuple(Phase(at, _best(case, at)) for at in case.scenario.phases)


def hindsight(case: Case) -> tuple[Phase, ...]:
    """The best of the plans that never change."""
    return tuple(_kept(case, lambda at, key: _hindsight(case, key)))


def all_on_origin(case: Case) -> tuple[Phase, ...]:
    """Every unit where the input arises."""
    return tuple(_kept(case, lambda at, key: _given(case, at, key, [(key[1], 1.0)])))


def all_on_fastest(case: Case) -> tuple[Phase, ...]:
    """Every unit on the device that computes fastest."""
    return tuple(_kept(case, lambda at, key: _given(case, at, key, [(_fastest(case, at, key), 1.0)])))


def middle(case: Case) -> tuple[Phase, ...]:
    """The first half of the units where the input arises, the rest on the fastest other device."""

    def chosen(at: float, key: Key) -> Chosen:
        return _given(case, at, key, [(key[1], 0.5), (_fastest(case, at, key, other_than=key[1]), 1.0)])

    return tuple(_kept(case, chosen))


BASELINES: Final[dict[str, Callable[[Case], tuple[Phase, ...]]]] = {
    "static": static,
    "middle": middle,
    "origin": all_on_origin,
    "fastest": all_on_fastest,
    "hindsight": hindsight,
    "oracle": oracle,
}


def _kept(case: Case, choose: Callable[[float, Key], Chosen]) -> list[Phase]:
    """What is chosen when a (model, origin) first appears, and kept from then on."""
    phases: list[Phase] = []
    known: dict[Key, Chosen] = {}
    for at in case.scenario.phases:
        new = [key for key in case.keys(streams_at(case.scenario, at)) if key not in known]
        if new:
            known |= {key: choose(at, key) for key in new}
            phases.append(Phase(at, {key: known[key] for key in new}))
    return phases


def _best(case: Case, at: float) -> dict[Key, Chosen]:
    """The best plans at ``at``; streams share devices, so each is planned with the load of the others."""
    rates = case.keys(streams_at(case.scenario, at))
    plans: dict[Key, Plan] = {}
    instances: dict[Key, Instance] = {}
    for _ in range(_ROUNDS if len(rates) > 1 else 1):
        for key in rates:
            others = {other: plan for other, plan in plans.items() if other != key}
            instances[key] = case.instance(at, key, _waiting(others, rates))
            plans[key] = _solved(case, instances[key], key)
    return {key: _with_fallbacks(instances[key], plan) for key, plan in plans.items()}


def _waiting(plans: Mapping[Key, Plan], rates: Mapping[Key, float]) -> dict[str, float]:
    """Seconds that a job waits on each device for jobs of ``plans``."""
    return waiting_seconds((plan, rates[key]) for key, plan in plans.items())


def _hindsight(case: Case, key: Key) -> Chosen:
    scenario = case.scenario
    ends = (*scenario.phases[1:], scenario.duration)
    weighted = [
        (end - at, case.instance(at, key, {}))
        for at, end in zip(scenario.phases, ends, strict=True)
        if key in case.keys(streams_at(scenario, at))
    ]
    mean = mean_instance(weighted)
    plan = solve(mean, case.goal)
    if isinstance(plan, Infeasible):
        # Every plan uses a device that leaves some time: the best at the start then, with its fallbacks.
        return _best(case, scenario.phases[0])[key]
    return _with_fallbacks(mean, plan)


def _fastest(case: Case, at: float, key: Key, other_than: str | None = None) -> str:
    devices = case.instance(at, key, {}).devices
    able = [d for d in devices if not d.unavailable and d.id != other_than]
    if not able:
        raise SettingsError(f"scenario {case.scenario.name}: at {at:g} s no device is there to compare with")
    return min(able, key=lambda device: float(np.sum(device.seconds))).id


def _given(case: Case, at: float, key: Key, parts: list[tuple[str, float]]) -> Chosen:
    """Units up to the given shares on the given devices."""
    instance = case.instance(at, key, {})
    partitions, start = [], 0
    for device, share in parts:
        stop = max(start + 1, round(share * instance.unit_count))
        partitions.append(Partition(start, stop, device, "raw"))
        start = stop
    prediction = predicted_latency(instance, partitions)
    if isinstance(prediction, Infeasible):
        raise SettingsError(f"scenario {case.scenario.name}: {prediction.reason}")
    return _with_fallbacks(instance, Plan(tuple(partitions), "raw", prediction))


def _solved(case: Case, instance: Instance, key: Key) -> Plan:
    plan = solve(instance, case.goal)
    if isinstance(plan, Infeasible):
        raise SettingsError(f"scenario {case.scenario.name}: no plan of {key[0]} for {key[1]}: {plan.reason}")
    return plan


def _with_fallbacks(instance: Instance, plan: Plan) -> Chosen:
    without = {device: best_plan_without(instance, device) for device in plan.devices}
    return Chosen(plan, {device: other for device, other in without.items() if other is not None})


def _occupied(plan: Plan) -> dict[str, float]:
    """Seconds per job that each device and each way of its link is occupied."""
    seconds: dict[str, float] = {}
    for hop in plan.prediction.hops:
        seconds[hop.partition.device] = seconds.get(hop.partition.device, 0.0) + hop.run
    for crossing in plan.prediction.crossings:
        for way in (f"{crossing.sender} up", f"{crossing.receiver} down"):
            took = crossing.up if way.endswith("up") else crossing.down
            seconds[way] = seconds.get(way, 0.0) + took
    return seconds
