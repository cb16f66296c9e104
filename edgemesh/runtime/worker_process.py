"""The executor's own process: a native crash or a long inference must not stop the agent's heartbeat.

Started by the agent as ``python -m edgemesh.runtime.worker_process FD SHARED_FD THREADS [TURNS]``; it answers
one request at a time on the inherited socket and ends when the agent's end closes. ``SHARED_FD`` is -1 where
there is no shared memory.
"""

from __future__ import annotations

import fcntl
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from edgemesh.errors import DeadlineError, EdgemeshError, InputError, ModelError, RunError
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Boundary, Manifest, boundary_bytes
from edgemesh.protocol.tensors import decode_tensors, encode_tensors
from edgemesh.runtime.allocation import give_back_unused, keep_large_buffers
from edgemesh.runtime.channel import BlockingReader, Buffer, pack_message, send_all, widen
from edgemesh.runtime.executor import LoadedRange, OpenModel
from edgemesh.runtime.made_up import made_up_inputs
from edgemesh.runtime.registry import runtime_for
from edgemesh.runtime.shared_bodies import SharedBodies

_MEASURE_SECONDS = 0.12
_MEASURE_RUNS = (3, 25)
_UNASKED_RANGES = 16
"""Kept of ranges that jobs asked for and no assignment: a model of 60 units has 1,800, each with weights."""
Answer = tuple[dict[str, Any], list[Buffer]]


class ExecutorCore:
    """Executes requests; used by the process below, and in-process by tests."""

    def __init__(self, threads: int, turns: Path | None = None) -> None:
        """``turns`` is a file that executors on one machine lock to measure one after the other."""
        self._threads = threads
        self._turns = turns
        self._manifests: dict[str, tuple[Path, Manifest]] = {}
        self._models: dict[str, OpenModel] = {}
        self._ranges: dict[tuple[str, int, int], LoadedRange] = {}
        self._unasked: OrderedDict[tuple[str, int, int], None] = OrderedDict()
        """Ranges loaded by a run alone, the one used longest ago first."""
        self._requests: dict[str, Callable[[dict[str, Any], memoryview], Answer]] = {
            "open": self._open,
            "close": self._close,
            "load": self._load,
            "unload": self._unload,
            "run": self._run,
            "measure": self._measure,
        }

    def answer(self, header: dict[str, Any], body: memoryview) -> Answer:
        """The answer to one request; an error is an answer with its ``code`` and ``text``."""
        try:
            return self._requests[header["do"]](header, body)
        except EdgemeshError as error:
            return {"code": error.code, "text": str(error)}, []
        # The edge of the process: whatever a runtime raises must become an answer, or the agent waits.
        except Exception as error:
            text = f"{type(error).__name__}: {str(error)[:300]}"
            return {"code": RunError.code, "text": text}, []

    def _open(self, header: dict[str, Any], body: memoryview) -> Answer:
        manifest = decode_json(Manifest, body)
        known = self._manifests.get(manifest.digest)
        if known is not None and known[1].boundaries != manifest.boundaries:
            self._close({"digest": manifest.digest}, body)  # what is loaded is of other units
        self._manifests[manifest.digest] = (Path(header["path"]), manifest)
        return {}, []

    def _close(self, header: dict[str, Any], body: memoryview) -> Answer:
        digest = header["digest"]
        self._manifests.pop(digest, None)
        self._models.pop(digest, None)
        for key in [key for key in self._ranges if key[0] == digest]:
            del self._ranges[key]
            self._unasked.pop(key, None)
        return {}, []

    def _load(self, header: dict[str, Any], body: memoryview) -> Answer:
        key = _key(header)
        there = key in self._ranges
        try:
            loaded = self._loaded(header)
            inputs = made_up_inputs(self._boundary(header["digest"], header["start"]))
            loaded.run(inputs)  # warm: first runs allocate and choose kernels
        except Exception:
            if not there:  # whoever asked counts it as not loaded, and will not unload it
                self._ranges.pop(key, None)
            raise
        self._unasked.pop(key, None)
        return {"memory": loaded.memory_bytes}, []

    def _unload(self, header: dict[str, Any], body: memoryview) -> Answer:
        self._ranges.pop(_key(header), None)
        self._unasked.pop(_key(header), None)
        return {}, []

    def _run(self, header: dict[str, Any], body: memoryview) -> Answer:
        began = time.perf_counter()
        if time.monotonic() > header.get("until", inf):
            raise DeadlineError("its deadline passed before it began")
        loaded = self._loaded_for_a_run(header)
        boundary = self._boundary(header["digest"], header["start"])
        # The bound keeps a few compressed kilobytes from becoming 256 MB on a small board.
        inputs = decode_tensors(body, boundary_bytes(boundary))
        _check_inputs(inputs, boundary)
        decoded = time.perf_counter()
        outputs = loaded.run(inputs)
        if header["at_least"] > 0.0:
            time.sleep(max(0.0, decoded + header["at_least"] - time.perf_counter()))
        ran = time.perf_counter()
        parts = encode_tensors(outputs, header["codec"])
        code_seconds = decoded - began + time.perf_counter() - ran
        return {"run_seconds": ran - decoded, "code_seconds": code_seconds}, list(parts)

    def _measure(self, header: dict[str, Any], body: memoryview) -> Answer:
        key = _key(header)
        kept = key in self._ranges
        try:
            seconds = self._run_times(header)
        finally:  # a range that cannot run must not stay either
            if not kept:
                self._ranges.pop(key, None)
                give_back_unused()
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        return {"seconds": float(middle), "spread": float(high - low) / 2}, []

    def _run_times(self, header: dict[str, Any]) -> list[float]:
        loaded = self._loaded(header)
        inputs = made_up_inputs(self._boundary(header["digest"], header["start"]))
        seconds: list[float] = []
        least, most = (runs, runs) if (runs := header.get("runs", 0)) else _MEASURE_RUNS
        with _taking_turns(self._turns):
            began = time.perf_counter()
            loaded.run(inputs)
            ends = time.perf_counter() + _MEASURE_SECONDS
            if (warmed := ends - _MEASURE_SECONDS - began) >= _MEASURE_SECONDS and most == 1:
                seconds.append(warmed)  # a job may wait, and what takes so long gains little by warming
            while len(seconds) < least or (len(seconds) < most and time.perf_counter() < ends):
                began = time.perf_counter()
                loaded.run(inputs)
                seconds.append(time.perf_counter() - began)
        return seconds

    def _loaded_for_a_run(self, header: dict[str, Any]) -> LoadedRange:
        key = _key(header)
        loaded = self._ranges.get(key)
        if loaded is None:
            loaded = self._loaded(header)
            self._unasked[key] = None
            if len(self._unasked) > _UNASKED_RANGES:
                oldest, _ = self._unasked.popitem(last=False)
                del self._ranges[oldest]
        elif key in self._unasked:
            self._unasked.move_to_end(key)
        return loaded

    def _loaded(self, header: dict[str, Any]) -> LoadedRange:
        key = digest, start, stop = _key(header)
        if key not in self._ranges:
            _, manifest = self._manifest(digest)
            if not 0 <= start < stop <= manifest.unit_count:
                raise ModelError(
                    f"{manifest.name} has units 0 to {manifest.unit_count}, not {start} to {stop}"
                )
            if digest not in self._models:
                path, manifest = self._manifests[digest]
                self._models[digest] = runtime_for(manifest.format).open(path, manifest, self._threads)
            self._ranges[key] = self._models[digest].load(start, stop)
            give_back_unused()
        return self._ranges[key]

    def _manifest(self, digest: str) -> tuple[Path, Manifest]:
        if digest not in self._manifests:
            raise ModelError(f"content {digest[:12]} is not open")
        return self._manifests[digest]

    def _boundary(self, digest: str, cut: int) -> Boundary:
        return self._manifest(digest)[1].boundaries[cut]


