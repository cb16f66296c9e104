"""A latency bound that no plan keeps: by how much, and which constraint to lift."""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import Final

from edgemesh.planning.costs import TICKS, bound_ticks
from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.lifting import lifted
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.wording import as_milliseconds

_TRIALS: Final = 16
"""Constraints that are lifted in turn: each costs a solve."""


def too_late(bound: float, best: float) -> Infeasible:
    """No plan keeps a latency ``bound``; ``best`` is the least possible, both in seconds."""
    return Infeasible(
        "deadline",
        f"no plan keeps the latency bound of {as_milliseconds(bound)}: the best possible latency is "
        f"{as_milliseconds(best)}",
    )


def with_what_to_lift(instance: Instance, refusal: Infeasible, bound: float | None) -> Infeasible:
    """``refusal`` of ``too_late``, with the constraint whose lifting alone helps latency most."""
    plan = solve_latency(instance)
    if not isinstance(plan, Plan) or bound is None:
        return refusal
    best, named = plan.total, ""
    for what, without in islice(lifted(instance), _TRIALS):
        other = solve_latency(without)
        if isinstance(other, Plan) and other.total < best:
            best, named = other.total, what.rstrip(",")
    advice = f"raise the bound to {as_milliseconds(plan.total)}"
    if named and round(best * TICKS) <= bound_ticks(bound):
        advice += f" or lift {named}: {as_milliseconds(best)} would be possible then"
    elif named:
        advice += f"; lifting {named} alone is not enough: it leaves {as_milliseconds(best)}"
    else:
        advice += "; no other constraint makes plans slow"
    return dataclasses.replace(refusal, reason=f"{refusal.reason}; {advice}")
