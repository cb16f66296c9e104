"""Baselines: what somebody writes by hand to run units behind a link, with nothing that is not needed.

``python -m benchmarks.stages tcp FOLDER START STOP LISTEN_PORT NEXT_PORT`` or
``python -m benchmarks.stages paho FOLDER START STOP BROKER_PORT TAKES_TOPIC GIVES_TOPIC``. Tensors travel as
their bare bytes, one after the other; both ends know the shapes.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import opened
from edgemesh.protocol.manifest import Boundary
from edgemesh.runtime.allocation import keep_large_buffers
from edgemesh.runtime.registry import runtime_for

LENGTH = struct.Struct("<I")
QOS = 1
"""Custody needs it, so the minimal program that does the same uses it too."""


class Compute:
    """Units of a model, from bytes to bytes, in this process, on one thread.

    With the allocator set as in our executors: it makes some networks half as fast again, and that is no part
    of what a link costs.
    """

    def __init__(self, folder: Path, start: int, stop: int) -> None:
        keep_large_buffers()
        model = opened(folder)
        runtime = runtime_for(model.manifest.format)
        self._loaded = runtime.open(model.path, model.manifest, 1).load(start, stop)
        self._boundary = model.manifest.boundaries[start]

    def __call__(self, payload: bytes | bytearray | memoryview) -> list[memoryview]:
        return bare_bytes(self._loaded.run(bare_tensors(payload, self._boundary)))


def bare_bytes(arrays: list[np.ndarray[Any, Any]]) -> list[memoryview]:
    """The bytes of each array."""
    return [memoryview(np.ascontiguousarray(array).reshape(-1)).cast("B") for array in arrays]


def bare_tensors(payload: bytes | bytearray | memoryview, boundary: Boundary) -> list[np.ndarray[Any, Any]]:
    """Views of the payload."""
    arrays, position = [], 0
    for tensor in boundary:
        array = np.frombuffer(payload, tensor.dtype, tensor.elements, position)
        arrays.append(array.reshape(tensor.shape))
        position += tensor.nbytes
    return arrays


def send(sock: socket.socket, parts: list[memoryview]) -> None:
    """One message: its length, then its bytes."""
    sock.sendall(LENGTH.pack(sum(len(part) for part in parts)))
    for part in parts:
        sock.sendall(part)


def receive(sock: socket.socket) -> bytearray:
    """The next message; EOFError when the other end is gone."""
    payload = bytearray(LENGTH.unpack(_exactly(sock, bytearray(LENGTH.size)))[0])
    return _exactly(sock, payload)


def _exactly(sock: socket.socket, buffer: bytearray) -> bytearray:
    view = memoryview(buffer)
    while len(view):
        received = sock.recv_into(view)
        if received == 0:
            raise EOFError
        view = view[received:]
    return buffer


def tune(sock: socket.socket) -> None:
    """Without this a small message waits up to 40 ms for the acknowledgement of the one before."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def paho_client(port: int) -> Any:
    """A connected paho client as everybody uses it, but without Nagle's delay: that would be no opponent."""
    import paho.mqtt.client as paho

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_socket_open = lambda client, userdata, sock: tune(sock)
    client.connect("127.0.0.1", port)
    return client


class PahoRequests:
    """The requester's end: publish, then wait on an event for the answer."""

    def __init__(self, port: int, gives: str, takes: str) -> None:
        self._gives = gives
        self._came = threading.Event()
        self._payload = b""
        subscribed = threading.Event()
        self.client = paho_client(port)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *arguments: subscribed.set()
        self.client.subscribe(takes, QOS)
        self.client.loop_start()
        subscribed.wait(10.0)

    def __call__(self, payload: bytes) -> bytes:
        self._came.clear()
        self.client.publish(self._gives, payload, QOS)
        if not self._came.wait(30.0):
            raise TimeoutError("the paho baseline did not answer")
        return self._payload

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self._payload = message.payload
        self._came.set()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def serve_paho(compute: Compute, port: int, takes: str, gives: str) -> None:
    """Run what arrives on a topic, publish what comes out on another, for ever."""

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        parts = compute(message.payload)
        client.publish(gives, bytes(parts[0]) if len(parts) == 1 else b"".join(parts), QOS)

    client = paho_client(port)
    client.on_message = on_message
    client.on_subscribe = lambda *arguments: print("ready", flush=True)
    client.subscribe(takes, QOS)
    client.loop_forever()


def serve_tcp(compute: Compute, port: int, following: int) -> None:
    """Run what the one client sends, send what comes out to the next stage, for ever."""
    with socket.create_server(("127.0.0.1", port)) as server:
        print("ready", flush=True)
        incoming, _ = server.accept()
        outgoing = socket.create_connection(("127.0.0.1", following))
        tune(outgoing)
        while True:
            send(outgoing, compute(receive(incoming)))


def main() -> None:
    """See the module."""
    link, folder, start, stop, *arguments = sys.argv[1:]
    compute = Compute(Path(folder), int(start), int(stop))
    try:
        if link == "tcp":
            serve_tcp(compute, *map(int, arguments))
        else:
            serve_paho(compute, int(arguments[0]), arguments[1], arguments[2])
    except (EOFError, ConnectionError):
        return  # the measurement is over


if __name__ == "__main__":
    main()
