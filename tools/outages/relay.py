"""A TCP relay between a device and the broker, whose link can be cut or fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 1 << 16
_CONNECT_SECONDS = 1.0


class Relay:
    """Listens on ``port`` of this machine and carries bytes to ``target`` and back until ``close``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._passes = threading.Event()
        self._passes.set()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server: socket.socket | None = None
        self.port = 0
        self._listen()

    def cut(self) -> None:
        """Close what is connected, and refuse everybody until ``restore``."""
        if self._server is not None:
            _shut(self._server)
            self._server = None
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            _shut(end)

    def mute(self) -> None:
        """Carry nothing until ``restore``: both ends believe in a connection that is silent."""
        self._passes.clear()

    def restore(self) -> None:
        """Carry bytes again."""
        self._passes.set()
        if self._server is None:
            self._listen()

    def close(self) -> None:
        """End for good; safe to call twice."""
        self.cut()
        self._passes.set()

    def _listen(self) -> None:
        server = socket.create_server(("127.0.0.1", self.port))
        self.port = int(server.getsockname()[1])
        self._server = server
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while server is self._server:
            with contextlib.suppress(OSError):
                self._connect(server.accept()[0])

    def _connect(self, inner: socket.socket) -> None:
        try:
            outer = socket.create_connection(("127.0.0.1", self._target), _CONNECT_SECONDS)
        except OSError:
            inner.close()
            return
        outer.settimeout(None)
        with self._lock:
            self._sockets |= {inner, outer}
        for source, sink in ((inner, outer), (outer, inner)):
            # As on both ends, or an acknowledgement would wait for the one before.
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._passes.wait()
                sink.sendall(data)
        with self._lock:
            self._sockets -= {source, sink}
        for end in (source, sink):
            _shut(end)


def _shut(end: socket.socket) -> None:
    # The thread that waits in ``recv`` wakes up by a shutdown; by a close alone it would not.
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
