"""What a requester sees when the process of the second half is killed in the middle of a job."""

from __future__ import annotations

import json
import signal
import time
from statistics import median

import numpy as np

from benchmarks.peer_processes import RunningPeer
from benchmarks.report import Report

_HANGS_AFTER = 20.0


def report_fault(report: Report, name: str, peer: RunningPeer, expected: list[list[float]]) -> None:
    """Kill, wait a bounded time, and say what came: the right answer, an error, or nothing.

    The second half stops as the job sets out, so that it holds the job, and no answer, when it is killed.
    """
    assert peer.second is not None
    usual = median(peer.once(5))
    peer.second.send_signal(signal.SIGSTOP)
    peer.requester.tell(json.dumps({"do": "once", "count": 1}).encode())
    early = peer.requester.line(usual)
    peer.second.send_signal(signal.SIGKILL)
    killed = time.perf_counter()
    line = peer.requester.line(_HANGS_AFTER) if early is None else early
    waited = time.perf_counter() - killed
    report.figure(f"{name}, half killed: {_seen(line, expected)}, ms after", waited * 1e3)


def _seen(line: bytes | None, expected: list[list[float]]) -> str:
    if line is None:
        return "nothing, HANGS"
    if not line:
        return "requester died"
    answer = json.loads(line)
    if "error" in answer:
        print(f"    {answer['error'][:300]}", flush=True)
        return "error"
    same = len(expected) == len(answer["outputs"]) and all(
        np.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(answer["outputs"], expected, strict=True)
    )
    return "right answer" if same else "WRONG answer"
