"""Switching: whether a new plan takes the place of the one in force, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from edgemesh.planning.explanation import why_changed
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.plan import Infeasible, Plan, Prediction
from edgemesh.planning.prediction import predicted_latency
from edgemesh.planning.switching import Errors, Rivalry
from edgemesh.planning.value import value_of
from edgemesh.planning.wording import as_milliseconds, listed
from edgemesh.protocol.manifest import Manifest

_DRIFT: Final = 0.25
"""The same plan is published again when its prediction moved by this share: hedges are timed by it."""
_DRIFT_SECONDS: Final = 10.0
"""Between two such publications at least."""


@dataclass
class InForce:
    """What was published last for one (model, origin)."""

    plan: Plan
    instance: Instance
    last_best: Instance
    """The last one on which no plan was better: what moved since then is why it is left."""
    manifest: Manifest
    goal: Goal
    rivalry: Rivalry
    published_at: float
    changes: int = 0
    """How often the route changed before."""
    since: float | None = None
    """Unix time of the last change."""
    memory: dict[str, float] = field(default_factory=dict)
    """Bytes that the plan takes on each of its devices."""
    at_once: bool = False
    """Whether the route before is not allowed or possible any more."""

    @property
    def usable(self) -> frozenset[str]:
        """Devices that could be used then; the fallbacks were chosen among them."""
        return usable_devices(self.instance)


@dataclass(frozen=True)
class Switch:
    """A plan to publish, which may be the one in force with fresh figures and fallbacks."""

    plan: Plan
    reason: str
    changes_route: bool = True
    is_choice: bool = False
    """Whether the plan in force could stay as well."""
    at_once: bool = False
    """Whether it is not allowed or possible any more."""


def usable_devices(instance: Instance) -> frozenset[str]:
    """Devices that may run at least one unit."""
    able = instance.may_run.any(axis=1)
    return frozenset(device.id for device, may in zip(instance.devices, able, strict=True) if may)


def switch(
    current: InForce | None,
    manifest: Manifest,
    plan: Plan,
    instance: Instance,
    goal: Goal,
    errors: Callable[[], Errors],
    now: float,
) -> Switch | None:
    """What to publish now that ``plan`` is the best on ``instance``; None while all stays as it is.

    ``errors`` are asked for only when there is something to compare.
    """
    if current is None:
        return Switch(plan, f"first plan of this decision node ({len(instance.devices)} devices known)")
    before = current.manifest
    if (before.digest, before.unit_count) != (manifest.digest, manifest.unit_count):
        return Switch(plan, "the model's content or units changed")
    kept: Prediction | Infeasible = plan.prediction
    if (plan.partitions, plan.input_codec) != (current.plan.partitions, current.plan.input_codec):
        kept = predicted_latency(instance, current.plan.partitions, current.plan.input_codec)
    if isinstance(kept, Infeasible):
        return Switch(plan, f"the plan in force became impossible: {kept.reason}", at_once=True)
    if plan.partitions == current.plan.partitions:
        current.last_best = instance
    winner = _winner(current, kept, plan, instance, goal, errors, now)
    if winner is not None:
        return Switch(winner, _why(current, kept, winner, instance, goal), is_choice=True)
    again = Plan(current.plan.partitions, current.plan.input_codec, kept, plan.proven, plan.bound)
    usable = usable_devices(instance)
    if usable != current.usable:
        text = f"fallbacks renewed: {_who_changed(current.usable, usable)}"
        return Switch(again, text, changes_route=False)
    moved = abs(kept.total - current.plan.total) > _DRIFT * current.plan.total
    if moved and now - current.published_at >= _DRIFT_SECONDS:
        figures = f"{as_milliseconds(current.plan.total)} became {as_milliseconds(kept.total)}"
        return Switch(again, f"estimates moved: {figures}", changes_route=False)
    return None


def _winner(
    current: InForce,
    kept: Prediction,
    plan: Plan,
    instance: Instance,
    goal: Goal,
    errors: Callable[[], Errors],
    now: float,
) -> Plan | None:
    """The rival that takes over: of several the one that is best now."""
    rivalry = current.rivalry
    rivalry.keep(kept, plan.bound, now)
    winners: list[Plan] = []
    known: Errors | None = None
    for rival in rivalry.rivals(plan, current.plan, now):
        prediction: Prediction | Infeasible = plan.prediction
        if rival.partitions != plan.partitions:
            prediction = predicted_latency(instance, rival.partitions, rival.input_codec)
            if isinstance(prediction, Infeasible):
                continue
        assert isinstance(prediction, Prediction)
        known = known or errors()
        if rivalry.wins(rival, kept, prediction, plan.bound, goal, known, now):
            winners.append(Plan(rival.partitions, rival.input_codec, prediction, plan.proven, plan.bound))
    return min(winners, key=lambda winner: value_of(winner.prediction, goal), default=None)


def _why(current: InForce, kept: Prediction, plan: Plan, instance: Instance, goal: Goal) -> str:
    """The figures of the change and the term that moved most: in latency where that is what counted."""
    late = plan.bound is not None and kept.total > plan.bound
    same = value_of(kept, goal)[0] == value_of(plan.prediction, goal)[0]
    by = Goal("latency") if late or same else goal
    text = why_changed(current.plan, current.last_best, replace(plan, bound=None), instance, by).text
    if late:
        text = f"the plan in force broke the bound of {as_milliseconds(plan.bound or 0.0)}: {text}"
    return text


def _who_changed(before: frozenset[str], now: frozenset[str]) -> str:
    parts = []
    if now - before:
        parts.append(f"{listed(sorted(now - before))} can be used now")
    if before - now:
        parts.append(f"{listed(sorted(before - now))} cannot be used now")
    return ", ".join(parts)
