"""Two halves of a model behind edgemesh, and behind what somebody would pick instead: same cut and machine.

Each way is a requester, a first and a second half in processes of their own (``benchmarks.peer_programs``),
in a network namespace of its own. The input goes to the first half, the boundary to the second, the outputs
back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.models import BenchModel, own_model, zoo_model
from benchmarks.peer_faults import report_fault
from benchmarks.peer_processes import RunningPeer, running_mesh, running_peer
from benchmarks.report import Report, paired_ratio
from edgemesh.protocol.manifest import boundary_bytes

WINDOW = 4
"""Jobs under way when throughput is measured: the client library's own default, and twice the stages."""
_LATENCY_LIMIT = 1.05
_THROUGHPUT_LIMIT = 1.0
_ALONE = "one process"
_GLOO = "torch gloo"
_GLOO_AS_INSTALLED = "torch gloo as installed"
_MINIMAL = "paho + msgpack"
OURS = "edgemesh"


@dataclass(frozen=True)
class _Peer:
    way: str
    """Its module in ``benchmarks.peer_programs``."""
    keeps_buffers: bool = True
    """Whether its processes have the allocator settings of edgemesh's."""


_PEERS = {
    _ALONE: _Peer("alone"),
    _GLOO_AS_INSTALLED: _Peer("gloo", keeps_buffers=False),
    _GLOO: _Peer("gloo"),
    "torch RPC": _Peer("rpc"),
    "torch pipelining": _Peer("pipelining"),
    "raw TCP": _Peer("tcp"),
    _MINIMAL: _Peer("paho_msgpack"),
}
_QUICK = (_ALONE, _GLOO_AS_INSTALLED, _GLOO)
_CLAIMED = {
    _GLOO_AS_INSTALLED: "torch gloo as installed",
    _GLOO: "torch gloo with edgemesh's allocator settings",
}
"""What somebody gets who picks gloo, and what is left once both sides have the same allocator: the links."""


@dataclass(frozen=True)
class _Work:
    block: int
    """Jobs one at a time before the next way has its turn."""
    blocks: int
    stream: int
    """Jobs of one pipelined block, a multiple of the window."""


_FULL = _Work(block=6, blocks=15, stream=24)
_FEW = _Work(block=6, blocks=5, stream=16)


@dataclass(frozen=True)
class _Case:
    name: str
    make: Callable[[Path], BenchModel]
    faults: bool
    """Whether a process is killed at the end: half a job must take long enough to be hit."""


_CASES = (
    _Case("transformer", lambda folder: own_model(folder, "transformer"), True),
    _Case("mobilenetv2", lambda folder: zoo_model(folder, "mobilenetv2"), False),
)


def measure(report: Report) -> None:
    """Latency one at a time, throughput pipelined, bytes per job, and what the death of a half does."""
    for case in _CASES:
        with tempfile.TemporaryDirectory() as folder:
            _compare(report, case, case.make(Path(folder) / case.name))


def _compare(report: Report, case: _Case, model: BenchModel) -> None:
    cut, work = model.middle_cut(), _FEW if report.quick else _FULL
    crossing = boundary_bytes(model.manifest.boundaries[cut])
    report.figure(f"{case.name}: cut {cut} of {model.manifest.unit_count}, KB that cross it", crossing / 1000)
    chosen = {name: peer for name, peer in _PEERS.items() if not report.quick or name in _QUICK}
    with ExitStack() as stack:
        peers = {
            name: stack.enter_context(running_peer(peer.way, model, cut, keeps_buffers=peer.keeps_buffers))
            for name, peer in chosen.items()
        }
        whole = median(peers[_ALONE].once(3)[1:])
        peers[OURS] = stack.enter_context(running_mesh(model, cut, predicted=whole))
        _latency(report, case.name, peers, work)
        _throughput(report, case.name, peers, work)
        if case.faults:
            expected = peers[_ALONE].outputs()
            for name, peer in peers.items():
                if peer.second is not None:
                    report_fault(report, f"{case.name}, {name}", peer, expected)


def _latency(report: Report, case: str, peers: dict[str, RunningPeer], work: _Work) -> None:
    samples: dict[str, list[float]] = {name: [] for name in peers}
    carried: dict[str, int] = dict.fromkeys(peers, 0)
    for number in range(work.blocks + 1):
        for name, peer in peers.items():
            before = peer.carried()
            seconds = peer.once(work.block)
            if number:  # the first block warms up
                samples[name] += seconds
                carried[name] += peer.carried() - before
    for name, seconds in samples.items():
        report.figure(f"{case}, {name}, one at a time, p50 ms", median(seconds) * 1e3)
    for name, peer in peers.items():
        if not peer.counted:
            print(f"  {case}, {name}, KB per job: not measured (needs root and Linux)", flush=True)
        else:
            report.figure(f"{case}, {name}, KB per job on loopback", carried[name] / len(samples[name]) / 1e3)
    for name in [name for name in peers if name != OURS]:
        ratio = paired_ratio(samples[OURS], samples[name], work.block)
        report.figure(f"{case}, latency, edgemesh against {name}, ratio", ratio)
    for name, words in _CLAIMED.items():
        ratio = paired_ratio(samples[OURS], samples[name], work.block)
        note = _over_the_same_broker(samples, name, work.block)
        report.claim(f"{case}, latency against {words}, same cut", ratio, _LATENCY_LIMIT, note=note)


def _throughput(report: Report, case: str, peers: dict[str, RunningPeer], work: _Work) -> None:
    samples: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(max(3, work.blocks // 2) + 1):
        for name, peer in peers.items():
            seconds = peer.stream(work.stream, WINDOW)
            if number:
                samples[name].append(seconds / work.stream)
    for name, seconds in samples.items():
        report.figure(f"{case}, {name}, {WINDOW} under way, jobs per s", 1.0 / median(seconds))
    for name in [name for name in peers if name != OURS]:
        ratio = paired_ratio(samples[OURS], samples[name], 1)
        report.figure(f"{case}, seconds per job pipelined, edgemesh against {name}, ratio", ratio)
    for name, words in _CLAIMED.items():
        ratio = paired_ratio(samples[OURS], samples[name], 1)
        note = _over_the_same_broker(samples, name, 1)
        claim = f"{case}, seconds per job pipelined against {words}"
        report.claim(claim, ratio, _THROUGHPUT_LIMIT, note=note)


def _over_the_same_broker(samples: dict[str, list[float]], gloo: str, block: int) -> str:
    """What the broker alone costs: gloo's processes talk to each other directly."""
    if _MINIMAL not in samples:
        return ""
    return f"{_MINIMAL} through the same broker: {paired_ratio(samples[_MINIMAL], samples[gloo], block):.3f}"
