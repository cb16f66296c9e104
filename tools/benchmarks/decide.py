"""The decision node in simulated meshes that change, against plans that stay and against an oracle."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from os import cpu_count
from time import process_time

from benchmarks.report import Report
from edgemesh.node.worker_processes import worker_processes
from edgemesh.simulation.compare import Summary, changed, played
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.scenario_file import load_scenario, scenario_names

CALM = "calm"
NETWORKS = ("alexnet", "mobilenetv2", "vgg16")
_QUICK_HOURS = 0.15
"""Of each."""
_PLANS = ("decided", "static", "oracle")


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
_HOUR_SECONDS = 30.0
"""Processor time of one hour of ten jobs a second over five devices, decision node included."""
_DISTANCE, _CALM_COST, _CALM_ERROR = 1.05, 1.01, 0.10


@dataclass(frozen=True)
class _Trio:
    """One scenario, model and objective: runs with the same jobs and noise."""

    name: str
    decided: Summary
    static: Summary
    oracle: Summary

    @property
    def lost(self) -> int:
        """Jobs that the decision node lost and the oracle did not."""
        return max(0, self.decided.lost - self.oracle.lost)


@dataclass(frozen=True)
class _Play:
    """A trio under way."""

    gain: _Gain
    scenario: Scenario
    model: str
    runs: dict[str, Future[Summary]]

    def trio(self) -> _Trio:
        """What came out; waits for it."""
        decided, static, oracle = (self.runs[name].result() for name in _PLANS)
        return _Trio(f"{self.gain.what}: {self.scenario.name}, {self.model}", decided, static, oracle)


def measure(report: Report) -> None:
    """Every scenario with every network, for latency and for energy within a latency bound. Modelled.

    Of a quick run see ``quick_pairs``.
    """
    _claim_speed(report)
    worst, lost = 0.0, 0
    with workers() as pool:
        plays = [
            _begun(pool, gain, name, model, quick=report.quick)
            for gain in _GAINS
            for name, model in (quick_pairs() if report.quick else pairs())
        ]
        for gain in _GAINS:
            trios = []
            for play in plays:
                if play.gain is gain:
                    trios.append(play.trio())
                    _show(report, trios[-1], gain)
            _claim_gain(report, [t for t in trios if t.static.scenario != CALM], gain)
            worst = max(worst, *(gain.figure(t.decided) / gain.figure(t.oracle) for t in trios))
            lost += sum(trio.lost for trio in trios)
            _claim_calm(report, [t for t in trios if t.static.scenario == CALM], gain)
    report.claim("distance to the oracle of each phase, worst scenario and model", worst, _DISTANCE)
    # A job that is lost counts with the time until its error: lost at once, it would be a fast one.
    report.claim("jobs lost beyond the oracle's, all scenarios and models", lost, 0, "")


def workers() -> AbstractContextManager[ProcessPoolExecutor]:
    """Processes to play in."""
    return worker_processes(min(2, cpu_count() or 1))


def pairs() -> list[tuple[str, str]]:
    """Every shipped scenario with every network."""
    return [(name, model) for name in scenario_names() for model in NETWORKS]


def quick_pairs() -> list[tuple[str, str]]:
    """The scenarios in which something changes, in the order of their names, one for each network in turn,
    and the calm one with the first: a choice that knows nothing of what comes out.
    """
    changing = [name for name in scenario_names() if name != CALM]
    return [*zip(changing, NETWORKS, strict=False), (CALM, NETWORKS[0])]


def _claim_speed(report: Report) -> None:
    """How fast the simulator is; a quick run plays two shorter times and reckons the hour from them."""
    text = "simulating an hour of 10 jobs/s over 5 devices, processor time"
    if report.quick:
        short, long = _played_seconds(0.02), _played_seconds(0.1)
        seconds = short + (1.0 - 0.02) * (long - short) / (0.1 - 0.02)
        text += " (reckoned from 0.02 and 0.1 h)"
    else:
        seconds = _played_seconds(1.0)
    report.claim(text, seconds, _HOUR_SECONDS, "s")


def _played_seconds(hours: float) -> float:
    """Processor seconds."""
    scenario = load_scenario(CALM)
    (stream,) = scenario.streams
    streams = (replace(stream, per_second=10.0, busy=None),)
    began = process_time()
    played(replace(scenario, duration=hours * 3600.0, streams=streams), NETWORKS[1], "decided")
    return process_time() - began


def _begun(pool: ProcessPoolExecutor, gain: _Gain, name: str, model: str, *, quick: bool) -> _Play:
    scenario = load_scenario(name)
    if quick:
        scenario = changed(scenario, hours=_QUICK_HOURS)
    wanted = replace(scenario, policy=replace(scenario.policy, objective=gain.objective))
    runs = {plan: pool.submit(played, wanted, model, plan) for plan in _PLANS if _needed(name, plan)}
    # Where nothing changes the oracle keeps the plan of the start.
    return _Play(gain, scenario, model, {"oracle": runs["static"], **runs})


def _needed(scenario: str, plan: str) -> bool:
    return scenario != CALM or plan != "oracle"


def _show(report: Report, trio: _Trio, gain: _Gain) -> None:
    for plan, run in zip(_PLANS, (trio.decided, trio.static, trio.oracle), strict=True):
        report.figure(f"{trio.name}, {plan}, modelled {gain.unit}", gain.figure(run))
    report.figure(f"{trio.name}, to the oracle", gain.figure(trio.decided) / gain.figure(trio.oracle))
    report.figure(f"{trio.name}, switches", len(trio.decided.switches))
    if trio.lost:
        report.figure(f"{trio.name}, jobs lost beyond the oracle's", trio.lost)


def _claim_gain(report: Report, trios: list[_Trio], gain: _Gain) -> None:
    """The claim where the oracle can reach it; elsewhere the oracle's figure says why it is not made."""
    limit = 1.0 - gain.share
    best = {trio.name: gain.figure(trio.oracle) / gain.figure(trio.static) for trio in trios}
    reached = [trio for trio in trios if best[trio.name] <= limit]
    for trio in trios:
        if trio not in reached:
            report.figure(f"{trio.name}: not reachable, oracle to static", best[trio.name])
    text = f"{gain.what} against the static plan where the oracle gains {gain.share:.0%}"
    if not reached:
        note = f"not reachable by the oracle here: {min(best.values()):.3f} of the static plan's at best"
        report.claim_nothing(text, limit, note)
        return
    ratios = {trio.name: gain.figure(trio.decided) / gain.figure(trio.static) for trio in reached}
    for name, ratio in ratios.items():
        report.figure(f"{name}: of the static plan's (oracle {best[name]:.3f})", ratio)
    report.claim(f"{text} (worst of {len(reached)})", max(ratios.values()), limit)


def _claim_calm(report: Report, trios: list[_Trio], gain: _Gain) -> None:
    costs = [gain.figure(trio.decided) / gain.figure(trio.static) for trio in trios]
    report.claim(f"calm: {gain.what} against the static plan", max(costs), _CALM_COST)
    errors = [trio.decided.error for trio in trios if trio.decided.error is not None]
    report.claim(f"calm: error of predicted latency (MAPE), for {gain.what}", max(errors), _CALM_ERROR)
