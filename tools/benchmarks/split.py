"""A job over two workers, against the same compute behind raw TCP and behind a minimal paho program."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.models import BenchModel, own_model, zoo_model
from benchmarks.programs import device, free_port, mesh_client, mosquitto, stage
from benchmarks.report import Report, paired_ratio
from benchmarks.stages import PahoRequests, bare_bytes, receive, send, tune
from edgemesh.node.client import Client
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.manifest import boundary_bytes

_TCP_LIMIT = 1.15


@dataclass(frozen=True)
class _Case:
    name: str
    make: Callable[[Path], BenchModel]
    quick: Callable[[Path], BenchModel]
    paho_limit: float
    against_tcp: bool
    block: int
    blocks: tuple[int, int]
    """Few for a quick run, and many."""


def _transformer(folder: Path) -> BenchModel:
    return own_model(folder, "transformer")


def _face(folder: Path) -> BenchModel:
    return zoo_model(folder, "face")


_CASES = (
    _Case("transformer", _transformer, _transformer, 1.10, True, 6, (4, 25)),
    _Case(
        "vgg16",
        lambda folder: zoo_model(folder, "vgg16"),
        lambda folder: own_model(folder, "narrow"),
        1.10,
        True,
        4,
        (3, 15),
    ),
    _Case("face", _face, _face, 1.25, False, 15, (7, 41)),
)


def measure(report: Report) -> None:
    """p50 of jobs over two agents (one thread each), in turn with the chains written by hand."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models = [(case.quick if report.quick else case.make)(folder / case.name) for case in _CASES]
        port = stack.enter_context(mosquitto())
        for name in ("first", "second"):
            stack.enter_context(device(port, name, models))
        client = stack.enter_context(mesh_client(port, ["first", "second"], models))
        for case, model in zip(_CASES, models, strict=True):
            _compare(report, case, model, port, client)


def _compare(report: Report, case: _Case, model: BenchModel, port: int, client: Client) -> None:
    cut, end = model.middle_cut(), model.manifest.unit_count
    inputs = model.inputs()
    payload = bare_bytes(inputs)
    joined = b"".join(payload)
    route = [Hop("first", cut), Hop("second", end)]
    crossing = boundary_bytes(model.manifest.boundaries[cut])
    report.figure(f"{case.name}: cut {cut} of {end}, KB that cross it", crossing / 1000)
    with ExitStack() as stack:
        stack.enter_context(stage("paho", model, 0, cut, port, "ask", "middle"))
        stack.enter_context(stage("paho", model, cut, end, port, "middle", "answer"))
        requests = PahoRequests(port, "ask", "answer")
        stack.callback(requests.close)
        programs: dict[str, Callable[[], object]] = {
            "edgemesh": lambda: client.infer(model.manifest.name, inputs, route=route),
            "paho": lambda: requests(joined),
        }
        if case.against_tcp:
            chain = stack.enter_context(_TcpChain(model, cut, end))
            programs["tcp"] = lambda: chain(payload)
        samples = _samples(programs, case.block, case.blocks[0 if report.quick else 1])
    for name, seconds in samples.items():
        report.figure(f"{case.name} over two workers, {name}, p50 ms", median(seconds) * 1e3)
    if case.against_tcp:
        ratio = paired_ratio(samples["edgemesh"], samples["tcp"], case.block)
        report.claim(f"{case.name} over two workers against compute + raw TCP", ratio, _TCP_LIMIT)
    ratio = paired_ratio(samples["edgemesh"], samples["paho"], case.block)
    report.claim(f"{case.name} over two workers against compute + minimal paho", ratio, case.paho_limit)


def _samples(programs: dict[str, Callable[[], object]], block: int, blocks: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(blocks + 1):
        for name, run in programs.items():
            for _ in range(block):
                began = time.perf_counter()
                run()
                if number:  # the first block warms up
                    samples[name].append(time.perf_counter() - began)
    return samples


class _TcpChain:
    """Client, first stage and second stage on three TCP connections in a ring."""

    def __init__(self, model: BenchModel, cut: int, end: int) -> None:
        self._stack = ExitStack()
        first, second = free_port(), free_port()
        server = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        back = server.getsockname()[1]
        # The last one first: each connects to the one behind it when its own client has come.
        self._stack.enter_context(stage("tcp", model, cut, end, second, back))
        self._stack.enter_context(stage("tcp", model, 0, cut, first, second))
        self._out = self._stack.enter_context(socket.create_connection(("127.0.0.1", first)))
        tune(self._out)
        self._in, _ = server.accept()

    def __call__(self, payload: list[memoryview]) -> bytearray:
        send(self._out, payload)
        return receive(self._in)

    def __enter__(self) -> _TcpChain:
        return self

    def __exit__(self, *exc: object) -> None:
        self._in.close()
        self._stack.close()
