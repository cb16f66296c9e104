"""One hop: a request through Mosquitto and its answer back, against a minimal paho program.

What is claimed is the hop: connection, framing, tensor codec. What a whole job over one device takes, with
the client library, the roles and the executor process, is printed beside it; ``split`` makes claims of that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.messages import MessageRequests
from benchmarks.models import BenchModel, echo_model
from benchmarks.programs import answering, device, mesh_client, mosquitto, stage
from benchmarks.report import Report, paired_ratio
from benchmarks.stages import PahoRequests, bare_bytes
from edgemesh.node.client import Client
from edgemesh.protocol.activation import Hop

SIZES = {"1 KB": 1024, "50 KB": 50 * 1024, "600 KB": 600 * 1024}
LIMIT = 1.3
_BLOCK = 40


def measure(report: Report) -> None:
    """``request-reply of one hop``: the same bytes both ways, the same operator run by the same runtime."""
    blocks = 11 if report.quick else 41
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = {size: echo_model(folder / f"{nbytes}", nbytes) for size, nbytes in SIZES.items()}
        port = stack.enter_context(mosquitto())
        stack.enter_context(device(port, "worker", list(models.values())))
        client = stack.enter_context(mesh_client(port, ["worker"], list(models.values())))
        for size, model in models.items():
            with (
                stage("paho", model, 0, 1, port, f"ask/{size}", f"answer/{size}"),
                answering(model, port),
            ):
                requests = PahoRequests(port, f"ask/{size}", f"answer/{size}")
                messages = MessageRequests(port, model.manifest.digest, model.manifest.unit_count)
                ours, theirs, jobs = _samples(client, messages, requests, model, blocks)
                messages.close()
                requests.close()
            report.figure(f"hop {size}, edgemesh, ms", median(ours) * 1e3)
            report.figure(f"hop {size}, paho, ms", median(theirs) * 1e3)
            report.figure(f"whole job {size}: client, roles, executor, ms", median(jobs) * 1e3)
            report.figure(f"whole job {size} / paho", paired_ratio(jobs, theirs, _BLOCK))
            ratio = paired_ratio(ours, theirs, _BLOCK)
            report.claim(f"one hop of {size} against a minimal paho program", ratio, LIMIT)


def _samples(
    client: Client, messages: MessageRequests, requests: PahoRequests, model: BenchModel, blocks: int
) -> tuple[list[float], list[float], list[float]]:
    inputs = model.inputs()
    payload = b"".join(bare_bytes(inputs))
    route = [Hop("worker", model.manifest.unit_count)]
    name = model.manifest.name
    ours: list[float] = []
    theirs: list[float] = []
    jobs: list[float] = []
    for number in range(blocks + 1):
        mine = _timed(lambda: messages(inputs[0]))
        job = _timed(lambda: client.infer(name, inputs[0], route=route))
        other = _timed(lambda: requests(payload))
        if number:  # the first block warms up
            ours += mine
            theirs += other
            jobs += job
    return ours, theirs, jobs


def _timed(request: Callable[[], object]) -> list[float]:
    samples = []
    for _ in range(_BLOCK):
        began = time.perf_counter()
        request()
        samples.append(time.perf_counter() - began)
    return samples
