"""The agent's end of its executor process: jobs first, and after each one load or measurement that waits.

One request is under way at a time. A job's run may be sent ahead while another one is, so that the executor
need not wait for the agent between the two.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from edgemesh.device.procfs import process_look
from edgemesh.node.stall_watch import StallWatch
from edgemesh.protocol import limits
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.actions import Action, LoadUnits, Log, MeasureUnits, RunUnits, UnloadUnits
from edgemesh.roles.events import (
    Event,
    ExecutorLost,
    RangeLoaded,
    RangeRefused,
    RunFailed,
    RunFinished,
    RunMeasured,
)
from edgemesh.roles.refusals import Refusals
from edgemesh.runtime.channel import PREFIX, Buffer, pack_message, widen
from edgemesh.runtime.shared_bodies import SharedBodies, shared_bodies

_log = logging.getLogger("edgemesh")
_RESTART_SECONDS = 1.0
_END_SECONDS = 0.5
"""Nothing else is done meanwhile, and libraries that wind up threads or a device may never come to an end."""
_HEADER_BYTES = 1 << 20
"""Of an answer, with some numbers or a sentence in it. A library's text, read as a length, is gigabytes."""
_BODY_BYTES = limits.TENSOR_BYTES + (1 << 20)
"""No reader of a section takes more tensors; the rest is their headers."""
_NONSENSE = (
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    msgpack.UnpackException,
)
"""What reading raises where a process writes anything but answers."""
ExecutorAction = RunUnits | LoadUnits | UnloadUnits | MeasureUnits


class _Request(NamedTuple):
    action: Action | None
    header: dict[str, Any]
    body: Buffer = b""


