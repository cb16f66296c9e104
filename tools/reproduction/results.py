"""Results: what the records of all runs come to, and whether the claims hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from benchmarks.report import Claim

from edgemesh.simulation.compare import quantile
from reproduction.study import ADAPTIVE, Run

CALM = "calm"


@dataclass(frozen=True)
class Figures:
    """One run in figures; time is that of the boards, not the stretched one of the testbed."""

    jobs: int
    lost: int
    skipped: int
    mean: float
    """Seconds of a job; one that was lost counts with the time until its error."""
    p50: float
    p95: float
    joules: float
    """Modelled, per job: running as if each board were its own, and the radio."""
    joules_held: float
    """The same with a run's watts for as long as other programs held it up."""
    nbytes: float
    """Per job, of all devices, with headers, heartbeats and probes."""
    switches: int
    hop_error: float | None
    """Mean of |predicted - measured| / measured over the hops of all jobs."""
    repeated: int | None = None
    """Jobs that were sent more than once; None in results from before they were counted."""

    def cost(self, objective: str) -> float:
        """What the claims of ``objective`` compare."""
        return self.mean if objective == "latency" else self.joules


def figures(record: Mapping[str, Any], slower: float) -> Figures:
    """The figures of a record (see ``reproduction.perform``)."""
    jobs: Sequence[Mapping[str, Any]] = record["jobs"]
    seconds = sorted(job["seconds"] / slower for job in jobs)
    errors = [error for job in jobs for error in job["hop_errors"]]
    count = max(len(jobs), 1)
    radio = record["joules_radio"] / count
    return Figures(
        len(jobs),
        sum(job["code"] is not None for job in jobs),
        record["skipped"],
        fmean(seconds) if seconds else math.nan,
        quantile(seconds, 0.5),
        quantile(seconds, 0.95),
        sum(job["joules"] for job in jobs) / count + radio,
        sum(job["joules_held"] for job in jobs) / count + radio,
        record["nbytes"] / count,
        len(record["switches"]),
        fmean(errors) if errors else None,
        sum(job.get("attempts", 1) > 1 for job in jobs),
    )


