"""Framed messages over a socket pair between an agent and its executor: a msgpack header and raw bytes.

``u32 header length | u32 body length | header | body``; the executor receives the body where it stays. Larger
bodies lie in memory that both processes see (``runtime/shared_bodies.py``).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgpack

PREFIX: Final = struct.Struct("<II")
BUFFER_BYTES: Final = 4 << 20

Buffer = bytes | bytearray | memoryview


def pack_message(header: dict[str, Any], parts: Sequence[Buffer] = ()) -> list[Buffer]:
    """Buffers to send, in order."""
    packed = msgpack.packb(header)
    return [PREFIX.pack(len(packed), sum(len(part) for part in parts)), packed, *parts]


def widen(sock: socket.socket) -> None:
    """Buffers large enough that an activation usually passes in one system call."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def send_all(sock: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Send every byte of the buffers on a blocking socket, without joining them first."""
    views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    while views:
        sent = sock.sendmsg(views[:64])
        while views and sent >= len(views[0]):
            sent -= len(views[0])
            views.pop(0)
        if sent:
            views[0] = views[0][sent:]


class BlockingReader:
    """Reads messages one after the other; the body is valid until the next ``read``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(1 << 16)

    def read(self) -> tuple[dict[str, Any], memoryview] | None:
        """``(header, body)``, or None when the other end is gone."""
        prefix = bytearray(PREFIX.size)
        if not self._fill(memoryview(prefix)):
            return None
        header_length, body_length = PREFIX.unpack(prefix)
        header = bytearray(header_length)
        if len(self._buffer) < body_length:
            self._buffer = bytearray(body_length)
        body = memoryview(self._buffer)[:body_length]
        if not self._fill(memoryview(header)) or not self._fill(body):
            return None
        return msgpack.unpackb(header, strict_map_key=True), body

    def _fill(self, view: memoryview) -> bool:
        while len(view):
            received = self._sock.recv_into(view)
            if received == 0:
                return False
            view = view[received:]
        return True
