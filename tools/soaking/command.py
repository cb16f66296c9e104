"""The command line of ``tools/soak``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from benchmarks.report import NotMeasurableError, Report
from outages.guard import Guard

from edgemesh.errors import EdgemeshError
from soaking import leaks, overload

_JOBS, _QUICK_JOBS = 100_000, 3_000


def main() -> int:
    """Exit status: 0 every claim holds, 1 one does not or cannot be measured, 2 wrong usage."""
    options = _parser().parse_args()
    # SIGTERM as Ctrl-C, so that everything is left in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("edgemesh").setLevel(logging.ERROR)
    report = Report(command=" ".join(["tools/soak", *sys.argv[1:]]), quick=options.quick)
    try:
        with Guard("edgemesh-soak-") as guard:
            if options.what == "overload":
                overload.measure(report, guard)
            else:
                leaks.measure(report, guard, options.jobs or (_QUICK_JOBS if options.quick else _JOBS))
    except (NotMeasurableError, EdgemeshError) as error:
        report.failures.append(str(error))
        print(f"tools/soak: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("tools/soak: stopped", file=sys.stderr)
        return 130
    return report.concluded(as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/soak", description="Put a mesh of real processes under load that lasts."
    )
    whats = parser.add_subparsers(dest="what", required=True)
    heavy = whats.add_parser("overload", help="three times what the mesh can do, for a minute")
    long = whats.add_parser("leaks", help="100,000 jobs: does anything grow?")
    long.add_argument("--jobs", type=_positive, help=f"in place of {_JOBS}")
    for what in (heavy, long):
        what.add_argument("--quick", action="store_true", help="the same claims on less work, under 50 s")
        what.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 100:
        raise argparse.ArgumentTypeError("at least 100 jobs, or nothing can be said of growth")
    return number
