"""One port for MQTT 3.1.1 and MQTT 5 in front of a broker that has a port for each (Linux).

The first packet of a connection says its version; from then on the kernel moves the bytes (splice), so a
message of megabytes is never copied through Python.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

_CONNECT = 0x10
_LONGEST_HEAD = 32
_HEAD_SECONDS = 10.0
_CHUNK = 1 << 18
_GRACE = 0.05
_PAUSE_SECONDS = 0.1
"""Before the next try of a machine that has no files or memory left for another client."""
_VANISHED_MS = 30_000
"""A client whose cable was pulled while bytes were on their way to it."""
_MQTT_5 = 5


def protocol_level(head: bytes) -> int | None:
    """Version byte of the CONNECT packet that starts with ``head`` (3 and 4 are MQTT 3, 5 is MQTT 5).

    None while there is too little of it; raises ValueError for anything but a CONNECT.
    """
    if head and head[0] != _CONNECT:
        raise ValueError("no CONNECT packet")
    at = 1
    while at < len(head) and head[at] & 0x80:  # the remaining length: 7 bits per byte (MQTT 5, 1.5.5)
        at += 1
    if at > 4:
        raise ValueError("no CONNECT packet")
    name_length = int.from_bytes(head[at + 1 : at + 3], "big")
    if len(head) < at + 3:
        return None
    if name_length not in (4, 6):  # MQTT, MQIsdp
        raise ValueError("no CONNECT packet")
    level_at = at + 3 + name_length
    return head[level_at] if len(head) > level_at else None


class ProtocolFront:
    """Accepts on ``listener`` and joins each connection with one of two ports of this machine."""

    def __init__(self, listener: socket.socket, port_3: int, port_5: int, most: int) -> None:
        self._listener = listener
        self._port_3, self._port_5 = port_3, port_5
        self._places = threading.BoundedSemaphore(most)

    def serve(self) -> None:
        """Accept until the listener is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(_PAUSE_SECONDS)
                continue
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._join, args=(client,), daemon=True).start()
            except RuntimeError:
                client.close()
                self._places.release()

    def _join(self, client: socket.socket) -> None:
        try:
            # What we have no files or threads for ends, and the client comes again.
            with contextlib.suppress(OSError, ValueError, RuntimeError), client:
                head, level = _read_head(client)
                port = self._port_5 if level == _MQTT_5 else self._port_3
                with socket.create_connection(("127.0.0.1", port), _HEAD_SECONDS) as broker:
                    broker.sendall(head)
                    _relay(client, broker)
        finally:
            self._places.release()


def _read_head(client: socket.socket) -> tuple[bytes, int]:
    client.settimeout(_HEAD_SECONDS)
    head = b""
    while len(head) < _LONGEST_HEAD:
        received = client.recv(_LONGEST_HEAD - len(head))
        head += received
        level = protocol_level(head)
        if level is not None:
            return head, level
        if not received:
            break
    raise ValueError("no CONNECT packet")


def _relay(client: socket.socket, broker: socket.socket) -> None:
    for sock in (client, broker):
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED_MS)
    back = threading.Thread(target=_answer, args=(broker, client), daemon=True)
    back.start()
    _move(client, broker)
    # A client that said DISCONNECT: rumqttd must end it first. When it sees the closed socket too it ends the
    # connection twice, and the second time may hit a client that just came (measured: 3 of 9,700 clients that
    # connected as another left were thrown out; none of 51,900 with this pause. Cause: its source).
    back.join(_GRACE)
    _end(broker)
    back.join()


def _answer(broker: socket.socket, client: socket.socket) -> None:
    _move(broker, client)
    _end(client)


def _move(source: socket.socket, sink: socket.socket) -> None:
    """Move bytes until one side ends."""
    try:
        reader, writer = os.pipe()
    except OSError:
        return  # no files left: who called ends the connection
    try:
        while count := os.splice(source.fileno(), writer, _CHUNK):
            # Neither rumqttd nor most clients set TCP_NODELAY: their second small packet would wait 40 ms for
            # a delayed ACK.
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            while count:
                count -= os.splice(reader, sink.fileno(), count)
    except OSError:
        pass  # reset by one side
    finally:
        os.close(reader)
        os.close(writer)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
