"""The way into a device's agent for programs on the same machine: jobs in, results out, no broker hop.

A Unix socket in the device's directory, by default in the cache, with the frames of ``runtime/channel.py``.
The file's mode lets only the agent's own user connect, and programs send to no socket of another user.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack

from edgemesh.errors import BrokerError, DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.ids import is_digest
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted
from edgemesh.runtime.channel import PREFIX, pack_message

_LONGEST_NAME = 100
"""Bytes; Unix sockets take 107."""
_DESCRIPTORS = Path("/proc/self/fd")
_CREDENTIALS = struct.Struct("=iII")
"""Process, user and group."""
_LOOK_SECONDS = 3.0
"""Between two looks whether the socket that another agent has is free."""
_log = logging.getLogger("edgemesh")


def lane_path(directory: Path) -> Path:
    """Where the agent that keeps its files in ``directory`` listens."""
    return directory.absolute() / "jobs.sock"


@contextlib.contextmanager
def _socket_name(path: Path) -> Iterator[str]:
    """What a socket at ``path`` is called as long as this is open; raises OSError.

    A path that is too long is named by way of its open folder. So agent and program need no second place to
    agree on, where another user might be first.
    """
    if len(os.fsencode(path)) < _LONGEST_NAME:
        yield str(path)
        return
    if not _DESCRIPTORS.is_dir():
        raise OSError(errno.ENAMETOOLONG, f"too long without {_DESCRIPTORS}: shorten --directory")
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"{_DESCRIPTORS}/{folder}/{path.name}"
    finally:
        os.close(folder)


def pack_job(job: JobSubmitted) -> list[Any]:
    """Buffers of a submission."""
    header = {"job": job.job, "model": job.model, "left": job.left, "stream": job.stream}
    if job.route is not None:
        header["route"] = [to_plain(hop) for hop in job.route]
    if job.digest is not None:
        header["digest"] = job.digest
    return pack_message(header, [job.section])


def unpack_job(header: dict[str, Any], body: memoryview) -> JobSubmitted:
    """The submission; raises DecodeError."""
    route = header.get("route")
    texts = [header.get("job"), header.get("model")]
    left, stream, digest = header.get("left"), header.get("stream"), header.get("digest")
    if not all(isinstance(text, str) for text in texts) or not isinstance(left, float):
        raise DecodeError("a job on the local lane lacks its id, model or deadline")
    if stream is not None and not isinstance(stream, str):
        raise DecodeError("a job on the local lane is of a stream that has no name")
    if digest is not None and not is_digest(digest):
        raise DecodeError("a job on the local lane names content by what is no digest")
    hops = None if route is None else tuple(from_plain(Hop, hop) for hop in route)
    return JobSubmitted(texts[0], texts[1], body, left, stream, hops, digest)  # type: ignore[arg-type]


def pack_ended(ended: JobEnded) -> list[Any]:
    """Buffers of a result or error."""
    header = {
        "job": ended.job,
        "model": ended.model,
        "seconds": ended.seconds,
        "code": ended.code,
        "text": ended.text,
        "route": [to_plain(hop) for hop in ended.route],
        "timings": [to_plain(timing) for timing in ended.timings],
        "attempts": ended.attempts,
        "predicted": ended.predicted,
        "digest": ended.digest,
        "alone": ended.alone,
    }
    return pack_message(header, [ended.section])


def unpack_ended(header: dict[str, Any], body: memoryview) -> JobEnded:
    """The result or error."""
    return JobEnded(
        header["job"],
        header["model"],
        header["seconds"],
        header["code"],
        header["text"],
        body,
        tuple(from_plain(Hop, hop) for hop in header["route"]),
        tuple(from_plain(Timing, timing) for timing in header["timings"]),
        header["attempts"],
        header["predicted"],
        header.get("digest", ""),
        alone=header.get("alone", False),  # agents of before do not say it
    )


class Frames(asyncio.Protocol):
    """Splits a byte stream into messages; a malformed one closes the connection."""

    def __init__(
        self,
        on_message: Callable[[dict[str, Any], memoryview], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport for answers."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """Collect bytes and hand on whole messages."""
        self._buffer += data
        while len(self._buffer) >= PREFIX.size:
            header_length, body_length = PREFIX.unpack_from(self._buffer)
            if header_length > limits.HEADER_BYTES or body_length > limits.TENSOR_BYTES:
                self.close()
                return
            end = PREFIX.size + header_length + body_length
            if len(self._buffer) < end:
                return
            whole = bytes(self._buffer[PREFIX.size : end])
            del self._buffer[:end]
            try:
                header = msgpack.unpackb(whole[:header_length], strict_map_key=True)
                self._on_message(header, memoryview(whole)[header_length:])
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DecodeError):
                self.close()
                return

    def send(self, buffers: list[Any]) -> None:
        """Send one message."""
        if self.transport is not None and not self.transport.is_closing():
            # From Python 3.12 on an empty last buffer is never done with: the loop would spin.
            self.transport.writelines([buffer for buffer in buffers if len(buffer)])

    def close(self) -> None:
        """Close the connection once what was sent is out; nothing more is received."""
        if self.transport is not None:
            self.transport.close()


class LaneServer:
    """The agent's side: submissions become events, ends go back to who submitted."""

    def __init__(
        self,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        submit: Callable[[JobSubmitted], None],
        cancel: Callable[[str], None],
        manifest: Callable[[str], Manifest | None],
    ) -> None:
        self._path = path
        self._loop = loop
        self._submit = submit
        self._cancel = cancel
        self._manifest = manifest
        self._owners: dict[str, Frames] = {}
        self._programs: set[Frames] = set()
        self._server: asyncio.Server | None = None
        self._named = contextlib.ExitStack()
        """Open as long as the socket is: from Python 3.13 on its end looks for the file by its name."""
        self._bound: os.stat_result | None = None
        self._stopped = False

    async def start(self) -> None:
        """Listen, once no other agent does and the system allows it; a stale socket file is replaced.

        A full disk has no room for a socket either, and may have some later: tried until ``stop``. Raises
        OSError where only another folder helps.
        """
        said = ""
        while not self._stopped:
            try:
                if not is_served(self._path):
                    await self._listen()
                    return
                text = (
                    f"another agent has {self._path}: programs on this machine reach that one until it ends"
                )
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise
                why = error.strerror or error
                text = f"programs on this machine cannot reach this agent at {self._path} for now: {why}"
            if text != said:
                said = text
                _log.warning("%s", text)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _listen(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(self._named.enter_context(_socket_name(self._path)))
            # As long as nobody listens nobody can connect. The umask would do it, too, but for all that this
            # process makes meanwhile.
            self._path.chmod(0o600)
            self._bound = self._path.stat()
            self._server = await self._loop.create_unix_server(self._client, sock=sock, start_serving=False)
        except BaseException:
            sock.close()
            self._named.close()
            raise
        await self._server.start_serving()

    def ended(self, ended: JobEnded) -> None:
        """Send an end to the program that submitted the job."""
        owner = self._owners.pop(ended.job, None)
        if owner is not None:
            owner.send(pack_ended(ended))

    def stop(self) -> None:
        """Tell the programs, close the socket and remove its file, unless that is another agent's by now."""
        self._stopped = True
        self._owners.clear()
        for program in self._programs:
            program.close()
        if self._server is not None:
            # Before it is closed: its inode cannot be another one's so far.
            try:
                if self._bound is not None and os.path.samestat(self._path.stat(), self._bound):
                    self._path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:  # a worn card is read-only by now: whoever listens next replaces it
                _log.warning("cannot remove the socket %s: %s", self._path, error.strerror)
            self._server.close()
        self._named.close()

    def _client(self) -> Frames:
        def received(header: dict[str, Any], body: memoryview) -> None:
            if self._stopped:
                frames.close()  # it connected as we stopped
                return
            if "manifest" in header:
                manifest = self._manifest(str(header["manifest"]))
                body_parts = [] if manifest is None else [encode_json(manifest)]
                frames.send(pack_message({"manifest": header["manifest"]}, body_parts))
                return
            job = unpack_job(header, body)
            self._owners[job.job] = frames
            self._submit(job)

        def closed() -> None:
            self._programs.discard(frames)
            for job in [job for job, owner in self._owners.items() if owner is frames]:
                # Not there any more where cancelling the one before has ended it: a frame that is superseded.
                if self._owners.pop(job, None) is not None:
                    self._cancel(job)

        frames = Frames(received, closed)
        self._programs.add(frames)
        return frames


def is_served(path: Path) -> bool:
    """Whether a process listens at the socket: one that died leaves the file."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            with _socket_name(path) as name:
                caller.connect(name)
        except BlockingIOError:
            return True  # more programs wait than its queue takes
        except OSError:
            return False
    return True


async def _connected(path: Path, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """A connection to who listens at ``path`` as our user; raises OSError, and BrokerError for another."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        with _socket_name(path) as name:
            await loop.sock_connect(sock, name)
        # Of who listens, whatever has become of the file meanwhile (unix(7)).
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, owner, _ = _CREDENTIALS.unpack(peer)
        if owner != (user := os.geteuid()):  # it would get our inputs, and could answer what it likes
            raise BrokerError(
                f"who listens at {path} is user {owner}, and this program runs as user {user}: run it as the "
                "user of  edgemesh device run,  or give that a --directory where nobody else writes"
            )
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_lane(
    path: Path,
    loop: asyncio.AbstractEventLoop,
    on_ended: Callable[[JobEnded], None],
    on_manifest: Callable[[str, Manifest | None], None],
    on_closed: Callable[[], None],
) -> Frames:
    """The client's side; raises BrokerError when no agent listens, or one of another user."""

    def received(header: dict[str, Any], body: memoryview) -> None:
        if "manifest" in header:
            on_manifest(header["manifest"], decode_json(Manifest, body) if len(body) else None)
        else:
            on_ended(unpack_ended(header, body))

    frames = Frames(received, on_closed)
    try:
        sock = await _connected(path, loop)
        await loop.create_unix_connection(lambda: frames, sock=sock)
    except (OSError, FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
        raise BrokerError(
            f"no agent of that device listens at {path} ({error.strerror or error}): "
            "start  edgemesh device run  on this machine, and name its --directory where it has one"
        ) from None
    return frames
