"""The front of the embedded broker on a machine that is short of files, memory or threads for a moment."""

from __future__ import annotations

import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from edgemesh.transport import protocol_front as module
from edgemesh.transport.protocol_front import ProtocolFront

WAIT = 10.0
CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00"
WELCOME = b"\x20\x03\x00\x00\x00"


class Broker:
    """Welcomes whoever comes, and notes who has gone."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.gone: queue.Queue[bool] = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with client, suppress(OSError):
                    client.recv(100)
                    client.sendall(WELCOME)
                    while client.recv(100):
                        pass
                self.gone.put(True)

    def close(self) -> None:
        with self._server:
            self._server.shutdown(socket.SHUT_RDWR)


class Listener:
    """Accepts, after it has raised what it is given to raise."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.fails: list[OSError] = []

    def accept(self) -> tuple[socket.socket, Any]:
        accepted = self._sock.accept()
        if self.fails:
            accepted[0].close()
            raise self.fails.pop()
        return accepted

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)  # or who accepts would wait for one more client
        self._sock.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


@pytest.fixture
def listener(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Where a front with one place listens, which ends with its listener."""
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.001)
    listener = Listener()
    front = ProtocolFront(listener, broker.port, broker.port, 1)  # type: ignore[arg-type]
    serving = threading.Thread(target=front.serve, daemon=True)
    serving.start()
    yield listener
    listener.close()
    serving.join(WAIT)
    assert not serving.is_alive()


def answer(port: int) -> bytes:
    """All that a client gets before it is ended, or until it has its welcome and leaves."""
    with socket.create_connection(("127.0.0.1", port), WAIT) as sock:
        received = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(CONNECT)
            while len(received) < len(WELCOME) and (more := sock.recv(100)):
                received += more
        return received


def is_welcome(port: int) -> bool:
    """Whether a client is welcome as soon as the one before has been cleared away."""
    deadline = time.monotonic() + WAIT
    while answer(port) != WELCOME:
        if time.monotonic() > deadline:
            return False
    return True


def fails_at(calls: set[int], begin: Any, error: Exception) -> Any:
    """``begin``, which raises at the calls of these numbers."""
    count = iter(range(1_000_000))

    def begun(*arguments: Any) -> Any:
        if next(count) in calls:
            raise error
        return begin(*arguments)

    return begun


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_it_accepts_again_when_there_is_room(listener: Listener, number: int) -> None:
    """Found by a reader: nobody could connect any more, for ever."""
    listener.fails = [OSError(number, os.strerror(number)) for _ in range(3)]

    assert [answer(listener.port) for _ in range(3)] == [b""] * 3
    assert is_welcome(listener.port)


@pytest.mark.parametrize("call", [0, 1], ids=["joins", "answers"])
def test_a_client_that_gets_no_thread_is_ended_and_its_place_is_free(
    listener: Listener, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: the front ended, and the place was lost."""
    error = RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", fails_at({call}, threading.Thread.start, error))

    assert answer(listener.port) == b""
    assert is_welcome(listener.port)


@pytest.mark.parametrize("calls", [{0}, {1}, {0, 1}])
def test_a_client_that_gets_no_pipe_is_ended_on_both_sides(
    listener: Listener, broker: Broker, calls: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: one direction was gone, and neither side heard of it."""
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    monkeypatch.setattr(os, "pipe", fails_at(calls, os.pipe, error))

    with socket.create_connection(("127.0.0.1", listener.port), WAIT) as sock:
        sock.sendall(CONNECT)
        while sock.recv(100):
            pass
        assert broker.gone.get(timeout=WAIT)
    assert is_welcome(listener.port)
