"""What a goal minimises, read off a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.plan import Prediction
from edgemesh.planning.wording import as_joules, as_milliseconds, as_money

Value = tuple[float, ...]
"""Compared from the left; the first is the main figure."""


def value_of(prediction: Prediction, goal: Goal) -> Value:
    """What ``goal`` minimises: the main figure, then what breaks ties down to partitions and bytes.

    The main figure is seconds for latency, joules for energy and bounded energy, seconds of the bottleneck
    for throughput (one job of each stream in flight), money for money. The latency bound is not in it.
    """
    return (
        *_FIGURES[goal.objective](prediction, goal),
        float(len(prediction.hops)),
        float(prediction.nbytes),
    )


_FIGURES: Final[dict[str, Callable[[Prediction, Goal], Value]]] = {
    "latency": lambda p, _: (p.total,),
    "energy": lambda p, _: (p.joules, p.total),
    "bounded-energy": lambda p, _: (p.joules, p.total),
    "throughput": lambda p, goal: (p.bottleneck * goal.in_flight, p.total),
    "money": lambda p, _: (p.money, p.joules, p.total),
}


def main_figure_in_words(figure: float, goal: Goal) -> str:
    """The main figure of ``value_of`` with its unit."""
    return _WORDS[goal.objective](figure)


_WORDS: Final[dict[str, Callable[[float], str]]] = {
    "latency": as_milliseconds,
    "energy": as_joules,
    "bounded-energy": as_joules,
    "throughput": as_milliseconds,
    "money": as_money,
}
