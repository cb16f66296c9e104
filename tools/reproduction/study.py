"""Study: which runs there are, and which of them are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgemesh.roles.announcements import route_of
from edgemesh.simulation.plans import BASELINES, Case, Phase
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.scenario_file import load_scenario
from reproduction.made_of import made_of, schedule_of

NETWORKS = ("alexnet", "vgg16", "mobilenetv2")
SCENARIOS = ("calm", "link", "load", "both", "leave")
OBJECTIVES = {"latency": "latency", "energy": "bounded-energy"}
"""What is claimed, and the objective it is claimed of."""
ADAPTIVE = "adaptive"
POLICIES = {
    "latency": (ADAPTIVE, "static", "edge", "cloud", "hindsight", "oracle"),
    "energy": (ADAPTIVE, "static", "oracle"),
}
"""All on the edge or on the cloud is the same for either objective."""
_PLANS = {
    "static": "static",
    "edge": "origin",
    "cloud": "fastest",
    "hindsight": "hindsight",
    "oracle": "oracle",
}
_SHORT = ("edge", "cloud", "hindsight")
_SHORT_SHARE = 0.35
_CALM = "calm"
_FOLDER = Path(__file__).parent / "scenarios"
ORIGIN = "pi"


@dataclass(frozen=True)
class Run:
    """One thing to measure."""

    network: str
    scenario: str
    objective: str
    """``latency`` or ``energy``: what the plans are made for."""
    policy: str

    @property
    def name(self) -> str:
        """What files and tables call it."""
        return f"{self.network}-{self.scenario}-{self.objective}-{self.policy}"


@dataclass(frozen=True)
class Planned:
    """A run with what it depends on."""

    run: Run
    phases: tuple[Phase, ...] | None
    """None lets the decision node decide."""
    made_of: Mapping[str, str]
    """A digest of each part of what the run depends on."""

    @property
    def schedule(self) -> str:
        """A digest of all of that: runs that share it are the same experiment."""
        return schedule_of(self.made_of)


def all_runs(networks: Sequence[str], scenarios: Sequence[str], objectives: Iterable[str]) -> list[Run]:
    """In the order of measuring: what is compared lies close together in time."""
    return [
        Run(network, scenario, objective, policy)
        for network in networks
        for scenario in scenarios
        for objective in objectives
        for policy in POLICIES[objective]
    ]


def scenario_of(run: Run, *, share: float = 1.0) -> Scenario:
    """The run's scenario with its objective; ``share`` shortens it with all its times."""
    scenario = load_scenario(str(_FOLDER / f"{run.scenario}.toml"))
    changes = tuple(replace(change, at=change.at * share) for change in scenario.changes)
    policy = replace(scenario.policy, objective=OBJECTIVES[run.objective])
    return replace(scenario, duration=scenario.duration * share, changes=changes, policy=policy)


def length_of(run: Run) -> float:
    """Share of its scenario's length that a run is played at.

    Plans that never change are the same in every second of a phase, so they need fewer; the static one keeps
    its length, as others are compared with it. In calm the hindsight's plan is the static one.
    """
    if run.policy not in _SHORT or (run.scenario == _CALM and run.policy == "hindsight"):
        return 1.0
    return _SHORT_SHARE


def planned(run: Run, case: Case, seed: int, slower: float) -> Planned:
    """The plans of ``run``, made on the true figures of ``case``."""
    phases = None if run.policy == ADAPTIVE else BASELINES[_PLANS[run.policy]](case)
    # A policy is for the decision node alone: those that have a plan already are the same with any.
    plans = asdict(case.scenario.policy) if phases is None else _routes(phases)
    return Planned(run, phases, made_of(case, seed, slower, plans))


def _routes(phases: tuple[Phase, ...]) -> list[Any]:
    """Plans with when they begin; a phase that keeps the plan before it is not one."""
    told: list[Any] = []
    for phase in phases:
        routes = [
            [[hop.device, hop.stop] for hop in route_of(chosen.plan)] for chosen in phase.plans.values()
        ]
        if not told or told[-1][1] != routes:
            told.append([phase.at, routes])
    return told
