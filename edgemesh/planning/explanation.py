"""Why a device is idle under a plan, and why a plan replaced another, in sentences with figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgemesh.planning.feasibility import why_unusable
from edgemesh.planning.instance import Instance
from edgemesh.planning.plan import Infeasible, Plan, Prediction
from edgemesh.planning.prediction import predicted_latency
from edgemesh.planning.wording import as_milliseconds

IdleKind = Literal[
    "unavailable", "excluded", "incapable", "pinned", "memory", "unreachable", "slower", "no-gain"
]


@dataclass(frozen=True)
class Idle:
    """Why one device has no part in the plan."""

    device: str
    kind: IdleKind
    text: str
    extra: float | None = None
    """Seconds that the best plan using it takes more than the chosen one; None when no plan can use it."""


@dataclass(frozen=True)
class Change:
    """Why a plan replaced another."""

    kind: Literal["first", "impossible", "possible", "faster", "equal"]
    """Whether there was no plan, the old one became impossible, the new one became possible, or estimates
    moved; ``equal`` when the new one is not faster on the new estimates."""
    text: str
    saved: float | None = None
    """Seconds by which the new plan is faster, on the new estimates; None when the old one is impossible."""


def why_idle(instance: Instance, plan: Plan, using: Mapping[str, Plan | None]) -> tuple[Idle, ...]:
    """One reason per device that ``plan`` does not use; ``using`` as in ``alternatives.Alternatives``."""
    return tuple(
        _idle(instance, index, plan, using[device.id])
        for index, device in enumerate(instance.devices)
        if device.id not in plan.devices
    )


def why_changed(old: Plan | None, before: Instance, new: Plan, now: Instance) -> Change:
    """Why ``new``, solved on ``now``, takes the place of ``old``, solved on ``before``.

    Both plans are predicted on both instances; the term that moved most in favour of the new plan is named.
    """
    if old is None:
        return Change("first", f"first plan, {as_milliseconds(new.total)}")
    old_now = predicted_latency(now, old.partitions, old.input_codec)
    if isinstance(old_now, Infeasible):
        return Change("impossible", f"the plan before cannot be carried out any more: {old_now.reason}")
    saved = old_now.total - new.total
    figures = f"{as_milliseconds(new.total)} instead of {as_milliseconds(old_now.total)}"
    if saved <= 0.0:
        return Change("equal", f"no faster than the plan before: {figures}", saved)
    new_before = predicted_latency(before, new.partitions, new.input_codec)
    if isinstance(new_before, Infeasible):
        return Change("possible", f"{figures}; it was impossible before: {new_before.reason}", saved)
    old_before = predicted_latency(before, old.partitions, old.input_codec)
    assert isinstance(old_before, Prediction), old_before
    return Change(
        "faster", f"{figures}, because {_mover(old_before, old_now, new_before, new.prediction)}", saved
    )


def _idle(instance: Instance, index: int, plan: Plan, other: Plan | None) -> Idle:
    name = instance.devices[index].id
    unusable = why_unusable(instance, index)
    if unusable is not None:
        return Idle(name, unusable.kind, unusable.reason)
    if other is None:
        return Idle(
            name,
            "unreachable",
            f"no plan can use {name}: what it may run fits no route from {instance.origin_name}",
        )
    extra = other.total - plan.total
    if extra <= 0.0:
        more = len(other.partitions) - len(plan.partitions)
        cost = f"{more} more partitions" if more > 0 else "no advantage in partitions or bytes"
        return Idle(name, "no-gain", f"the best plan that uses {name} is no faster and has {cost}", extra)
    text = (
        f"the best plan that uses {name} takes {as_milliseconds(other.total)}, {as_milliseconds(extra)} more"
    )
    what, theirs, ours = max(
        _shares(other.prediction, plan.prediction), key=lambda share: share[1] - share[2]
    )
    text += f": {what} takes {as_milliseconds(theirs)} instead of {as_milliseconds(ours)}"
    return Idle(name, "slower", text, extra)


def _shares(one: Prediction, other: Prediction) -> list[tuple[str, float, float]]:
    return [
        ("transfer", one.transfer, other.transfer),
        ("waiting", sum(hop.queue for hop in one.hops), sum(hop.queue for hop in other.hops)),
        ("running", sum(hop.run for hop in one.hops), sum(hop.run for hop in other.hops)),
    ]


def _mover(old_before: Prediction, old_now: Prediction, new_before: Prediction, new_now: Prediction) -> str:
    moves = [
        (after - before, what, "more", before, after) for what, before, after in _moves(old_before, old_now)
    ]
    moves += [
        (before - after, what, "less", before, after) for what, before, after in _moves(new_before, new_now)
    ]
    _, what, direction, before, after = max(moves)
    return f"{what} takes {direction}: {as_milliseconds(after)}, {as_milliseconds(before)} before"


def _moves(before: Prediction, after: Prediction) -> list[tuple[str, float, float]]:
    first, second = _terms(before), _terms(after)
    return [(what, first[what], second[what]) for what in sorted({*first, *second})]


def _terms(prediction: Prediction) -> defaultdict[str, float]:
    """Seconds of one plan by what causes them."""
    terms: defaultdict[str, float] = defaultdict(float)
    for hop in prediction.hops:
        terms[f"running on {hop.partition.device}"] += hop.run
        terms[f"waiting on {hop.partition.device}"] += hop.queue
    for crossing in prediction.crossings:
        terms[f"the link of {crossing.sender}"] += crossing.up
        terms[f"the link of {crossing.receiver}"] += crossing.down
        terms[f"encoding on {crossing.sender}"] += crossing.encode
        terms[f"decoding on {crossing.receiver}"] += crossing.decode
        terms["the broker"] += crossing.broker
    return terms