class ExecutorProcess:
    """Starts the process, sends it what roles want, and turns its answers into events."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: int,
        deliver: Callable[[Event], None],
        turns: Path | None = None,
        stall_watch: StallWatch | None = None,
    ) -> None:
        """``turns`` is a file that executors of emulated boards lock to measure one after the other."""
        self._loop = loop
        self._threads = threads
        self._turns = turns
        self._deliver = deliver
        self._models: dict[str, tuple[Path, Manifest]] = {}
        self._urgent: deque[_Request] = deque()
        self._patient: deque[_Request] = deque()
        self._sent: deque[_Request] = deque()
        """Without an answer yet: what the executor works on, and a run sent ahead."""
        self._was_run = False
        """Whether what was sent last is a job's run."""
        self._shared: SharedBodies | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._outgoing: list[memoryview] = []
        self._writing = False
        self._incoming = _Incoming()
        self._closing = False
        self._started_at = 0.0
        self._watch = stall_watch or StallWatch()
        self._stalled = ""
        """Why the process had to be killed, until it is known to have ended."""
        self._deaths = Refusals()
        """Told at a bounded rate: a runtime that does not get along with this machine dies each second."""
        self._loop.call_later(self._watch.look_seconds, self._look)

    @property
    def pid(self) -> int | None:
        """Process id of the executor that runs now; None where there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; it has nothing open. Raises OSError where the system has none to give."""
        ours, theirs = socket.socketpair()
        # New for each process: what a crash left in the old one stays with it.
        shared = shared_bodies()
        try:
            widen(ours)
            ours.setblocking(False)
            self._loop.add_reader(ours, self._readable)
            self._process = self._started(theirs.fileno(), None if shared is None else shared.descriptor)
        except OSError:
            self._loop.remove_reader(ours)
            ours.close()
            if shared is not None:
                shared.close()
            raise
        finally:
            theirs.close()
        self._shared, self._socket = shared, ours
        self._started_at = time.monotonic()
        # Before jobs that came while there was no process.
        opens = [_open_request(path, manifest) for path, manifest in self._models.values()]
        self._urgent.extendleft(reversed(opens))
        self._next()

    def open(self, path: Path, manifest: Manifest) -> None:
        """Tell the process where a model's content is."""
        self._models[manifest.digest] = (path, manifest)
        self._urgent.append(_open_request(path, manifest))
        self._next()

    def close_model(self, digest: str) -> None:
        """Forget a model and what is loaded of it."""
        if self._models.pop(digest, None) is not None:
            self._urgent.append(_Request(None, {"do": "close", "digest": digest}))
            self._next()

    def submit(self, action: ExecutorAction) -> None:
        """Carry out an action; its event follows."""
        request = {"digest": action.digest, "start": action.start, "stop": action.stop}
        if isinstance(action, RunUnits):
            request |= {"do": "run", "codec": action.codec, "at_least": action.at_least}
            if action.until != inf:
                request["until"] = action.until
            self._urgent.append(_Request(action, request, action.section))
        else:
            request["do"] = {LoadUnits: "load", UnloadUnits: "unload", MeasureUnits: "measure"}[type(action)]
            if isinstance(action, MeasureUnits):
                request["runs"] = action.runs
            self._patient.append(_Request(action, request))
        self._next()

    def stop(self) -> None:
        """End the process; it notices that the socket is closed."""
        self._closing = True
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._close_channel()
        if self._process is not None:
            self._ended(self._process)  # killed in the middle of a long run

    def _started(self, channel: int, shared: int | None) -> subprocess.Popen[bytes]:
        inherited = [channel] + ([] if shared is None else [shared])
        command = [sys.executable, "-m", "edgemesh.runtime.worker_process", str(channel)]
        command += ["-1" if shared is None else str(shared), str(self._threads)]
        if self._turns is not None:
            command.append(str(self._turns))
        return subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL)

    def _next(self) -> None:
        """Send what the executor should have now."""
        while self._socket is not None and (request := self._taken()) is not None:
            ahead = bool(self._sent)
            self._sent.append(request)
            self._was_run = isinstance(request.action, RunUnits)
            if self._shared is None:
                buffers = pack_message(request.header, [request.body])
            else:
                buffers = self._shared.with_request(request.header, [request.body], ahead=ahead)
            self._outgoing += [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
            self._writable()

    def _taken(self) -> _Request | None:
        """The request that goes out next; None where there is none or its time has not come."""
        if not self._sent:
            # A job overtakes loads and measurements that wait, but one of them has its turn after each run:
            # a device that is never idle could not prepare another partition. Not before its content is open.
            runs_only = all(isinstance(request.action, RunUnits) for request in self._urgent)
            has_turn = self._patient and (not self._urgent or (self._was_run and runs_only))
            queue = self._patient if has_turn else self._urgent
            return queue.popleft() if queue else None
        if len(self._sent) > 1 or not self._was_run or self._patient or not self._urgent:
            return None
        return self._urgent.popleft() if isinstance(self._urgent[0].action, RunUnits) else None

    def _writable(self) -> None:
        assert self._socket is not None
        try:
            while self._outgoing:
                sent = self._socket.sendmsg(self._outgoing[:16])
                while self._outgoing and sent >= len(self._outgoing[0]):
                    sent -= len(self._outgoing.pop(0))
                if sent:
                    self._outgoing[0] = self._outgoing[0][sent:]
        except BlockingIOError:
            # A stopped executor must not stop the agent with it.
            self._loop.add_writer(self._socket, self._writable)
            self._writing = True
            return
        except OSError:
            return  # it died; the reader sees the end of file
        if self._writing:
            self._loop.remove_writer(self._socket)
            self._writing = False

    def _readable(self) -> None:
        assert self._socket is not None and self._process is not None
        try:
            message = self._incoming.read(self._socket)
            if message is None or not self._sent:
                return
            header, sent = message
            body = sent if self._shared is None else self._shared.body_of(header, sent)
            event = _event_of(self._sent[0].action, header, body)
        except BlockingIOError:
            return
        except (EOFError, OSError):
            self._lost()
            return
        except _NONSENSE:
            self._process.kill()  # it would with the next answer, too
            self._lost()
            return
        self._sent.popleft()
        if not self._sent:
            self._next()  # before this answer is handled: the executor has nothing to do
        if event is not None:
            self._deliver(event)
        self._next()

    def _look(self) -> None:
        """Kill the process where it hangs: its end is noticed as any other."""
        if self._closing:
            return
        self._loop.call_later(self._watch.look_seconds, self._look)
        if self._process is None or self._stalled:
            return
        request = self._sent[0] if self._sent else None
        if self._stalls(request, self._process.pid) and request is not None:
            self._stalled = f"hung in {self._about(request)}: it had no processor time, and was killed"
            self._process.kill()

    def _stalls(self, request: _Request | None, pid: int) -> bool:
        if request is not None and self._turns is not None and isinstance(request.action, MeasureUnits):
            request = None  # it may wait for its turn
        sleeps = request.action.at_least if request and isinstance(request.action, RunUnits) else 0.0
        return self._watch.stalls(request, process_look(Path("/"), pid), sleeps)

    def _about(self, request: _Request) -> str:
        header = request.header
        known = self._models.get(header.get("digest", ""))
        model = known[1].name if known is not None else "a model"
        units = f"units {header['start']} to {header['stop']} of " if "start" in header else ""
        return f"{header['do']} of {units}{model}"

    def _lost(self) -> None:
        if self._closing:
            return
        assert self._socket is not None and self._process is not None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._writing = False
        self._close_channel()
        code = self._ended(self._process)
        self._process = None
        self._urgent.clear()
        self._patient.clear()
        digest = getattr(self._sent[0].action, "digest", None) if self._sent else None
        self._sent.clear()
        self._was_run = False
        self._outgoing.clear()
        self._incoming = _Incoming()
        ended = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
        how, self._stalled = self._stalled or ended, ""
        delay = 0.0 if time.monotonic() - self._started_at > _RESTART_SECONDS else _RESTART_SECONDS
        self._loop.call_later(delay, self._restart)
        text = f"the executor process {how}"
        for line in self._deaths.tell("executor", f"{text}; it is started again", time.monotonic()):
            if isinstance(line, Log):
                _log.warning(line.text)
        self._deliver(ExecutorLost(text, digest))

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """How the process ended, whose end of the socket is closed: it is about to, or hangs at that."""
        try:
            return process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._stalled = self._stalled or "hung at its end, and was killed"
            process.kill()
            return process.wait()

    def _close_channel(self) -> None:
        assert self._socket is not None
        self._socket.close()
        self._socket = None
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _restart(self, said: str = "") -> None:
        """Try until it works: a system that is short of processes, files or memory now may not be later."""
        if self._closing:
            return
        try:
            self.start()
        except OSError as error:
            text = error.strerror or str(error)
            if text != said:
                _log.warning("cannot start the executor: %s; tried again every %g s", text, _RESTART_SECONDS)
            self._loop.call_later(_RESTART_SECONDS, self._restart, text)


class _Incoming:
    """One message being read from a non-blocking socket."""

    def __init__(self) -> None:
        self._prefix = bytearray(PREFIX.size)
        self._view = memoryview(self._prefix)
        self._body: bytearray | None = None
        self._header_length = 0

    def read(self, sock: socket.socket) -> tuple[dict[str, Any], memoryview] | None:
        """The message once it is whole; raises BlockingIOError before, EOFError at the end.

        What is no message raises one of ``_NONSENSE``.
        """
        while True:
            while len(self._view):
                received = sock.recv_into(self._view)
                if received == 0:
                    raise EOFError
                self._view = self._view[received:]
            if self._body is None:
                self._header_length, body_length = PREFIX.unpack(self._prefix)
                if self._header_length > _HEADER_BYTES or body_length > _BODY_BYTES:
                    raise ValueError(f"a message of {self._header_length} and {body_length} bytes")
                self._body = bytearray(self._header_length + body_length)
                self._view = memoryview(self._body)
                continue
            whole = memoryview(self._body)
            header = msgpack.unpackb(whole[: self._header_length], strict_map_key=True)
            if not isinstance(header, dict):
                raise ValueError("the header is no map")
            body = whole[self._header_length :]
            self._body = None
            self._view = memoryview(self._prefix)
            return header, body


def _open_request(path: Path, manifest: Manifest) -> _Request:
    return _Request(None, {"do": "open", "path": str(path)}, encode_json(manifest))


def _event_of(action: Action | None, answer: dict[str, Any], body: memoryview) -> Event | None:
    code, text = answer.get("code"), str(answer.get("text", ""))
    if code is not None and not isinstance(code, str):
        raise ValueError("the code of an error is no text")
    if isinstance(action, RunUnits):
        if code is not None:
            return RunFailed(action.run, code, text)
        return RunFinished(action.run, body, _amount(answer["run_seconds"]), _amount(answer["code_seconds"]))
    if isinstance(action, LoadUnits):
        if code is not None:
            return RangeRefused(action.digest, action.start, action.stop, text)
        return RangeLoaded(action.digest, action.start, action.stop, int(_amount(answer["memory"])))
    if isinstance(action, MeasureUnits):
        if code is not None:
            return RangeRefused(action.digest, action.start, action.stop, text)
        seconds, spread = _amount(answer["seconds"]), _amount(answer["spread"])
        return RunMeasured(action.digest, action.start, action.stop, seconds, spread)
    return None


def _amount(value: Any) -> float:
    """Something measured; raises ValueError for what would spoil each figure that it went into."""
    amount = float(value)
    if not (isfinite(amount) and amount >= 0.0):
        raise ValueError(f"{amount} was measured")
    return amount
