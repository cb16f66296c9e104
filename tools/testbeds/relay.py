"""Relay: holds back what passes between a device and the broker, as its link would.

``python -m testbeds.relay LISTEN HOST PORT`` takes settings as lines of JSON on standard input, such as
``{"up": [13500000, 0.0015, 0], "down": [null, 0.0015, 0]}``: bytes per second (null where something else
limits the rate), seconds of delay, and the standard deviation of the delay, each way. It answers each line
with the bytes that it took in so far, ``[up, down]``; ``{}`` only asks. It reads ahead, so that a delay alone
never limits the rate. A change counts for the bytes that come after it, and no byte overtakes another.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

_CHUNK = 1 << 16
_AHEAD = 64 << 20
"""Bytes that may be held back; whoever sends more waits, as on a full link."""


@dataclass
class Way:
    """One direction of a device's link; all its connections share it."""

    rate: float | None = None
    """Bytes per second; None does not limit it."""
    delay: float = 0.0
    jitter: float = 0.0
    """Standard deviation of the delay, in seconds."""
    nbytes: int = 0
    """Taken in so far."""
    _free_at: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def due(self, now: float, nbytes: int) -> float:
        """When bytes that come in at ``now`` may leave."""
        with self._lock:
            self.nbytes += nbytes
            taken = 0.0 if self.rate is None else nbytes / self.rate
            self._free_at = max(now, self._free_at) + taken
            late = random.gauss(0.0, self.jitter) if self.jitter else 0.0
            return self._free_at + max(0.0, self.delay + late)


class HeldBack:
    """Bytes under way in one direction of one connection: first in, first out, none before its time."""

    def __init__(self, way: Way, clock: Callable[[], float] = time.monotonic) -> None:
        self._way = way
        self._clock = clock
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._nbytes = 0
        self._changed = threading.Condition()
        self._over = False

    def put(self, data: bytes) -> None:
        """Take ``data`` in; waits while too much is held back. Empty data is the end."""
        due = self._way.due(self._clock(), len(data))
        with self._changed:
            while self._nbytes > _AHEAD and not self._over:
                self._changed.wait()
            self._waiting.append((due, data))
            self._nbytes += len(data)
            self._changed.notify_all()

    def take(self) -> bytes:
        """The next bytes, once they are due; waits for them."""
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait()
            if self._over:
                return b""
            due, data = self._waiting[0]
        if (left := due - self._clock()) > 0.0:
            time.sleep(left)
        with self._changed:
            if self._waiting:
                self._waiting.popleft()
                self._nbytes -= len(data)
            self._changed.notify_all()
        return data

    def end(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Relay:
    """Accepts connections on this machine's loopback and carries each to ``target``."""

    def __init__(self, port: int, target: tuple[str, int]) -> None:
        self.up, self.down = Way(), Way()
        self._target = target
        self._server = socket.create_server(("127.0.0.1", port))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.getsockname()[1])

    def set(self, up: Sequence[float | None], down: Sequence[float | None]) -> None:
        """Rate, delay and jitter of each way from now on."""
        for way, (rate, delay, jitter) in ((self.up, up), (self.down, down)):
            way.rate, way.delay, way.jitter = rate, delay or 0.0, jitter or 0.0

    def serve(self) -> None:
        """Accept until ``close``."""
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._server.close()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, 5.0)
            far.settimeout(None)
        except OSError:
            near.close()
            return
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink, way in ((near, far, self.up), (far, near, self.down)):
            held = HeldBack(way)
            for step in (self._read, self._write):
                threading.Thread(target=step, args=(source, sink, held), daemon=True).start()

    def _read(self, source: socket.socket, sink: socket.socket, held: HeldBack) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            held.put(data)

    def _write(self, source: socket.socket, sink: socket.socket, held: HeldBack) -> None:
        with suppress(OSError):
            while data := held.take():
                sink.sendall(data)
        held.end()
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def main() -> None:
    """See the module; ends when its standard input does."""
    listen, host, port = sys.argv[1:]
    relay = Relay(int(listen), (host, int(port)))
    threading.Thread(target=relay.serve, daemon=True).start()
    print(relay.port, flush=True)
    for line in sys.stdin:
        setting = json.loads(line)
        if setting:
            relay.set(setting["up"], setting["down"])
        print(json.dumps([relay.up.nbytes, relay.down.nbytes]), flush=True)


if __name__ == "__main__":
    main()
