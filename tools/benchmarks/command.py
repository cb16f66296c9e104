"""The command line of ``tools/bench``."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module

from benchmarks.report import NotMeasurableError, Report
from edgemesh.errors import EdgemeshError

BENCHMARKS = {
    "decide": "the decision node in simulated meshes that change, against fixed plans and an oracle",
    "decode": "activation encode and decode against one memcpy",
    "footprint": "an idle device with a model loaded, and the start of the command line",
    "hop": "one hop through Mosquitto against a minimal paho program",
    "peers": "two halves over edgemesh against torch gloo, RPC, pipelining, raw TCP, paho, one process",
    "plan": "the planner at 200 units, against networkx on the same graph, and its growth",
    "split": "a job over two workers against compute with raw TCP and with a minimal paho program",
}


def main() -> int:
    """Exit status: 0 every claim holds, 1 one does not or cannot be measured, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure edgemesh against baselines taken in the same run.",
        epilog="\n".join(f"  {name:10} {text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=[*BENCHMARKS, "all"], default="all")
    parser.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    parser.add_argument("--quick", action="store_true", help="the same claims on less work, under 50 s each")
    options = parser.parse_args()
    # SIGTERM as Ctrl-C, so that everything is left in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = list(BENCHMARKS) if options.name == "all" else [options.name]
    report = Report(command=" ".join(["tools/bench", *sys.argv[1:]]), quick=options.quick)
    for name in names:
        print(f"{name}: {BENCHMARKS[name]}", flush=True)
        try:
            import_module(f"benchmarks.{name}").measure(report)
        except (NotMeasurableError, EdgemeshError) as error:
            report.failures.append(f"{name}: {error}")
            print(f"tools/bench {name}: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("tools/bench: stopped", file=sys.stderr)
            return 130
    return report.concluded(as_json=options.json)
