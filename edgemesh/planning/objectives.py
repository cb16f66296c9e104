"""Objectives by the name under which an operator or an assignment message asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.lateness import with_what_to_lift
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.throughput import solve_throughput
from edgemesh.planning.within import plan_within


def solve(instance: Instance, goal: Goal) -> Plan | Infeasible:
    """The best plan for ``goal``, with the latency bound that was applied, or why there is none.

    A latency bound that no plan keeps is answered with the constraint to lift. Searches end after an amount
    of work (``labels.WORK``; ``memory.LABELS`` for latency), the same on every machine: ``Plan.proven`` is
    false then, and the plan is the best one met, which may cost more than the best by whatever lies between
    it and the bound of the relaxed problem. Latency has no gap unless memory binds over several runs of one
    device.
    """
    answer = solve_plainly(instance, goal)
    if isinstance(answer, Infeasible) and answer.kind == "deadline":
        return with_what_to_lift(instance, answer, goal.bound_seconds)
    return answer


def solve_plainly(instance: Instance, goal: Goal) -> Plan | Infeasible:
    """As ``solve``, without looking for the constraint to lift, which takes many solves."""
    return SOLVERS[goal.objective](instance, goal)


def _latency(instance: Instance, goal: Goal) -> Plan | Infeasible:
    return solve_latency(instance)


def _within(instance: Instance, goal: Goal) -> Plan | Infeasible:
    return plan_within(instance, RESOURCES[goal.objective], goal.bound)


def _throughput(instance: Instance, goal: Goal) -> Plan | Infeasible:
    return solve_throughput(instance)


RESOURCES: Final[dict[str, tuple[str, ...]]] = {
    "energy": ("joules",),
    "bounded-energy": ("joules",),
    "money": ("money", "joules"),
}
"""What is minimised where that is a sum over the steps of a plan, most important first."""

SOLVERS: Final[dict[str, Callable[[Instance, Goal], Plan | Infeasible]]] = {
    "latency": _latency,
    "throughput": _throughput,
    **dict.fromkeys(RESOURCES, _within),
}
"""A new objective is one module with such a function, one row here and one in ``value.py``."""
