"""The command line of ``tools/reproduce``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.report import NotMeasurableError, Report, machine

from edgemesh.errors import EdgemeshError
from reproduction.experiment import Experiment, Plan, seconds_needed
from reproduction.stored import Stored, read_results
from reproduction.study import NETWORKS, OBJECTIVES, SCENARIOS, Run, all_runs
from reproduction.tables import table_of

_OUT = Path("reproduction")
_QUICK_SHARE = 0.3
_QUICK = [
    Run("mobilenetv2", "link", "latency", "adaptive"),
    Run("mobilenetv2", "link", "latency", "static"),
    Run("mobilenetv2", "link", "latency", "oracle"),
]
_EVALUATION = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


def main() -> int:
    """Exit status: 0 every claim holds, 1 one does not or it could not be measured, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="tools/reproduce",
        description="Networks x scenarios x policies on emulated boards and shaped links.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=_OUT,
        help="folder for results (default %(default)s); a second start goes on in it",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="the same seed, the same jobs at the same times (default %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="one network, short: does it work here?")
    parser.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    parser.add_argument("--report", type=Path, metavar="DIR", help="only write docs/evaluation.md from DIR")
    parser.add_argument(
        "--peers", type=Path, metavar="FILE", help="with --report: output of tools/bench peers --json"
    )
    options = parser.parse_args()
    try:
        if options.report is not None:
            return _report(options.report, options.peers)
        return _experiment(options)
    except (NotMeasurableError, EdgemeshError) as error:
        print(f"tools/reproduce: {error}", file=sys.stderr)
        return 1


def _experiment(options: argparse.Namespace) -> int:
    command = " ".join(["tools/reproduce", *sys.argv[1:]])
    if options.quick:
        runs, share, out = _QUICK, _QUICK_SHARE, options.out / "quick"
    else:
        runs = all_runs(options.networks, options.scenarios, options.objectives)
        share, out = 1.0, options.out
    plan = Plan(runs, out.resolve(), options.seed, share, not options.quick, command)
    print(
        f"{len(runs)} runs, at most {seconds_needed(plan) / 60:.0f} minutes and the start of each network; "
        f"runs that would be the same are made once; results in {out}",
        file=sys.stderr,
    )
    Experiment(plan).carry_out()
    stored = read_results(plan.out)
    print(table_of(stored))
    report = _claims(stored, options.quick)
    print(report.table())
    if not options.quick:
        from reproduction.pictures import draw

        for picture in draw(stored, plan.out):
            print(f"drew {picture}", file=sys.stderr)
    if options.json:
        print(json.dumps(report.plain(machine())))
    return 0 if report.holds else 1


def _claims(stored: Stored, quick: bool) -> Report:
    report = Report(stored.command, quick)
    report.claims += stored.results.claims()
    report.figures = {
        f"{result.run.name}, {name}": value
        for result in stored.results.all
        for name, value in (("ms", result.figures.mean * 1e3), ("modelled J", result.figures.joules))
    }
    return report


def _report(folder: Path, peers: Path | None) -> int:
    from reproduction.evaluation import evaluation
    from reproduction.pictures import draw

    stored = read_results(folder)
    _EVALUATION.write_text(evaluation(stored, peers), "utf-8")
    for picture in draw(stored, folder):
        shutil.copyfile(picture, _EVALUATION.with_name(f"evaluation-{picture.name}"))
    print(f"wrote {_EVALUATION} and its pictures")
    return 0
