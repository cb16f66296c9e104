"""A broker of a few lines that keeps what it is told, and acknowledges as a test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

CONNACK = bytes((0x20, 3, 0, 0, 0))
_CONNECT, _PUBLISH, _PUBACK, _PING, _DISCONNECT = 1, 3, 4, 12, 14


class RecordingBroker:
    """Pass ``serve`` to ``served``."""

    def __init__(self, connack: bytes = CONNACK, *, acknowledges: bool = True) -> None:
        self.seen: list[str] = []
        """Topics of messages and ``PUBACK`` with their packet ids, in the order of the wire."""
        self.owed: list[int] = []
        """Packet ids that are not acknowledged yet."""
        self.most_owed = 0
        self.acknowledges = acknowledges
        self.reads = asyncio.Event()
        """Cleared, it reads nothing."""
        self.reads.set()
        self.connack = connack
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        self._writer = writer
        try:
            while True:
                first, body = await self._packet(reader)
                self._take(first, body)
                self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def send(self, packet: bytes) -> None:
        """To the client that came last."""
        assert self._writer is not None
        self._writer.write(packet)

    def acknowledge(self) -> None:
        """Everything that is owed."""
        for mid in self.owed:
            self.send(b"\x40\x02" + mid.to_bytes(2, "big"))
        self.owed.clear()

    def drop(self) -> None:
        """End the connection without a word."""
        assert self._writer is not None
        self._writer.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until packets have come that make it true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _packet(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        await self.reads.wait()
        first = (await reader.readexactly(1))[0]
        length, shift, byte = 0, 0, 0x80
        while byte & 0x80:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
        return first, await reader.readexactly(length)

    def _take(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == _CONNECT:
            self.send(self.connack)
        elif kind == _PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            self.seen.append(body[2:end].decode())
            if first & 6:
                self.owed.append(int.from_bytes(body[end : end + 2], "big"))
                self.most_owed = max(self.most_owed, len(self.owed))
            if self.acknowledges:
                self.acknowledge()
        elif kind == _PUBACK:
            self.seen.append(f"PUBACK {int.from_bytes(body[:2], 'big')}")
        elif kind == _PING:
            self.send(b"\xd0\x00")
        elif kind == _DISCONNECT:
            self.seen.append("DISCONNECT")
