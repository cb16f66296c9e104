"""Plans: the best one for each (model, origin) on the newest estimates, and which of them is in force."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np

from edgemesh.model.codec_accuracy import route_error
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import FloatArray, Instance, Requester
from edgemesh.planning.link_estimate import UNKNOWN
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import memory_need, predicted_latency
from edgemesh.planning.switching import Errors, Rivalry, Source
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Policy
from edgemesh.roles.conditions import Conditions, Limits, conditions
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.instances import GATEWAY_PARTICIPANT, OtherWork, StaticParts, planning_instance
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.shared_load import other_work
from edgemesh.roles.switching import InForce, Switch, switch

Key = tuple[str, str]
"""Model and origin."""
_Figures = tuple[FloatArray, FloatArray]
"""Of an instance: what is in seconds, and all else."""
_UNMOVED: Final = 0.02
"""Figures that moved by less than this share since the last search give the same plan, or one as good."""
_STEP: Final = 0.1
"""One that moved by more is worth a search at once; in between it can wait, for the plan in force and its
rivals are compared with the newest figures in every round anyway."""
_WAIT_SECONDS: Final = 8.0
_SEARCH_SECONDS: Final = 15.0
"""The longest without a search."""
_GRAIN: Final = 0.25
"""Share of a plan's latency that is added to seconds before they are compared: a fast link or a short queue
that doubles changes little."""
_IDLE_STEP: Final = 0.25
"""As ``_STEP`` where no jobs come: the plan is there for the first one only."""
_IN_USE: Final = 0.01
"""Jobs per second from which on a plan is in use."""
_FRESH_SECONDS: Final = 30.0
"""An estimate whose newest sample is older stands on what once was: another sample may overthrow it."""


@dataclass(frozen=True, eq=False)
class Situation:
    """One (model, origin) at one moment, as the planner sees it."""

    manifest: Manifest
    origin: str
    policy: Policy
    goal: Goal
    instance: Instance
    conditions: Conditions
    notes: tuple[str, ...] = ()


@dataclass
class _Search:
    """The last search for a plan."""

    at: float
    manifest: Manifest
    policy: Policy
    names: tuple[object, ...]
    figures: _Figures
    plan: Plan


class Plans:
    """Keeps each (model, origin) planned; the caller publishes what ``review`` says."""

    def __init__(self, view: MeshView, estimates: MeshEstimates, goal: Goal) -> None:
        """``goal`` counts where a policy does not say otherwise."""
        self.in_force: dict[Key, InForce] = {}
        self._view = view
        self._estimates = estimates
        self._goal = goal
        self._limits = Limits()
        self._static = StaticParts()
        self._searches: dict[Key, _Search] = {}
        self._why_anew: dict[Key, tuple[str, bool]] = {}
        """Why nothing is in force where something was, and whether that is forbidden now."""

    def clear(self, view: MeshView) -> None:
        """Begin with what ``view`` will learn."""
        self._view = view
        self.in_force.clear()
        self._searches.clear()
        self._why_anew.clear()

    def renew(self, key: Key, why: str, *, forbidden: bool = False) -> None:
        """What is in force may not stay: plan afresh and say ``why``.

        Where it is ``forbidden`` nobody is to follow it until what comes next is ready.
        """
        pending = self._why_anew.get(key)
        if self.in_force.pop(key, None) is not None or pending is not None:
            self._why_anew[key] = why, forbidden or (pending is not None and pending[1])

    def policy_changed(self, model: str) -> None:
        """What is in force, or was until a moment ago, may break the new one."""
        for key in [key for key in {**self.in_force, **self._why_anew} if key[0] == model]:
            self.renew(key, "the policy changed", forbidden=True)

    def forget(self, key: Key) -> None:
        """The model is gone."""
        self.in_force.pop(key, None)
        self._searches.pop(key, None)
        self._why_anew.pop(key, None)
        self._static.forget(key[0])

    def goal_of(self, policy: Policy) -> Goal:
        """The goal that ``policy`` sets."""
        default = self._goal
        return Goal(
            policy.objective or default.objective,
            default.bound_factor if policy.bound_factor is None else policy.bound_factor,
            default.bound_seconds if policy.bound_seconds is None else policy.bound_seconds,
            default.in_flight if policy.in_flight is None else policy.in_flight,
        )

    def in_use(self, now: float) -> dict[Key, float]:
        """Jobs per second of each (model, origin) in force that jobs come for."""
        rates = {key: self._estimates.demand(*key, now) for key in self.in_force}
        return {key: rate for key, rate in rates.items() if rate > _IN_USE}

    def situation(
        self,
        manifest: Manifest,
        origin: str,
        policy: Policy,
        now: float,
        *,
        lossy_crossings: int = 1,
        others: OtherWork | None = None,
    ) -> Situation | Infeasible:
        """What planning (model, origin) rests on at this moment, or why it cannot be planned.

        ``others`` is what other assignments take; by default all of them count.
        """
        view = self._view
        told = conditions(
            manifest.name,
            sorted(device for device in view.devices if view.online(device, now)),
            {device: view.resources(device) for device in view.devices},
            policy,
            self._limits,
        )
        if others is None:
            others = other_work((manifest.name, origin), manifest.digest, self.in_force, self.in_use(now))
        instance = planning_instance(
            manifest,
            origin,
            view,
            self._estimates,
            policy,
            now,
            conditions=told.of,
            others=others,
            static=self._static,
            lossy_crossings=lossy_crossings,
        )
        if isinstance(instance, Infeasible):
            return instance
        return Situation(manifest, origin, policy, self.goal_of(policy), instance, told, told.notes)

    def best(self, first: Situation, now: float) -> tuple[Situation, Plan] | Infeasible:
        """The best plan in the situation ``first``, with the situation that it was made for.

        The errors of several lossy crossings add up, which no search over single cuts can see: where the sum
        is over the budget, the budget is shared out between so many crossings and the search repeated.
        """
        situation: Situation | Infeasible = first
        manifest, policy, crossings = first.manifest, first.policy, 1
        while isinstance(situation, Situation):
            plan = self._searched(situation, now)
            if isinstance(plan, Infeasible):
                return plan
            lossy = _lossy_crossings(plan)
            if len(lossy) <= crossings or route_error(manifest, lossy) <= policy.accuracy.max_error:
                return situation, plan
            crossings = max(crossings + 1, len(lossy))
            situation = self.situation(manifest, first.origin, policy, now, lossy_crossings=crossings)
        return situation

    def review(
        self, manifest: Manifest, origin: str, policy: Policy, now: float
    ) -> tuple[Situation, Switch | None] | Infeasible:
        """What to publish for (model, origin), if anything; why there is no plan.

        The last good plan stays in force when there is none now.
        """
        first = self.situation(manifest, origin, policy, now)
        if isinstance(first, Infeasible):
            return first
        if self._all_as_before(first, now):
            return first, None
        found = self.best(first, now)
        if isinstance(found, Infeasible):
            return found
        situation, plan = found
        key = manifest.name, origin
        current = self.in_force.get(key)
        if current is not None and manifest is not current.manifest:
            lost = route_error(manifest, _lossy_crossings(current.plan))
            if lost > policy.accuracy.max_error:
                text = "the plan in force would change the outputs by more than is allowed"
                self.renew(key, text, forbidden=True)
                current = None
        chosen = switch(
            current,
            manifest,
            plan,
            situation.instance,
            situation.goal,
            lambda: self.errors(situation, now),
            now,
        )
        if chosen is not None and (anew := self._why_anew.pop(key, None)) is not None:
            chosen = replace(chosen, reason=anew[0], at_once=anew[1])
        return situation, chosen

    def take_over(self, situation: Situation, chosen: Switch, unix_time: float | None, now: float) -> InForce:
        """``chosen`` is published: it is in force from now on."""
        key = situation.manifest.name, situation.origin
        before = self.in_force.get(key)
        same = before is not None and not chosen.changes_route
        entry = InForce(
            chosen.plan,
            situation.instance,
            before.last_best if before is not None and same else situation.instance,
            situation.manifest,
            situation.goal,
            before.rivalry if before is not None and same else Rivalry(now),
            now,
            (before.changes + (not same)) if before is not None else 0,
            before.since if before is not None and same else unix_time,
            _memory(situation.instance, chosen.plan),
            chosen.at_once or (before is not None and same and before.at_once),
        )
        self.in_force[key] = entry
        return entry

    def predicted(self, key: Key, situation: Situation) -> Plan | None:
        """The plan in force with its figures in ``situation``; None where it cannot be carried out there."""
        current = self.in_force.get(key)
        if current is None:
            return None
        plan = current.plan
        prediction = predicted_latency(situation.instance, plan.partitions, plan.input_codec)
        if isinstance(prediction, Infeasible):
            return None
        return replace(plan, prediction=prediction)

    def errors(self, situation: Situation, now: float) -> Errors:
        """How wrong the estimates behind ``situation`` are likely to be."""
        run: dict[str, float] = {}
        up: dict[str, float] = {}
        down: dict[str, float] = {}
        latency: dict[str, float] = {}
        guessed: set[Source] = set()
        manifest = situation.manifest
        for device in situation.instance.devices:
            times = self._estimates.unit_times(device.id, manifest.digest, manifest.unit_count, now)
            if times is not None:
                run[device.id] = times.uncertainty
                if times.age > _FRESH_SECONDS:
                    guessed.add(("run", device.id))
        participants = {device.id: device.id for device in situation.instance.devices}
        if isinstance(situation.instance.origin, Requester):
            participants[APP_ORIGIN] = GATEWAY_PARTICIPANT
        for name, participant in participants.items():
            estimate = self._estimates.link(participant, now)
            latency[name] = estimate.latency_error
            up[name], down[name] = estimate.up_error, estimate.down_error
            for kind, error in (("latency", latency), ("up", up), ("down", down)):
                split = estimate.is_split and kind != "latency"
                if split or estimate.age > _FRESH_SECONDS or error[name] >= UNKNOWN:
                    guessed.add((kind, name))
        return Errors(run, up, frozenset(guessed), down, latency)

    def _all_as_before(self, situation: Situation, now: float) -> bool:
        """Whether nothing has moved since the plan in force was found to be the best, and no rival waits."""
        key = situation.manifest.name, situation.origin
        current, last = self.in_force.get(key), self._last_search(situation, now)
        return (
            current is not None
            and last is not None
            and last.plan.partitions == current.plan.partitions
            and current.manifest is situation.manifest
            and not current.rivalry
        )

    def _last_search(self, situation: Situation, now: float) -> _Search | None:
        """The last search, where it would find the same today."""
        key = situation.manifest.name, situation.origin
        last = self._searches.get(key)
        if (
            last is None
            or last.manifest is not situation.manifest
            or last.policy is not situation.policy
            or last.names != _names(situation.instance)
        ):
            return None
        used = self._estimates.demand(*key, now) > _IN_USE
        moved = _moved(last.figures, _figures(situation.instance), last.plan.total)
        if moved >= (_STEP if used else _IDLE_STEP):
            longest = 0.0
        else:
            longest = _WAIT_SECONDS if used and moved >= _UNMOVED else _SEARCH_SECONDS
        return last if now - last.at < longest else None

    def _searched(self, situation: Situation, now: float) -> Plan | Infeasible:
        """The best plan; that of the last search, with fresh figures, where nothing has moved since."""
        instance = situation.instance
        last = self._last_search(situation, now)
        if last is not None:
            prediction = predicted_latency(instance, last.plan.partitions, last.plan.input_codec)
            if not isinstance(prediction, Infeasible):
                return replace(last.plan, prediction=prediction)
        plan = solve(instance, situation.goal)
        key = situation.manifest.name, situation.origin
        if isinstance(plan, Plan):
            self._searches[key] = _Search(
                now, situation.manifest, situation.policy, _names(instance), _figures(instance), plan
            )
        else:
            self._searches.pop(key, None)
        return plan


def _memory(instance: Instance, plan: Plan) -> dict[str, float]:
    """Bytes that ``plan`` takes on each of its devices."""
    runs = [(part.start, part.stop, instance.indices[part.device]) for part in plan.partitions]
    return {device: memory_need(instance, runs, instance.indices[device]) for device in plan.devices}


def _lossy_crossings(plan: Plan) -> list[tuple[int, str]]:
    return [
        (crossing.cut, crossing.codec)
        for crossing in plan.prediction.crossings
        if not CODECS[crossing.codec].lossless
    ]


def _names(instance: Instance) -> tuple[object, ...]:
    """What is the same or not."""
    return (
        tuple((device.id, bool(device.unavailable)) for device in instance.devices),
        instance.pins,
        instance.excluded,
        instance.codecs,
        instance.codec_allowed.tobytes(),
    )


def _figures(instance: Instance) -> _Figures:
    """What moves with the estimates."""
    usual = median(instance.cut_bytes[:, 0].tolist())  # of so few numbers ten times faster than numpy's
    seconds: list[float] = []
    others: list[float] = []
    links = [device.link for device in instance.devices]
    if isinstance(instance.origin, Requester):
        links.append(instance.origin.link)
    for link in links:
        seconds += (link.latency_up + usual / link.rate_up, link.latency_down + usual / link.rate_down)
    for device in instance.devices:
        seconds += (device.run_overhead, device.queue_seconds)
        others += (
            device.run_factor,
            device.memory_limit,
            device.busy_watts,
            device.radio_watts,
            device.energy_weight,
            device.price_per_second,
            device.price_per_byte,
        )
    return np.array(seconds), np.array(others)


def _moved(before: _Figures, now: _Figures, latency: float) -> float:
    """The largest change of any figure, as a share of the larger value, for a plan that takes ``latency``."""
    shares = []
    for old, new, grain in zip(before, now, (_GRAIN * latency, 0.0), strict=True):
        larger = np.maximum(np.abs(old), np.abs(new)) + grain
        shares.append(float((np.abs(new - old) / np.where(larger > 0.0, larger, 1.0)).max(initial=0.0)))
    return max(shares)
