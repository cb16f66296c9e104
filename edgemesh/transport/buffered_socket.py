"""A socket for paho that makes few system calls.

paho reads the first byte of a packet, each byte of its length and its rest by a call of their own, and writes
each packet by one: nine for a small request and its answer. Here they are three.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import deque
from typing import Any

_READ_BYTES = 1 << 18
_JOINED_BYTES = 1 << 16
"""Packets are sent together up to this size: a PUBACK rides with the message before it."""
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BufferedSocket:
    """What paho asks of a plain or TLS socket; what paho writes goes out with ``flush``."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._position = self._end = 0
        self._drained = False
        self._unsent: deque[bytes | bytearray | memoryview] = deque()

    def readable(self) -> None:
        """The socket has something to read again."""
        self._drained = False

    def pending(self) -> int:
        """Bytes received and not read yet, which select does not see."""
        held = self._end - self._position
        return held + self._socket.pending() if self._tls else held

    def recv(self, size: int) -> memoryview:
        """At most ``size`` bytes, none at the end; raises BlockingIOError when there are none yet.

        They are valid until the next call.
        """
        start = self._position
        if start == self._end:
            if self._drained:
                raise BlockingIOError
            received = self._socket.recv_into(self._buffer)
            # A TLS socket gives one record at a time, so only of a plain one this means that it is empty.
            self._drained = 0 < received < _READ_BYTES and not self._tls
            self._end = received
            start = 0
        self._position = min(start + size, self._end)
        return self._view[start : self._position]

    def send(self, data: bytes | bytearray) -> int:
        """Take all of ``data``, which must not be changed afterwards."""
        self._unsent.append(data)
        return len(data)

    def flush(self) -> bool:
        """Send what is unsent; True when nothing is left. Raises OSError when the connection broke."""
        unsent = self._unsent
        while unsent:
            data = unsent.popleft()
            while unsent and len(data) + len(unsent[0]) <= _JOINED_BYTES:
                data = b"".join((data, unsent.popleft()))
            try:
                sent = self._socket.send(data)
            except _AGAIN:
                unsent.appendleft(data)
                return False
            if sent < len(data):
                unsent.appendleft(memoryview(data)[sent:])
        return True

    def close(self) -> None:
        """Send what can be sent at once, such as a DISCONNECT, and close."""
        with contextlib.suppress(OSError):
            self.flush()
        self._unsent.clear()
        self._socket.close()

    def fileno(self) -> int:
        """As the socket's."""
        return self._socket.fileno()  # type: ignore[no-any-return]

    def setblocking(self, flag: bool) -> None:
        """As the socket's."""
        self._socket.setblocking(flag)
