"""Objectives by the name under which an operator or an assignment message asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Infeasible, Plan

OBJECTIVES: Final[dict[str, Callable[[Instance], Plan | Infeasible]]] = {"latency": solve_latency}
"""A new objective is one module with such a function and one row here."""
