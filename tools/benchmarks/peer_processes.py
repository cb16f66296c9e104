"""The three processes of one way to run two halves, and the commands that its requester obeys."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from queue import Empty, Queue
from typing import Any

from benchmarks.models import BenchModel
from benchmarks.networks import loopback_bytes, own_network
from benchmarks.peer_programs.place import FIRST, REQUESTER, SECOND, Place
from benchmarks.programs import MESH, device, ended, free_port, mesh_client, mosquitto, started
from benchmarks.report import NotMeasurableError
from benchmarks.stages import paho_client
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment, Fallback
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.topics import Topics

_START_SECONDS = 60.0
_ANSWER_SECONDS = 120.0


class PeerProcess:
    """One process; its lines of output arrive on a queue, so that waiting for one has an end."""

    def __init__(self, way: str, place: Place) -> None:
        command = [sys.executable, "-m", "benchmarks.peer_programs", way, json.dumps(asdict(place))]
        pipe = subprocess.PIPE
        self.process = started(command, stdin=pipe, stdout=pipe, stderr=pipe)
        self._way = way
        self._lines: Queue[bytes] = Queue()
        self._said: list[bytes] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._listen, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)
        self._lines.put(b"")

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            self._said = [*self._said[-20:], line]

    def tell(self, line: bytes) -> None:
        """Write a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def line(self, seconds: float) -> bytes | None:
        """The next line; None when there is none in time, empty when the process has ended."""
        try:
            return self._lines.get(timeout=seconds)
        except Empty:
            return None

    def until_ready(self) -> None:
        """Wait for its first word; raises NotMeasurableError."""
        if self.line(_START_SECONDS) != b"ready\n":
            said = b"".join(self._said).decode("utf-8", "replace")
            raise NotMeasurableError(f"a process of {self._way} did not start: {said[-600:]}")


class RunningPeer:
    """One way, ready for jobs."""

    def __init__(
        self, requester: PeerProcess, second: subprocess.Popen[bytes] | None, *, counted: bool
    ) -> None:
        self.requester = requester
        self.second = second
        """The process to kill; None where there is only one."""
        self.counted = counted
        self._outputs: list[list[float]] = []

    def once(self, count: int) -> list[float]:
        """Seconds of each of ``count`` jobs, one at a time."""
        answer = self._command({"do": "once", "count": count})
        self._outputs = answer["outputs"]
        return [float(seconds) for seconds in answer["seconds"]]

    def outputs(self) -> list[list[float]]:
        """What the last job gave."""
        return self._outputs

    def stream(self, count: int, window: int) -> float:
        """Seconds of ``count`` jobs, ``window`` of them under way."""
        return float(self._command({"do": "stream", "count": count, "window": window})["seconds"][0])

    def carried(self) -> int:
        """Bytes that its network has carried so far; 0 where nobody counts."""
        return loopback_bytes(self.requester.process.pid) if self.counted else 0

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        self.requester.tell(json.dumps(command).encode())
        line = self.requester.line(_ANSWER_SECONDS)
        answer: dict[str, Any] = json.loads(line) if line else {"error": "no answer"}
        if "error" in answer:
            raise NotMeasurableError(f"a requester failed: {answer['error']}")
        return answer


@contextmanager
def running_peer(way: str, model: BenchModel, cut: int, *, keeps_buffers: bool) -> Iterator[RunningPeer]:
    """Start a module of ``benchmarks.peer_programs``, with a broker where it needs one.

    ``keeps_buffers``: with the allocator settings of edgemesh's own processes, else with the system's.
    """
    with ExitStack() as stack:
        with own_network() as own:
            ports = (free_port(), free_port(), free_port())
            if way == "paho_msgpack":
                ports = (stack.enter_context(mosquitto()), *ports[1:])
            ranks = (REQUESTER,) if way == "alone" else (SECOND, FIRST, REQUESTER)
            processes = {}
            for rank in ranks:
                processes[rank] = PeerProcess(way, Place(str(model.folder), cut, rank, ports, keeps_buffers))
                stack.callback(ended, processes[rank].process)
            for process in processes.values():
                process.until_ready()
        second = processes[SECOND].process if SECOND in processes else None
        yield RunningPeer(processes[REQUESTER], second, counted=own)


@contextmanager
def running_mesh(model: BenchModel, cut: int, predicted: float) -> Iterator[RunningPeer]:
    """Start Mosquitto, three devices and a client; the third device is only in the assignment's fallback.

    ``predicted`` seconds stand in the assignment as its latency.
    """
    names = ["first", "second", "third"]
    with ExitStack() as stack:
        with own_network() as own:
            port = stack.enter_context(mosquitto())
            devices = {name: stack.enter_context(device(port, name, [model])) for name in names}
            with mesh_client(port, names, [model]):
                pass  # the manifest is retained now, and the devices are idle
            _publish(port, _assignment(model, cut, predicted))
            requester = PeerProcess("mesh", Place(str(model.folder), cut, REQUESTER, (port,)))
            stack.callback(ended, requester.process)
            requester.until_ready()
        yield RunningPeer(requester, devices["second"], counted=own)


def _assignment(model: BenchModel, cut: int, predicted: float) -> Assignment:
    end = model.manifest.unit_count
    fallback = Fallback("second", (Hop("first", cut), Hop("third", end)), predicted)
    return Assignment(
        term=1,
        sequence=1,
        model=model.manifest.name,
        digest=model.manifest.digest,
        origin="app",
        objective="latency",
        route=(Hop("first", cut), Hop("second", end)),
        hops=(),
        return_seconds=0.0,
        seconds=predicted,
        reason="given by the benchmark",
        fallbacks=(fallback,),
    )


def _publish(port: int, assignment: Assignment) -> None:
    topic = Topics(MESH).build("assignment", model=assignment.model, origin=assignment.origin)
    client = paho_client(port)
    client.loop_start()
    client.publish(topic, encode_json(assignment), 1, retain=True).wait_for_publish(_START_SECONDS)
    client.disconnect()
    client.loop_stop()
