"""``tools/simulate-faults``: play seeded schedules of faults and show the smallest one that breaks a rule."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from edgemesh.simulation.faults.minimise import minimal
from edgemesh.simulation.faults.run import Outcome, played
from edgemesh.simulation.faults.schedules import schedule_of
from edgemesh.simulation.faults.search import Found, search
from edgemesh.simulation.faults.trace import Trace, told

_SCHEDULES, _QUICK_SCHEDULES = 1000, 100
_LAST_LINES = 40
_SHOWN = 3
"""Failing seeds that are made smaller and shown; the rest is named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: every rule held; 1: one did not; 2: wrong usage; 130: interrupted."""
    asked = _parser().parse_args(arguments)
    if asked.trace:
        return _replayed(asked.seed)
    schedules = asked.schedules or (_QUICK_SCHEDULES if asked.quick else _SCHEDULES)
    began = time.monotonic()
    founds: list[Found] = []
    try:
        for found in search(asked.seed, schedules, asked.jobs, asked.resume):
            founds.append(found)
            _tell_progress(founds, schedules, time.monotonic() - began)
    except KeyboardInterrupt:
        done = sum(found.count for found in founds)
        go_on = f"go on with --resume {asked.resume}" if asked.resume else "--resume FILE keeps what is done"
        print(f"\ninterrupted after {done} schedules; {go_on}", file=sys.stderr)
        return 130
    if sys.stderr.isatty():
        print(file=sys.stderr)
    failing = sorted(entry for found in founds for entry in found.broken)
    seconds = time.monotonic() - began
    print(_summary(founds, len(failing), schedules, seconds))
    for seed, text in failing[:_SHOWN]:
        print(f"\nseed {seed}: {text}")
        _show_smallest(played(schedule_of(seed)))
    for seed, text in failing[_SHOWN:]:
        print(f"seed {seed}: {text}")
    if asked.json:
        print(json.dumps(_report(founds, failing, schedules, seconds, arguments)))
    return 1 if failing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/simulate-faults",
        description="Plays seeded schedules of faults on a simulated mesh and checks what must always hold.",
    )
    parser.add_argument("--schedules", type=_positive, help=f"how many (default {_SCHEDULES})")
    parser.add_argument("--seed", type=int, default=0, help="the first one (default 0)")
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, metavar="CORES", help="at once (default: all)"
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keeps what is done; goes on from it")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_SCHEDULES} schedules")
    parser.add_argument("--trace", action="store_true", help="replay the schedule of --seed and print it")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _tell_progress(founds: Sequence[Found], schedules: int, seconds: float) -> None:
    if founds[-1].kept:
        return  # nothing was played yet that would tell how fast it goes
    done = sum(found.count for found in founds)
    failing = sum(len(found.broken) for found in founds)
    rate = (done - _kept(founds)) / max(seconds, 1e-9)
    left = timedelta(seconds=round((schedules - done) / rate))
    text = f"{done} of {schedules} schedules, {rate:.1f} per second, {left} left, {failing} failing"
    end = "\r" if sys.stderr.isatty() else "\n"
    if end == "\r" or done == schedules or len(founds) % 25 == 0:
        print(text, end=end, file=sys.stderr, flush=True)


def _kept(founds: Iterable[Found]) -> int:
    return sum(found.count for found in founds if found.kept)


def _summary(founds: Sequence[Found], failing: int, schedules: int, seconds: float) -> str:
    ended = _total(found.ended for found in founds)
    jobs = ", ".join(f"{count} {code}" for code, count in ended.most_common())
    again = sum(found.told_again for found in founds)
    reached = sorted(_total(found.reached for found in founds).items())
    kept = f", {_kept(founds)} of them kept from before," if _kept(founds) else ""
    return (
        f"{schedules} schedules{kept} in {seconds:.0f} s: {failing} break a rule\n"
        f"{sum(ended.values())} jobs: {jobs}\n"
        f"{again} results came to plain apps again, under the same job id (roles/answered.py)\n"
        f"reached: {', '.join(f'{count} times {what}' for what, count in reached)}"
    )


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def _show_smallest(outcome: Outcome) -> None:
    smallest = minimal(outcome, _tell_minimising)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    broken = smallest.broken
    if broken is None:
        print("it does not fail when it is played again: that is a bug of the simulator")
        return
    trace = Trace()
    played(smallest.schedule, trace.watch)
    print(f"{len(smallest.schedule.deeds)} of {len(outcome.schedule.deeds)} deeds are enough:")
    for deed in smallest.schedule.deeds:
        print(f"{deed.at:9.4f}  {told(deed)}")
    print(f"{broken.at:9.4f}  {broken}")
    print(f"the last events{' of ' + broken.about if broken.about else ''}:")
    for line in trace.about(broken.about, _LAST_LINES):
        print(f"  {line}")
    seed = outcome.schedule.seed
    print(f"the whole of it:  tools/simulate-faults --schedules 1 --seed {seed} --trace")


def _tell_minimising(runs: int, deeds: int) -> None:
    if sys.stderr.isatty():
        print(f"made smaller: {deeds} deeds after {runs} runs ", end="\r", file=sys.stderr, flush=True)


def _replayed(seed: int) -> int:
    trace = Trace()
    outcome = played(schedule_of(seed), trace.watch)
    for line in trace.lines:
        print(line)
    print(outcome.broken or "every rule held")
    return 1 if outcome.broken is not None else 0


def _report(
    founds: Sequence[Found],
    failing: Sequence[tuple[int, str]],
    schedules: int,
    seconds: float,
    arguments: Sequence[str] | None,
) -> dict[str, object]:
    claim = {"claim": "schedules that break a rule", "value": len(failing), "limit": 0, "holds": not failing}
    return {
        "claims": [claim],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "command": shlex.join(["tools/simulate-faults", *(sys.argv[1:] if arguments is None else arguments)]),
        "schedules": schedules,
        "kept from before": _kept(founds),
        "seconds": round(seconds, 1),
        "steps": sum(found.steps for found in founds),
        "jobs": dict(_total(found.ended for found in founds)),
        "reached": dict(_total(found.reached for found in founds)),
        "told again under the same job id": sum(found.told_again for found in founds),
        "failing": [list(entry) for entry in failing],
    }
