"""Experiment: all runs of a study, network after network, each kept in a file as soon as it is done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.models import BenchModel, opened, zoo_model
from benchmarks.report import NotMeasurableError
from testbeds.bed import Bed, Check, DeviceSpec

from edgemesh.simulation.compare import summary
from edgemesh.simulation.plans import Case
from edgemesh.simulation.play import play
from reproduction.perform import Performer, arrivals
from reproduction.results import Result, figures
from reproduction.stored import again_text, earlier_schedules, played_again, record_file, write_results
from reproduction.study import ADAPTIVE, Planned, Run, length_of, planned, scenario_of
from reproduction.truth import case, measured_table

_PROFILE_SECONDS = 300.0
_AROUND_SECONDS = 7.0
"""What a run takes besides its own length, to begin with: getting ready and the warm-up."""
_SIMULATED = (ADAPTIVE, "static", "oracle")


@dataclass(frozen=True)
class Plan:
    """What to do."""

    runs: Sequence[Run]
    out: Path
    seed: int
    share: float
    """Of the scenarios' length."""
    simulate: bool
    command: str


class Experiment:
    """Carries a plan out, or goes on where an earlier one stopped."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results: list[Result] = []
        self.checks: list[Check] = []
        self.scales: dict[str, float] = {}
        self._spent: list[float] = []
        self._left = len(plan.runs)
        self._records: dict[str, dict[str, Any]] = {}
        self._before = earlier_schedules(plan.out)

    @property
    def began(self) -> str:
        """When the first run began, of this start or an earlier one."""
        return min(record["when"] for record in self._records.values())

    @property
    def minutes(self) -> float:
        """What all runs took, those of earlier starts included."""
        return sum(record["took"] for record in self._records.values()) / 60.0

    def carry_out(self) -> None:
        """Every run; raises NotMeasurableError."""
        for network in dict.fromkeys(run.network for run in self.plan.runs):
            self._network(network, [run for run in self.plan.runs if run.network == network])

    def _network(self, network: str, runs: Sequence[Run]) -> None:
        folder = self.plan.out / "bed"
        model = self._model(network)
        scenario = scenario_of(runs[0])
        specs = [DeviceSpec(device.name, device.board) for device in scenario.devices]
        _say(f"{network}: starting broker, {', '.join(spec.board for spec in specs)} (emulated)")
        # A bed of its own for each network: its time scale would slow the others down, too.
        with Bed(specs, folder=folder, log=_say) as bed:
            bed.add_model(model.manifest, model.path)
            bed.wait_profiled(_PROFILE_SECONDS)
            self.scales[network] = bed.time_scale
            self.checks += bed.check()
            profiles = [bed.observer.profiles[spec.name, network] for spec in specs]
            table = measured_table(model.manifest, profiles)
            performer = Performer(bed, model.manifest)
            cases = [
                case(scenario_of(run, share=self.plan.share * length_of(run)), table, bed.time_scale)
                for run in runs
            ]
            plans = [
                planned(run, its_case, self.plan.seed, bed.time_scale)
                for run, its_case in zip(runs, cases, strict=True)
            ]
            again = played_again(self.plan.out, self._before, plans)
            if again:
                _say(f"{network}: {again_text(again)}")
            for plan, its_case in zip(plans, cases, strict=True):
                if plan.schedule not in self._records:
                    self._records[plan.schedule] = self._record(plan, its_case, performer, bed.time_scale)
                self._left -= 1
                simulated = self._simulated(plan, its_case, bed.time_scale) if self.plan.simulate else None
                found = figures(self._records[plan.schedule], bed.time_scale)
                self.results.append(Result(plan.run, plan.schedule, found, simulated))
                # Written after each run: what is there survives whatever happens next.
                self._write()

    def _record(self, plan: Planned, its_case: Case, performer: Performer, slower: float) -> dict[str, Any]:
        file = record_file(self.plan.out, plan.run.network, plan.schedule)
        if file.exists():
            record: dict[str, Any] = json.loads(file.read_text("utf-8"))
            _say(f"{plan.run.name}: kept from an earlier start")
            return record
        began, when = time.monotonic(), time.strftime("%Y-%m-%d %H:%M")
        record = performer.perform(plan, its_case, self.plan.seed).plain()
        self._spent.append(time.monotonic() - began)
        record |= {"when": when, "took": self._spent[-1], "made_of": plan.made_of}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".new").write_text(json.dumps(record), "utf-8")
        file.with_suffix(".new").replace(file)
        found = figures(record, slower)
        left = sum(self._spent) / len(self._spent) * (self._left - 1)
        lost = f", {found.lost} LOST" if found.lost else ""
        _say(
            f"{plan.run.name}: {found.jobs} jobs, {found.mean * 1e3:.1f} ms, {found.joules:.3f} J, "
            f"{found.switches} switches{lost}; at most {left / 60:.0f} min left"
        )
        return record

    def _simulated(self, plan: Planned, its_case: Case, slower: float) -> dict[str, float] | None:
        """The same scenario in the simulator, on the same measured shares of the units."""
        if plan.run.policy not in _SIMULATED:
            return None
        when = arrivals(its_case, self.plan.seed)
        outcome = play(its_case, plan.run.policy, plan.phases, when, oracle_loads=True)
        told = summary(its_case.scenario, plan.run.network, outcome)
        # As the testbed counts them: loading and speed checks are in neither.
        joules = outcome.joules_of_jobs / max(told.jobs, 1)
        return {"mean": told.mean / slower, "joules": joules / slower}

    def _model(self, network: str) -> BenchModel:
        """The network of the zoo, captured once."""
        folder = self.plan.out / "models" / network
        if (folder / "manifest.json").exists():
            return opened(folder)
        if folder.exists():
            raise NotMeasurableError(f"{folder} is there, but unfinished: remove it and start again")
        _say(f"{network}: capturing it from the zoo")
        return zoo_model(folder, network)

    def _write(self) -> None:
        write_results(self.plan.out, self)


def seconds_needed(plan: Plan) -> float:
    """At most, without the start of each network: runs with the same schedule are made once."""
    lengths = (plan.share * length_of(run) for run in plan.runs)
    return sum(
        scenario_of(run, share=length).duration + _AROUND_SECONDS
        for run, length in zip(plan.runs, lengths, strict=True)
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
