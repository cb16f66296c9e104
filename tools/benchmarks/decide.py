"""The decision node in simulated meshes that change, against plans that stay and against an oracle."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count

from benchmarks.report import Report
from edgemesh.simulation.compare import Summary, changed, compare
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.scenario_file import load_scenario, scenario_names

CALM = "calm"
_QUICK = {
    "latency": {"calm": "vgg16", "laptop-bursts": "vgg16", "wifi-swings": "mobilenetv2"},
    "bounded-energy": {"calm": "vgg16", "laptop-bursts": "alexnet"},
}
"""Scenario and model of a quick run by objective; it also plays only the first part of each."""
_QUICK_HOURS = 0.25
_RUNS = ("decided", "static", "oracle")


@dataclass(frozen=True)
class _Gain:
    """What deciding anew is to save against a plan that stays."""

    objective: str
    what: str
    unit: str
    share: float
    figure: Callable[[Summary], float]


_GAINS = (
    _Gain("latency", "latency", "ms", 0.23, lambda s: s.mean * 1e3),
    _Gain("bounded-energy", "energy", "J", 0.36, lambda s: s.weighted_joules),
)
_DISTANCE, _CALM_COST, _CALM_ERROR = 1.05, 1.01, 0.10


@dataclass(frozen=True)
class _Trio:
    """One scenario, model and objective: three runs with the same jobs and noise."""

    name: str
    decided: Summary
    static: Summary
    oracle: Summary


def measure(report: Report) -> None:
    """Every scenario with every model of it, for latency and for energy within a latency bound. Modelled."""
    worst = 0.0
    with ProcessPoolExecutor(min(2, cpu_count() or 1)) as pool:
        for gain in _GAINS:
            trios = [
                trio
                for scenario, models in _scenarios(gain, quick=report.quick)
                for trio in _played(scenario, models, gain, pool)
            ]
            for trio in trios:
                _show(report, trio, gain)
            _claim_gain(report, [t for t in trios if t.static.scenario != CALM], gain)
            worst = max(worst, *(gain.figure(t.decided) / gain.figure(t.oracle) for t in trios))
            _claim_calm(report, [t for t in trios if t.static.scenario == CALM], gain)
    report.claim("distance to the oracle of each phase, worst scenario and model", worst, _DISTANCE)


def _scenarios(gain: _Gain, *, quick: bool) -> list[tuple[Scenario, tuple[str, ...]]]:
    if quick:
        chosen = _QUICK[gain.objective].items()
        return [(changed(load_scenario(name), hours=_QUICK_HOURS), (model,)) for name, model in chosen]
    return [(scenario, scenario.models) for scenario in map(load_scenario, scenario_names())]


def _played(
    scenario: Scenario, models: tuple[str, ...], gain: _Gain, pool: ProcessPoolExecutor
) -> list[_Trio]:
    wanted = replace(scenario, policy=replace(scenario.policy, objective=gain.objective))
    summaries = compare(wanted, models, _RUNS, pool)
    return [
        _Trio(f"{gain.what}: {scenario.name}, {model}", *[s for s in summaries if s.model == model])
        for model in models
    ]


def _show(report: Report, trio: _Trio, gain: _Gain) -> None:
    for run in (trio.decided, trio.static, trio.oracle):
        report.figure(f"{trio.name}, {run.name}, modelled {gain.unit}", gain.figure(run))
    report.figure(f"{trio.name}, switches", len(trio.decided.switches))
    if trio.decided.lost > trio.oracle.lost:
        report.figure(f"{trio.name}, jobs lost beyond the oracle's", trio.decided.lost - trio.oracle.lost)


def _claim_gain(report: Report, trios: list[_Trio], gain: _Gain) -> None:
    """The claim where the oracle can reach it; elsewhere the oracle's figure says why it is not made."""
    limit = 1.0 - gain.share
    ratios = []
    for trio in trios:
        best = gain.figure(trio.oracle) / gain.figure(trio.static)
        if best > limit:
            report.figure(f"{trio.name}: not claimed, the oracle itself reaches", best)
            continue
        ratios.append(gain.figure(trio.decided) / gain.figure(trio.static))
        report.figure(f"{trio.name}: of the static plan's (oracle {best:.3f})", ratios[-1])
    if ratios:
        text = f"{gain.what} against the static plan, worst of {len(ratios)} where the oracle gains it"
        report.claim(text, max(ratios), limit)


def _claim_calm(report: Report, trios: list[_Trio], gain: _Gain) -> None:
    costs = [gain.figure(trio.decided) / gain.figure(trio.static) for trio in trios]
    report.claim(f"calm: {gain.what} against the static plan", max(costs), _CALM_COST)
    errors = [trio.decided.error for trio in trios if trio.decided.error is not None]
    report.claim(f"calm: error of predicted latency (MAPE), for {gain.what}", max(errors), _CALM_ERROR)
