"""The command line of ``tools/testbed``."""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.report import NotMeasurableError, machine

from edgemesh.errors import EdgemeshError, SettingsError
from edgemesh.node.model_import import ImportOptions, import_model
from edgemesh.simulation.compare import quantile
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.scenario_file import load_scenario, scenario_names
from testbeds.bed import Bed, DeviceSpec
from testbeds.checking import TOLERANCE, check_table, link_table
from testbeds.leftovers import prefix
from testbeds.network import why_not
from testbeds.player import Played, Player

_PROFILE_SECONDS = 900.0
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


def main() -> int:
    """Exit status: 0 done, 1 it failed or a board or link is not emulated within 10 %, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="tools/testbed",
        description="Play a scenario on real processes and a real broker; boards and links are emulated.",
        epilog=f"SCENARIO is a file, or one of {', '.join(scenario_names())}.",
    )
    parser.add_argument("scenario", metavar="SCENARIO")
    parser.add_argument("--model", help="one of the scenario's models (default: its first)")
    parser.add_argument("--seconds", type=float, help="end earlier than the scenario says")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="keep models, profiles and logs there")
    parser.add_argument(
        "--check", action="store_true", help="only check that boards and links take the right times"
    )
    parser.add_argument(
        "--loopback", action="store_true", help="no namespaces: all on 127.0.0.1, needs no root"
    )
    parser.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    options = parser.parse_args()
    try:
        return _run(options)
    except SettingsError as error:
        print(f"tools/testbed: {error}", file=sys.stderr)
        return _USAGE
    except (NotMeasurableError, EdgemeshError, OSError) as error:
        print(f"tools/testbed: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("tools/testbed: stopped", file=sys.stderr)
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    scenario = load_scenario(options.scenario)
    model = options.model or scenario.models[0]
    if model not in scenario.models:
        raise SettingsError(
            f"scenario {scenario.name} has no model {model}: use {', '.join(scenario.models)}"
        )
    if options.seconds is not None and not 1.0 <= options.seconds < math.inf:
        raise SettingsError(f"--seconds {options.seconds:g} is too short: give at least 1")
    if not options.loopback and (reason := why_not()) is not None:
        raise NotMeasurableError(reason)
    with ExitStack() as stack:
        folder = options.keep
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix())))
        devices = [
            DeviceSpec(device.name, device.board, device.rate_up, device.rate_down, device.delay)
            for device in scenario.devices
        ]
        _log(f"{scenario.name}: {scenario.description}")
        bed = stack.enter_context(Bed(devices, folder=folder, loopback=options.loopback, log=_log))
        return _on(bed, scenario, model, options)


def _on(bed: Bed, scenario: Scenario, model: str, options: argparse.Namespace) -> int:
    for name in scenario.models_of(model):
        _log(f"importing zoo:{name}")
        path, manifest = import_model(f"zoo:{name}", name, bed.folder / "imports", ImportOptions())
        bed.add_model(manifest, path)
    _log(f"measuring; time scale {bed.time_scale:.2f}")
    bed.wait_profiled(_PROFILE_SECONDS)
    checks, links = bed.check(), bed.check_links()
    print(f"{check_table(checks)}\n\n{link_table(links)}\n", flush=True)
    good = all(check.holds for check in (*checks, *links))
    if not good:
        _log(f"a board or link is more than {TOLERANCE:.0%} off: this machine is busy, or too slow for it")
    plain: dict[str, Any] = {
        "scenario": scenario.name,
        "model": model,
        "emulated": True,
        "time_scale": bed.time_scale,
        "checks": [{**asdict(check), "ratio": check.ratio, "holds": check.holds} for check in checks],
        "links": [{**asdict(check), "holds": check.holds} for check in links],
    }
    if not options.check:
        player = Player(bed, scenario, model, _log)
        player.publish_policy()
        bed.decision(True)
        duration = min(scenario.duration, options.seconds or math.inf)
        before, began = bed.link_bytes(), time.monotonic()
        played = player.play(duration)
        plain |= _summary(bed, played, before, time.monotonic() - began)
    if options.json:
        command = " ".join(["tools/testbed", *sys.argv[1:]])
        print(json.dumps({**plain, "machine": machine(), "command": command}))
    return 0 if good else _FAILED


def _summary(bed: Bed, played: Played, before: dict[str, tuple[int, int]], seconds: float) -> dict[str, Any]:
    told: dict[str, Any] = {"seconds": seconds, "switches": played.switches, "streams": {}, "devices": {}}
    print("\nall boards are emulated")
    for stream, jobs in played.jobs.items():
        figures = _figures(jobs)
        told["streams"][stream] = figures
        print(f"stream {stream}: " + ", ".join(f"{name} {_text(value)}" for name, value in figures.items()))
    after, busy = bed.link_bytes(), bed.busy_seconds()
    for device in bed.devices:
        sent, received = (a - b for a, b in zip(after[device], before[device]))
        told["devices"][device] = {"sent": sent, "received": received, "busy_seconds": busy[device]}
        print(f"device {device}: sent {sent:,} B, received {received:,} B, busy {busy[device]:.1f} s in all")
    print(f"{len(played.switches)} changes of plan")
    return told


def _figures(jobs: list[dict[str, Any]]) -> dict[str, float | int | None]:
    seconds = sorted(job["seconds"] for job in jobs if "code" not in job)
    return {
        "jobs": len(jobs),
        "failed": len(jobs) - len(seconds),
        "mean": fmean(seconds) if seconds else None,
        "p50": quantile(seconds, 0.5) if seconds else None,
        "p95": quantile(seconds, 0.95) if seconds else None,
    }


def _text(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value * 1e3:.1f} ms"


def _log(text: str) -> None:
    print(text, flush=True)
