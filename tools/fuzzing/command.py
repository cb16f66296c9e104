"""The command line of ``tools/fuzz``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import Report, machine

from fuzzing.run import Fuzzed, fuzzed
from fuzzing.targets import targets

_RUNS, _QUICK_RUNS = 1_000_000, 26_000
_FEW = 100
"""Fewer inputs than this for each target say nothing."""


def main() -> int:
    """Exit status: 0 nothing found, 1 something found or atheris is missing, 2 wrong usage."""
    every = targets()
    parser = argparse.ArgumentParser(
        prog="tools/fuzz",
        description="Feed coverage-guided random bytes to every reader of bytes that come from outside.",
        epilog="targets: " + ", ".join(every),
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--runs", type=int, help=f"inputs in all, shared by the targets (default {_RUNS:,})")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the fuzzer's own chance (default %(default)s)"
    )
    parser.add_argument(
        "--found",
        type=Path,
        default=Path("fuzz-found"),
        help="folder for inputs that fail (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_RUNS:,} inputs in all")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in every]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(every)}")
    names = options.targets or list(every)
    runs = options.runs or (_QUICK_RUNS if options.quick else _RUNS)
    if runs < _FEW * len(names):
        parser.error(
            f"{runs} inputs for {len(names)} targets are too few: --runs {_FEW * len(names)} or more"
        )
    if find_spec("atheris") is None:
        print("tools/fuzz: atheris is not installed: pip install atheris (Linux, x86-64)", file=sys.stderr)
        return 1
    report = Report(command=" ".join(["tools/fuzz", *sys.argv[1:]]), quick=options.quick)
    print(f"{'target':28} {'inputs':>9} {'covered':>8} {'peak MB':>8}", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            result = fuzzed(every[name], runs // len(names), options.seed, Path(folder), options.found)
            results.append(result)
            _show(result)
    _claim(report, results)
    print(report.table())
    if options.json:
        print(json.dumps(report.plain(machine())))
    return 0 if report.holds else 1


def _show(result: Fuzzed) -> None:
    peak = "-" if result.peak_megabytes is None else str(result.peak_megabytes)
    print(f"{result.target:28} {result.runs:9,} {result.covered:8} {peak:>8}", flush=True)
    if result.finding is not None:
        print(f"  FOUND: {result.finding}", flush=True)
        print(f"  input: {result.input or 'none was kept'}", flush=True)


def _claim(report: Report, results: list[Fuzzed]) -> None:
    report.figures["inputs"] = sum(result.runs for result in results)
    found = [result for result in results if result.finding is not None]
    report.claim("readers that crash, take over 1 s or too much memory", len(found), 0, unit="")
    report.failures += [f"{result.target}: {result.finding}" for result in found]


if __name__ == "__main__":
    sys.exit(main())
