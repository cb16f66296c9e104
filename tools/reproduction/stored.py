"""Results on disk: one JSON file, from which tables, pictures and the report are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import NotMeasurableError, machine
from testbeds.checking import Check

from reproduction.results import Result, Results

if TYPE_CHECKING:
    from reproduction.experiment import Experiment

FILE = "results.json"


@dataclass(frozen=True)
class Stored:
    """What an experiment left."""

    results: Results
    checks: tuple[Check, ...]
    scales: Mapping[str, float]
    """Per network: how much slower than in truth all was."""
    command: str
    machine: str
    seed: int
    share: float
    began: str
    minutes: float
    folder: Path

    def record(self, result: Result) -> dict[str, Any]:
        """Every job of a run."""
        file = self.folder / "runs" / f"{result.run.network}-{result.schedule}.json"
        record: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return record


def write_results(out: Path, experiment: Experiment) -> None:
    """Write what is there so far, all of it or nothing."""
    plain = {
        "results": [result.plain() for result in experiment.results],
        "checks": [asdict(check) for check in experiment.checks],
        "scales": experiment.scales,
        "command": experiment.plan.command,
        "machine": machine(),
        "seed": experiment.plan.seed,
        "share": experiment.plan.share,
        "began": experiment.began,
        "minutes": round(experiment.minutes, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    file = out / FILE
    file.with_suffix(".new").write_text(json.dumps(plain, indent=1), "utf-8")
    file.with_suffix(".new").replace(file)


def read_results(folder: Path) -> Stored:
    """What ``tools/reproduce --out FOLDER`` left; raises NotMeasurableError."""
    try:
        plain = json.loads((folder / FILE).read_text("utf-8"))
        return Stored(
            Results(Result.of(each) for each in plain["results"]),
            tuple(Check(**each) for each in plain["checks"]),
            plain["scales"],
            plain["command"],
            plain["machine"],
            plain["seed"],
            plain["share"],
            plain["began"],
            plain["minutes"],
            folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotMeasurableError(
            f"{folder / FILE} cannot be read ({error}): make it with  tools/reproduce --out {folder}"
        ) from None
