"""Which constraint binds: the one whose lifting would improve the plan most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, raw_at_both_ends
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan
from edgemesh.planning.value import main_figure_in_words, value_of
from edgemesh.planning.wording import as_bytes, as_milliseconds

_TRIALS: Final = 16
"""Constraints that are lifted in turn: each costs a solve."""
_WORTH_A_WORD: Final = 1e-6
"""Relative gains below it are rounding."""


def binding_constraint(instance: Instance, plan: Plan, goal: Goal) -> str:
    """One sentence: the constraint that binds ``plan``, the best for ``goal`` on ``instance``, with the
    figure.

    Each constraint is lifted alone, at the latency bound of ``plan``; two that bind only together are not
    seen.
    """
    now = value_of(plan.prediction, goal)[0]
    best, named = now, ""
    for number, (what, lifted, aim) in enumerate(_lifted(instance, plan, goal)):
        if number >= _TRIALS:
            break
        other = solve(lifted, aim)
        if isinstance(other, Plan) and (value := value_of(other.prediction, goal)[0]) < best * (
            1.0 - _WORTH_A_WORD
        ):
            best, named = value, what
    if not named:
        return f"nothing binds: no single constraint lifted would better {main_figure_in_words(now, goal)}"
    return (
        f"{named} binds: without it a job would take {main_figure_in_words(best, goal)} instead of "
        f"{main_figure_in_words(now, goal)}"
    )


def _lifted(instance: Instance, plan: Plan, goal: Goal) -> Iterator[tuple[str, Instance, Goal]]:
    """What is lifted, in words that begin a sentence; the instance without it; the goal to solve for."""
    same = goal if plan.bound is None else dataclasses.replace(goal, bound_seconds=plan.bound)
    if plan.bound is not None:
        free = (
            Goal("energy")
            if goal.objective == "bounded-energy"
            else dataclasses.replace(goal, bound_seconds=1e9)
        )
        yield f"the latency bound of {as_milliseconds(plan.bound)}", instance, free
    for index, pin in enumerate(instance.pins):
        names = " or ".join(instance.devices[device].id for device in sorted(pin.devices))
        what = f"the pin of units {pin.start} to {pin.stop - 1} to {names}"
        if (pin.start, pin.stop) == (0, 1) and pin.devices == frozenset({instance.origin}):
            what = f"keeping the raw input on {names}"
        pins = (*instance.pins[:index], *instance.pins[index + 1 :])
        yield what, dataclasses.replace(instance, pins=pins), same
    everything = raw_at_both_ends(instance.unit_count, len(instance.codecs)) | instance.codec_allowed
    if not (everything == instance.codec_allowed).all():
        yield "what codecs are allowed", dataclasses.replace(instance, codec_allowed=everything), same
    for device in sorted(instance.excluded):
        left = dataclasses.replace(instance, excluded=instance.excluded - {device})
        yield f"the exclusion of {instance.devices[device].id}", left, same
    whole = float(instance.weight_bytes.sum() + instance.peak_bytes.max())
    for index, spec in enumerate(instance.devices):
        if spec.memory_limit < whole and instance.may_run[index].any():
            roomy = list(instance.devices)
            roomy[index] = dataclasses.replace(spec, memory_limit=math.inf)
            what = f"the memory of {spec.id}, {as_bytes(spec.memory_limit)} of the {as_bytes(whole)} needed,"
            yield what, dataclasses.replace(instance, devices=tuple(roomy)), same
