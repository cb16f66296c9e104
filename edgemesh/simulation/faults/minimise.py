"""Minimise: the fewest deeds of a schedule that still break the same rule (delta debugging, ddmin).

Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgemesh.simulation.faults.run import Outcome, played
from edgemesh.simulation.faults.schedules import Deed, Schedule

_RUNS = 400
"""A search that needs more returns what it has."""


def minimal(outcome: Outcome, tell: Callable[[int, int], None] = lambda runs, deeds: None) -> Outcome:
    """The outcome of a schedule with fewer deeds that breaks the rule that ``outcome`` broke.

    ``tell(runs, deeds)`` is called after each run with what is left. Deeds after the rule was broken are
    dropped first. Without a broken rule it is ``outcome``.
    """
    if outcome.broken is None:
        return outcome
    best = outcome
    deeds: Sequence[Deed] = outcome.schedule.deeds
    runs = 0

    def fails(candidate: Sequence[Deed]) -> bool:
        nonlocal best, runs
        runs += 1
        tried = played(_with(outcome.schedule, candidate))
        failed = tried.broken is not None and _same(tried, outcome)
        if failed:
            best = tried
        tell(runs, len(best.schedule.deeds))
        return failed

    early = [deed for deed in deeds if deed.at <= outcome.broken.at]
    if len(early) < len(deeds) and fails(early):
        deeds = early
    pieces = 2
    while len(deeds) >= 2 and runs < _RUNS:
        size = -(-len(deeds) // pieces)
        for start in range(0, len(deeds), size):
            rest = [*deeds[:start], *deeds[start + size :]]
            if runs < _RUNS and fails(rest):
                deeds = rest
                pieces = max(2, pieces - 1)
                break
        else:
            if pieces >= len(deeds):
                break
            pieces = min(len(deeds), 2 * pieces)
    return best


def _with(schedule: Schedule, deeds: Sequence[Deed]) -> Schedule:
    return replace(schedule, deeds=tuple(deeds))


def _same(one: Outcome, other: Outcome) -> bool:
    assert one.broken is not None and other.broken is not None
    return one.broken.rule == other.broken.rule
