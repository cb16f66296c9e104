"""Which constraint binds: the one whose lifting would improve the plan most."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.lifting import lifted
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan
from edgemesh.planning.value import main_figure_in_words, value_of
from edgemesh.planning.wording import as_milliseconds

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
    for number, (what, without, aim) in enumerate(_lifted(instance, plan, goal)):
        if number >= _TRIALS:
            break
        other = solve(without, aim)
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
    for what, without in lifted(instance):
        yield what, without, same
