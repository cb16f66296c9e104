"""Results on disk: one JSON file, from which tables, pictures and the report are made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import NotMeasurableError, machine
from testbeds.checking import Check

from reproduction.made_of import differences
from reproduction.results import Result, Results
from reproduction.study import Planned, Run

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
        return _record(record_file(self.folder, result.run.network, result.schedule))


def record_file(out: Path, network: str, schedule: str) -> Path:
    """Where every job of an experiment is kept."""
    return out / "runs" / f"{network}-{schedule}.json"


def earlier_schedules(out: Path) -> dict[Run, str]:
    """What each run of an earlier start in ``out`` was; read it before this one writes its own results."""
    try:
        return {result.run: result.schedule for result in read_results(out).results.all}
    except NotMeasurableError:
        return {}


def played_again(out: Path, before: Mapping[Run, str], plans: Iterable[Planned]) -> dict[str, list[str]]:
    """By schedule, the experiments that ``before`` has made of something else, and what differs."""
    found = {}
    for plan in plans:
        network = plan.run.network
        if plan.run not in before or record_file(out, network, plan.schedule).exists():
            continue
        file = record_file(out, network, before[plan.run])
        if file.exists():
            found[plan.schedule] = differences(_record(file), plan.made_of)
    return found


def again_text(again: Mapping[str, Sequence[str]]) -> str:
    """How many runs are played again, and why."""
    reasons = Counter("; ".join(reasons) for reasons in again.values())
    told = ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
    return f"{len(again)} runs of an earlier start do not fit and are made again: {told}"


def _record(file: Path) -> dict[str, Any]:
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
