"""Bytes from other processes of the machine: programs, their agent, its executor."""

from __future__ import annotations

import asyncio
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any
from unittest import mock

from edgemesh.errors import DecodeError
from edgemesh.node import executor
from edgemesh.node.executor import _NONSENSE, _event_of, _Incoming
from edgemesh.node.local_lane import Frames, LaneServer, pack_ended, pack_job, unpack_ended
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.roles.actions import Action, JobEnded, LoadUnits, MeasureUnits, RunUnits
from edgemesh.roles.events import JobSubmitted, RangeLoaded, RunFailed, RunFinished, RunMeasured
from edgemesh.runtime.channel import pack_message
from edgemesh.runtime.shared_bodies import SharedBodies, shared_bodies
from fuzzing.canned import Canned
from fuzzing.target import Target

_DIGEST = "0" * 64
_ACTIONS: tuple[Action | None, ...] = (
    RunUnits("run", _DIGEST, 0, 1, b"", "raw"),
    LoadUnits(_DIGEST, 0, 1),
    MeasureUnits(_DIGEST, 0, 1, 3),
    None,
)


def program_targets() -> list[Target]:
    """All of them."""
    return [
        Target("lane-job", _lane_job, _lane_jobs),
        Target("lane-end", _lane_end, _lane_ends),
        Target("executor", _executor, _answers),
    ]


# --- the local lane --------------------------------------------------------------------------------------


class _Transport(asyncio.Transport):
    """Takes what is sent and knows whether it was closed."""

    closed = False

    def writelines(self, list_of_data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def _received(frames: Frames, payload: bytes) -> None:
    """In two pieces; raises DecodeError where that closed the connection."""
    transport = _Transport()
    frames.connection_made(transport)
    for part in (payload[: len(payload) // 2], payload[len(payload) // 2 :]):
        if not transport.closed:
            frames.data_received(part)
    if transport.closed:
        raise DecodeError("the connection was closed")


def _lane_job(payload: bytes) -> object:
    """As the agent reads it; what it takes is what a requester can work with."""
    jobs: list[JobSubmitted] = []
    loop: Any = None  # nobody listens
    server = LaneServer(
        Path("nowhere"), loop, submit=jobs.append, cancel=lambda job: None, manifest=lambda name: None
    )
    try:
        _received(server._client(), payload)
    finally:
        for job in jobs:
            assert isinstance(job.job, str) and isinstance(job.model, str)
            assert job.stream is None or isinstance(job.stream, str), "a requester looks for it in a table"
            assert isinstance(job.left, float)
    return jobs


def _lane_jobs() -> list[bytes]:
    jobs = (
        JobSubmitted("j-1", "face", b"section", 5.0, "camera", (Hop("pi", 3),), _DIGEST),
        JobSubmitted("j-2", "face", b"", 0.5),
    )
    return [b"".join(pack_job(job)) for job in jobs] + [b"".join(pack_message({"manifest": "face"}))]


def _lane_end(payload: bytes) -> object:
    """As a program reads it."""
    ends: list[JobEnded] = []
    _received(Frames(lambda header, body: ends.append(unpack_ended(header, body)), lambda: None), payload)
    return ends


def _lane_ends() -> list[bytes]:
    timing = Timing("pi", 0, 3, 0.1, 0.2, 0.0)
    hops = (Hop("pi", 3),)
    ends = (
        JobEnded("j-1", "face", 0.5, section=b"section", route=hops, timings=(timing,), digest=_DIGEST),
        JobEnded("j-2", "face", 0.5, "busy", "try again", alone=True),
    )
    return [b"".join(pack_ended(ended)) for ended in ends]


# --- the executor ----------------------------------------------------------------------------------------


def _executor(payload: bytes) -> object:
    """The first byte chooses what the executor was asked for. Its figures go into measurements and plans."""
    action = _ACTIONS[payload[0] % len(_ACTIONS)] if payload else None
    sock: Any = Canned(payload[1:], step=100)
    try:
        # The size that it allows is memory to fill with each input that asks for it.
        with mock.patch.object(executor, "_BODY_BYTES", 1 << 16):
            message = _Incoming().read(sock)
        assert message is not None
        header, sent = message
        shared = _shared()
        body = sent if shared is None else shared.body_of(header, sent)
        event = _event_of(action, header, body)
    except (EOFError, *_NONSENSE) as error:
        raise DecodeError(f"nonsense: {type(error).__name__}") from None
    match event:
        case RunFinished(run_seconds=seconds, code_seconds=more) | RunMeasured(seconds=seconds, spread=more):
            assert isfinite(seconds) and isfinite(more) and min(seconds, more) >= 0.0, event
        case RunFailed(code=code):
            assert isinstance(code, str), "it goes into a reply"
        case RangeLoaded(memory_bytes=memory):
            assert memory >= 0, event
    return event


@cache
def _shared() -> SharedBodies | None:
    return shared_bodies()


def _answers() -> list[bytes]:
    headers: list[tuple[int, dict[str, Any]]] = [
        (0, {"run_seconds": 0.25, "code_seconds": 0.0, "shared": [0, 100]}),
        (0, {"code": "run", "text": "no memory"}),
        (1, {"memory": 4096}),
        (1, {"code": "run", "text": "no memory"}),
        (2, {"seconds": 0.25, "spread": 0.001}),
        (3, {}),
    ]
    return [bytes([number]) + b"".join(pack_message(header, [b"body"])) for number, header in headers]
