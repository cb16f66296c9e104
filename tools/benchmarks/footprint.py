"""An idle device with a tflite model loaded, and how long the command line takes to say what it can do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.models import zoo_model
from benchmarks.programs import device, environment, mesh_client, mosquitto
from benchmarks.report import NotMeasurableError, Report
from edgemesh.protocol.activation import Hop

_MEMORY_MB, _CPU_PERCENT, _HELP_SECONDS = 100.0, 2.0, 0.3
_SETTLE_SECONDS = 5.0
"""First probes, profile and reports are over by then."""


def measure(report: Report) -> None:
    """Memory and CPU of all processes of the agent together, with ``zoo:face`` loaded and warm."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise NotMeasurableError(
            "the memory of processes is read from /proc, which this system does not have"
        )
    seconds = 10.0 if report.quick else 30.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = zoo_model(folder / "face", "face")
        port = stack.enter_context(mosquitto())
        agent = stack.enter_context(device(port, "worker", [model]))
        client = stack.enter_context(mesh_client(port, ["worker"], [model]))
        route = [Hop("worker", model.manifest.unit_count)]
        client.infer(model.manifest.name, model.inputs(), route=route)
        client.close()  # an idle device has no program that asks it
        time.sleep(_SETTLE_SECONDS)
        processes = _family(agent.pid)
        before, began = sum(map(_cpu_seconds, processes)), time.monotonic()
        time.sleep(seconds)
        used = (sum(map(_cpu_seconds, processes)) - before) / (time.monotonic() - began)
        for pid in processes:
            name = "agent" if pid == agent.pid else "executor"
            report.figure(f"idle device, PSS of the {name}, MB", _pss_bytes(pid) / 1e6)
        memory = sum(map(_pss_bytes, processes)) / 1e6
    report.claim("idle device with zoo:face loaded: memory (PSS), MB", memory, _MEMORY_MB, "MB")
    report.claim(f"idle device: CPU over {seconds:.0f} s, %", used * 100, _CPU_PERCENT, "%")
    report.claim("edgemesh --help, s", _help_seconds(report), _HELP_SECONDS, "s")


def _help_seconds(report: Report) -> float:
    """Median of starts of the program; a bare interpreter beside it shows what of that is Python's own."""
    helps, bare = [], []
    for _ in range(7 if report.quick else 21):
        helps.append(_seconds([sys.executable, "-m", "edgemesh.cli.main", "--help"]))
        bare.append(_seconds([sys.executable, "-c", "pass"]))
    report.figure("python -c pass, s", median(bare))
    return median(helps)


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise NotMeasurableError(f"process {pid} ended while its memory was read")