@dataclass(frozen=True)
class Result:
    """One run with what it came to."""

    run: Run
    schedule: str
    figures: Figures
    simulated: Mapping[str, float] | None
    """Mean seconds and joules of the simulator on the same scenario; None where it was not asked."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Result:
        """From JSON."""
        return Result(Run(**plain["run"]), plain["schedule"], Figures(**plain["figures"]), plain["simulated"])


class Results:
    """All of them, by network, scenario, objective and policy."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.all = list(results)
        self._by_run = {result.run: result for result in self.all}

    def cost(self, network: str, scenario: str, objective: str, policy: str) -> float | None:
        """What the claims compare; None for a run that was not made."""
        result = self._by_run.get(Run(network, scenario, objective, policy))
        return None if result is None else result.figures.cost(objective)

    def find(self, network: str, scenario: str, objective: str, policy: str) -> Result | None:
        """One result."""
        return self._by_run.get(Run(network, scenario, objective, policy))

    def of_experiments(self) -> list[Figures]:
        """The figures of each experiment: runs that share one are in them once."""
        return [result.figures for result in {result.schedule: result for result in self.all}.values()]

    @property
    def networks(self) -> list[str]:
        """In the order of measuring."""
        return list(dict.fromkeys(result.run.network for result in self.all))

    @property
    def scenarios(self) -> list[str]:
        """In the order of measuring."""
        return list(dict.fromkeys(result.run.scenario for result in self.all))

    @property
    def objectives(self) -> list[str]:
        """In the order of measuring."""
        return list(dict.fromkeys(result.run.objective for result in self.all))

    def ratios(
        self, objective: str, policy: str, to: str, scenarios: Iterable[str]
    ) -> dict[str, list[float]]:
        """Per network the cost of ``policy`` as a share of that of ``to``, scenario by scenario."""
        found: dict[str, list[float]] = {}
        for network in self.networks:
            for scenario in scenarios:
                ours = self.cost(network, scenario, objective, policy)
                theirs = self.cost(network, scenario, objective, to)
                if ours is not None and theirs:
                    found.setdefault(network, []).append(ours / theirs)
        return found

    def claims(self) -> list[Claim]:
        """The claims of the experiment."""
        changing = [scenario for scenario in self.scenarios if scenario != CALM]
        claims: list[Claim] = []
        for objective, best, mean in (("latency", 0.77, 0.85), ("energy", 0.64, 0.73)):
            if objective in self.objectives and changing:
                claims += self._gains(objective, changing, best, mean)
        to_oracle = {
            Run(network, scenario, objective, ADAPTIVE).name: ratio
            for objective in self.objectives
            for scenario in changing
            for network, (ratio,) in self.ratios(objective, ADAPTIVE, "oracle", [scenario]).items()
        }
        if to_oracle:
            text = "adaptive against the oracle of each phase, worst of all changing scenarios"
            claims.append(_worst(text, to_oracle, 1.08, "x"))
            text = "adaptive against the oracle of each phase, mean of all changing scenarios"
            claims.append(Claim(text, round(fmean(to_oracle.values()), 4), 1.08))
        claims += self._calm()
        errors = [
            result.figures.hop_error
            for result in self.all
            if result.run.policy == ADAPTIVE and result.figures.hop_error is not None
        ]
        if errors:
            claims.append(
                Claim("prediction error per hop, adaptive runs (MAPE)", round(fmean(errors), 4), 0.1, "")
            )
        lost = sum(figures.lost for figures in self.of_experiments())
        claims.append(Claim("jobs lost, all runs", lost, 0, ""))
        return claims + self._simulated()

    def _gains(self, objective: str, changing: Sequence[str], best: float, mean: float) -> list[Claim]:
        """Against the plan that stays, for the best of the networks and for their mean."""

        def of(policy: str) -> list[float]:
            return [fmean(each) for each in self.ratios(objective, policy, "static", changing).values()]

        adaptive, oracle = of(ADAPTIVE), of("oracle")
        if not adaptive or not oracle:
            return []
        claims = []
        what = "latency" if objective == "latency" else "modelled energy"
        for name, limit, pick in (("best network", best, min), ("mean of the networks", mean, fmean)):
            text = f"{what}, adaptive against static, changing scenarios, {name}"
            value, reach = pick(adaptive), pick(oracle)
            if reach > limit:
                note = f"not reachable: the oracle takes {reach:.3f}, adaptive {value:.3f}"
                claims.append(Claim(text, None, limit, note=note))
            else:
                claims.append(Claim(text, round(value, 4), limit, note=f"the oracle takes {reach:.3f}"))
        return claims

    def _calm(self) -> list[Claim]:
        claims = []
        for objective, what in (("latency", "median latency"), ("energy", "modelled energy")):
            ratios = []
            for network in self.networks:
                ours = self.find(network, CALM, objective, ADAPTIVE)
                theirs = self.find(network, CALM, objective, "static")
                if ours is not None and theirs is not None:
                    pair = (
                        (ours.figures.p50, theirs.figures.p50)
                        if objective == "latency"
                        else (ours.figures.joules, theirs.figures.joules)
                    )
                    ratios.append(pair[0] / pair[1])
            if ratios:
                text = f"calm: {what}, adaptive against static, worst network"
                claims.append(Claim(text, round(max(ratios), 4), 1.01))
        return claims

    def _simulated(self) -> list[Claim]:
        claims = []
        for key, text in (("mean", "mean latency"), ("joules", "modelled joules")):
            off = {
                result.run.name: abs(result.simulated[key] / getattr(result.figures, key) - 1.0)
                for result in self.all
                if result.simulated is not None
            }
            if off:
                name = f"simulator against testbed, same scenario and policy: {text} off by, median"
                claims.append(Claim(name, round(median(off.values()), 4), 0.1, ""))
                claims.append(_worst(name.replace("median", "worst"), off, 0.1, ""))
        return claims


def _worst(text: str, values: Mapping[str, float], limit: float, unit: str) -> Claim:
    """The largest of ``values``, with the name of its run: where to look if the claim does not hold."""
    name = max(values, key=values.__getitem__)
    return Claim(text, round(values[name], 4), limit, unit, note=name)
