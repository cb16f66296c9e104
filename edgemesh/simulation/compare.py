"""A scenario played with the decision node and with each baseline, and what that says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from edgemesh.device.boards import load_board
from edgemesh.simulation.plans import BASELINES, Case
from edgemesh.simulation.play import Job, Outcome, Switch, play
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.truth import goal_of

DECIDED: Final = "decided"
NAMES: Final = (DECIDED, *BASELINES)
BINS: Final = 120


@dataclass(frozen=True)
class Summary:
    """One run in figures; all of them are modelled."""

    scenario: str
    model: str
    name: str
    """``decided``, or the baseline's."""
    jobs: int
    lost: int
    mean: float
    """Seconds of a job; one that was lost counts with the time until its error."""
    p50: float
    p95: float
    joules: float
    """Above idle, per job."""
    weighted_joules: float
    nbytes: float
    """Per job."""
    switches: tuple[Switch, ...]
    error: float | None
    """Mean of |predicted - measured| / measured; None where nothing was predicted."""

    objective: str
    """Of the scenario's policy."""
    timeline: tuple[float | None, ...]
    """Mean seconds of the jobs of each of ``BINS`` equal stretches of time; None where none arose."""

    @property
    def cost(self) -> float:
        """What the objective minimises, per job: joules that count, or else seconds."""
        return self.weighted_joules if self.objective in ("energy", "bounded-energy") else self.mean


def case_of(scenario: Scenario, model: str) -> Case:
    """The scenario with its boards read; raises SettingsError."""
    return Case(scenario, model, {device.name: load_board(device.board) for device in scenario.devices})


def played(scenario: Scenario, model: str, name: str) -> Summary:
    """Play one of ``NAMES``; raises SettingsError."""
    case = case_of(scenario, model)
    phases = None if name == DECIDED else BASELINES[name](case)
    return summary(scenario, model, play(case, name, phases))


def compare(
    scenario: Scenario,
    models: Sequence[str],
    names: Iterable[str] = NAMES,
    pool: Executor | None = None,
) -> list[Summary]:
    """Every model with every one of ``names``, in that order."""
    runs = [(scenario, model, name) for model in models for name in names]
    if pool is None:
        return [played(*run) for run in runs]
    return [future.result() for future in [pool.submit(played, *run) for run in runs]]


def changed(scenario: Scenario, *, seed: int | None = None, hours: float | None = None) -> Scenario:
    """The scenario with another seed or duration; what would change later does not."""
    duration = scenario.duration if hours is None else hours * 3600.0
    return replace(scenario, seed=scenario.seed if seed is None else seed, duration=duration)


def summary(scenario: Scenario, model: str, outcome: Outcome) -> Summary:
    """Figures of one run."""
    jobs = outcome.jobs
    seconds = sorted(job.seconds for job in jobs)
    errors = [
        abs(job.predicted - job.seconds) / job.seconds
        for job in jobs
        if job.code is None and job.predicted and job.seconds > 0.0
    ]
    count = max(len(jobs), 1)
    return Summary(
        scenario.name,
        model,
        outcome.name,
        len(jobs),
        sum(job.code is not None for job in jobs),
        fmean(seconds) if seconds else math.nan,
        quantile(seconds, 0.5),
        quantile(seconds, 0.95),
        outcome.joules / count,
        outcome.weighted_joules / count,
        outcome.nbytes / count,
        tuple(outcome.switches),
        fmean(errors) if errors else None,
        goal_of(scenario.policy).objective,
        _timeline(jobs, scenario.duration),
    )


def _timeline(jobs: Sequence[Job], duration: float) -> tuple[float | None, ...]:
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for job in jobs:
        bins[min(int(job.at / duration * BINS), BINS - 1)].append(job.seconds)
    return tuple(fmean(seconds) if seconds else None for seconds in bins)


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value that ``share`` of all lie below; NaN of none."""
    return ascending[min(int(share * len(ascending)), len(ascending) - 1)] if ascending else math.nan
