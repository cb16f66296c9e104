"""Why a device is idle under a plan, and why a plan replaced another, in sentences with figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edgemesh.planning.feasibility import why_unusable
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.plan import Infeasible, Plan, Prediction
from edgemesh.planning.prediction import predicted_latency
from edgemesh.planning.value import main_figure_in_words, value_of
from edgemesh.planning.wording import as_joules, as_milliseconds, as_money

Terms = defaultdict[str, float]
_NOTHING: Final = 1e-9
"""Seconds by which a bound that was made by multiplying may seem broken."""

IdleKind = Literal[
    "unavailable",
    "excluded",
    "incapable",
    "pinned",
    "memory",
    "unreachable",
    "deadline",
    "late",
    "costlier",
    "slower",
    "no-gain",
    "unexamined",
]
"""``late`` breaks the latency bound, ``costlier`` keeps it and loses in what the goal minimises."""


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

    kind: Literal["first", "impossible", "late", "possible", "faster", "cheaper", "equal"]
    """Whether there was no plan, the old one became impossible or breaks the bound now, the new one became
    possible, or estimates moved; ``equal`` when the new one is not better on the new estimates."""
    text: str
    saved: float | None = None
    """By how much the new plan is better in what the goal minimises (seconds, joules, money), on the new
    estimates; None when the old one is impossible or late."""


_LATENCY: Final = Goal("latency")


def why_idle(
    instance: Instance,
    plan: Plan,
    using: Mapping[str, Plan | None],
    goal: Goal = _LATENCY,
    unexamined: Collection[str] = (),
) -> tuple[Idle, ...]:
    """One reason per device of ``using`` that ``plan`` does not use.

    ``using`` and ``unexamined`` as in ``alternatives.Alternatives``.
    """
    return tuple(
        _unexamined(device.id, plan, using[device.id])
        if device.id in unexamined
        else _idle(instance, index, plan, using[device.id], goal)
        for index, device in enumerate(instance.devices)
        if device.id in using and device.id not in plan.devices
    )


def why_changed(
    old: Plan | None, before: Instance, new: Plan, now: Instance, goal: Goal = _LATENCY
) -> Change:
    """Why ``new``, solved on ``now``, takes the place of ``old``, solved on ``before``.

    Both plans are predicted on both instances; the term that moved most in favour of the new plan is named.
    """
    if old is None:
        return Change("first", f"first plan, {_figure(new.prediction, goal)}")
    old_now = predicted_latency(now, old.partitions, old.input_codec)
    if isinstance(old_now, Infeasible):
        return Change("impossible", f"the plan before cannot be carried out any more: {old_now.reason}")
    if new.bound is not None and old_now.total > new.bound + _NOTHING:
        return Change(
            "late",
            f"the plan before takes {as_milliseconds(old_now.total)} now, beyond the bound of "
            f"{as_milliseconds(new.bound)}",
        )
    saved = value_of(old_now, goal)[0] - value_of(new.prediction, goal)[0]
    figures = f"{_figure(new.prediction, goal)} instead of {_figure(old_now, goal)}"
    if saved <= 0.0:
        return Change("equal", f"no {_better(goal)} than the plan before: {figures}", saved)
    new_before = predicted_latency(before, new.partitions, new.input_codec)
    if isinstance(new_before, Infeasible):
        return Change("possible", f"{figures}; it was impossible before: {new_before.reason}", saved)
    old_before = predicted_latency(before, old.partitions, old.input_codec)
    if isinstance(old_before, Infeasible):
        return Change(_better(goal), figures, saved)
    mover = _mover(old_before, old_now, new_before, new.prediction, goal)
    return Change(_better(goal), f"{figures}, because {mover}", saved)


def _better(goal: Goal) -> Literal["faster", "cheaper"]:
    return "faster" if goal.objective in ("latency", "throughput") else "cheaper"


def _figure(prediction: Prediction, goal: Goal) -> str:
    return main_figure_in_words(value_of(prediction, goal)[0], goal)


def _unexamined(name: str, plan: Plan, fastest: Plan | None) -> Idle:
    text = f"not examined: with so many devices or units the search for plans that use {name} is left out"
    if fastest is None:
        return Idle(name, "unexamined", text)
    text += f"; the fastest of them takes {as_milliseconds(fastest.total)}"
    return Idle(name, "unexamined", text, fastest.total - plan.total)


def _idle(instance: Instance, index: int, plan: Plan, other: Plan | None, goal: Goal) -> Idle:
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
    if plan.bound is not None and other.total > plan.bound + _NOTHING:
        return Idle(
            name,
            "late",
            f"too slow: the best plan that uses {name} takes {as_milliseconds(other.total)} against "
            f"the bound of {as_milliseconds(plan.bound)}",
            extra,
        )
    theirs, ours = (value_of(each.prediction, goal)[0] for each in (other, plan))
    if goal.objective != "latency" and theirs > ours:
        cost = f"{main_figure_in_words(theirs, goal)}, {main_figure_in_words(theirs - ours, goal)} more"
        what = "has a bottleneck of" if goal.objective == "throughput" else "costs"
        return Idle(name, "costlier", f"the best plan that uses {name} {what} {cost}", extra)
    if extra <= 0.0 or goal.objective != "latency":
        more = len(other.partitions) - len(plan.partitions)
        cost = f"{more} more partitions" if more > 0 else "no advantage in partitions or bytes"
        return Idle(
            name, "no-gain", f"the best plan that uses {name} is no {_better(goal)} and has {cost}", extra
        )
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


def _mover(
    old_before: Prediction, old_now: Prediction, new_before: Prediction, new_now: Prediction, goal: Goal
) -> str:
    terms, words = _TERMS.get(goal.objective, (_seconds, as_milliseconds))
    moves = [
        (after - before, what, "more", before, after)
        for what, before, after in _moves(terms(old_before), terms(old_now))
    ]
    moves += [
        (before - after, what, "less", before, after)
        for what, before, after in _moves(terms(new_before), terms(new_now))
    ]
    if not moves:
        return "the estimates moved"
    _, what, direction, before, after = max(moves)
    return f"{what} takes {direction}: {words(after)}, {words(before)} before"


def _moves(first: Terms, second: Terms) -> list[tuple[str, float, float]]:
    return [(what, first[what], second[what]) for what in sorted({*first, *second})]


def _seconds(prediction: Prediction) -> Terms:
    """Seconds of one plan by what causes them."""
    terms: Terms = defaultdict(float)
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


def _joules(prediction: Prediction) -> Terms:
    terms: Terms = defaultdict(float)
    for hop in prediction.hops:
        terms[f"running on {hop.partition.device}"] += hop.joules
    for crossing in prediction.crossings:
        terms[f"sending from {crossing.sender} to {crossing.receiver}"] += crossing.joules
    return terms


def _money(prediction: Prediction) -> Terms:
    terms: Terms = defaultdict(float)
    for hop in prediction.hops:
        terms[f"running on {hop.partition.device}"] += hop.money
    for crossing in prediction.crossings:
        terms[f"sending from {crossing.sender} to {crossing.receiver}"] += crossing.money
    return terms


_TERMS: Final[dict[str, tuple[Callable[[Prediction], Terms], Callable[[float], str]]]] = {
    "energy": (_joules, as_joules),
    "bounded-energy": (_joules, as_joules),
    "money": (_money, as_money),
}
"""What the parts of a plan take, where the goal minimises something else than time."""
