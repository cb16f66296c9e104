"""The command line of ``tools/chaos``."""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import time

from benchmarks.models import BenchModel, zoo_model
from benchmarks.report import NotMeasurableError, Report

from edgemesh.errors import EdgemeshError
from edgemesh.runtime.payloads import input_tensors
from outages import custody
from outages.answers import questions
from outages.findings import APP, LANE, Findings, report_on, told
from outages.guard import Guard
from outages.mesh import NAME, ORIGIN, Mesh
from outages.records import Records
from outages.schedule import Schedule, endless_kinds, quick_kinds
from outages.streams import DEADLINE, ClientStream, PlainApp

_MODEL = "face-short"
_MODEL_OF_CUSTODY = "face"
"""The one of the demo."""
_QUESTIONS = 60
_SECONDS, _QUICK_SECONDS = 600.0, 34.0
"""From the first job on. A quick run begins its last fault then at the latest."""
_DRAIN_SECONDS = 5.0
_CALM, _QUICK_CALM = (0.3, 3.0), (0.1, 0.4)
"""Seconds between two faults, least and most."""
_WARM_SECONDS = 1.5


def main() -> int:
    """Exit status: 0 every claim holds, 1 one does not or cannot be measured, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="tools/chaos",
        description="Kill, pause and cut off processes of a mesh; compare every answer with the right one.",
    )
    parser.add_argument("--quick", action="store_true", help="45 seconds in place of 10 minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule of faults (default: 1)")
    parser.add_argument("--json", action="store_true", help="last line of output is one JSON object")
    parser.add_argument("--seconds", type=float, help="how long faults are begun, in place of 10 minutes")
    options = parser.parse_args()
    # SIGTERM as Ctrl-C, so that everything is left in order.
    # The client library would tell of each broker that is taken from it.
    logging.getLogger("edgemesh").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report(command=" ".join(["tools/chaos", *sys.argv[1:]]), quick=options.quick)
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    try:
        with Guard("edgemesh-outages-") as guard:
            run(report, guard, options.seed, seconds)
    except (NotMeasurableError, EdgemeshError) as error:
        report.failures.append(str(error))
        print(f"tools/chaos: {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("tools/chaos: stopped", file=sys.stderr)
        return 130
    if seconds >= _SECONDS:
        # A shorter run may well meet none of some kind; a full one that does has not shown what it is for.
        unmet = [claim for claim in report.claims if claim.value is None]
        report.failures += [f"not measured: {claim.claim} ({claim.note})" for claim in unmet]
    return report.concluded(as_json=options.json)


def _measure_custody(report: Report, mesh: Mesh, model: BenchModel, picture: bytes) -> None:
    """On a device that is not emulated, in a mesh of its own on the same broker, before anything breaks.

    The mesh's own model is so small that it shows what custody costs a job, but not what share that is.
    """
    device = custody.DEVICE
    arguments = ["device", "run", "--id", device, "--threads", "1"]
    for each in (mesh.model, model):
        mesh.give(device, each, custody.NAME)
        custody.publish_plan(mesh.port, each)
    mesh.members.edgemesh(device, arguments, mesh.environment(mesh.port, custody.NAME))
    _, ratio = (
        custody.measure(report, mesh.url, each, input_tensors(each.manifest, picture).tensors)
        for each in (mesh.model, model)
    )
    report.claim("job with custody against one without, p50", ratio, custody.LIMIT)
    mesh.members.remove(device)


def run(report: Report, guard: Guard, seed: int, seconds: float) -> None:
    """Start a mesh, use it, break it, and report what became of every job."""
    model = zoo_model(guard.folder / "model", _MODEL)
    asked = questions(model, _QUESTIONS)
    records = Records()
    with Mesh(guard, model) as mesh:
        name = model.manifest.name
        larger = zoo_model(guard.folder / "custody", _MODEL_OF_CUSTODY)
        _measure_custody(report, mesh, larger, asked[0].payload)
        app = ClientStream(APP, name, asked, records, mesh.url, NAME, seed)
        lane = ClientStream(
            LANE, name, asked, records, mesh.url, NAME, seed + 1, ORIGIN, mesh.origin_directory
        )
        plain = PlainApp(f"edgemesh/v1/{NAME}/", name, asked, records, mesh.port)
        for stream in (app, lane, plain):
            stream.start()
        time.sleep(_WARM_SECONDS)
        ends = time.monotonic() + seconds
        chance = random.Random(seed)
        kinds = quick_kinds(chance) if report.quick else endless_kinds(chance)
        began = time.monotonic()
        try:
            Schedule(
                mesh,
                records,
                [APP, LANE, PlainApp.name],
                chance,
                _QUICK_CALM if report.quick else _CALM,
                lambda text: print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True),
            ).run(kinds, ends)
        finally:
            ended = time.monotonic()
            for stream in (app, lane, plain):
                stream.over.set()
            plain.join(_DRAIN_SECONDS, records.remembered_since)
            for stream in (app, lane):
                stream.join(DEADLINE)
            report_on(records, ended, report)
            print("\n".join(told(records, Findings(records, ended), began)), flush=True)
