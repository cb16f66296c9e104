"""Sends whole WebSocket frames through paho's non-blocking wrapper.

paho 2.2 forgets a packet whose frame the socket took only in part, and counts the rest as sent with the next
one: a message larger than the socket's buffer never arrives (measured with 3 MB).
"""

from __future__ import annotations

import ssl
from typing import Any

_BINARY = 0x2  # RFC 6455, 5.2


class WholeFrames:
    """Takes the place of ``send`` of one of paho's WebSocket connections; keeps what its socket leaves."""

    def __init__(self, connection: Any) -> None:
        self._socket = connection._socket
        self._framed = connection._create_frame
        self._left = bytearray()
        connection.send = self._send

    def flush(self) -> bool:
        """Send what is left; True when nothing is. Raises OSError when the connection broke."""
        while self._left:
            try:
                sent = self._socket.send(self._left)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return False
            del self._left[:sent]
        return True

    def _send(self, data: bytes | bytearray) -> int:
        self._left += self._framed(_BINARY, bytearray(data))
        self.flush()
        return len(data)