@contextmanager
def _taking_turns(file: Path | None) -> Iterator[None]:
    # Emulated boards share one machine: measured at the same time, each would look as slow as all together.
    if file is None:
        yield
        return
    with file.open("ab") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        yield


def _key(header: dict[str, Any]) -> tuple[str, int, int]:
    return header["digest"], header["start"], header["stop"]


def _check_inputs(inputs: list[np.ndarray[Any, Any]], boundary: Boundary) -> None:
    # Before native code sees it: a wrong shape there is a crash or garbage, here it is an answer.
    if len(inputs) == len(boundary) and all(
        array.shape == tensor.shape and array.dtype == tensor.dtype for array, tensor in zip(inputs, boundary)
    ):
        return
    # The names are for the sentence only: NumPy takes microseconds to make each.
    found = [(array.dtype.name, array.shape) for array in inputs]
    wanted = [(tensor.dtype, tensor.shape) for tensor in boundary]
    raise InputError(f"tensors are {_shown(found)}, wanted {_shown(wanted)}")


def _shown(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for dtype, shape in tensors[:4]) or "none"


def main() -> None:
    """Answer requests until the agent's end of the socket closes."""
    # Ctrl-C reaches the whole process group; the agent says when it is time to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_large_buffers()
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.setblocking(True)
    widen(sock)
    shared = SharedBodies(descriptor) if (descriptor := int(sys.argv[2])) >= 0 else None
    core = ExecutorCore(int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
    # An agent that ends does not wait for answers.
    with suppress(BrokenPipeError, ConnectionResetError):
        _answer_all(core, sock, shared)


def _answer_all(core: ExecutorCore, sock: socket.socket, shared: SharedBodies | None) -> None:
    pack = pack_message if shared is None else shared.with_answer
    reader = BlockingReader(sock)
    while (message := reader.read()) is not None:
        header, sent = message
        answer, parts = core.answer(header, sent if shared is None else shared.body_of(header, sent))
        send_all(sock, pack(answer, parts))


if __name__ == "__main__":
    main()
