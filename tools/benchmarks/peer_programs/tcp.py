"""Bare TCP connections in a ring: requester, first half, second half. A message is its length, its bytes."""

from __future__ import annotations

import socket
import time

from benchmarks.peer_programs.place import FIRST, REQUESTER, SECOND, Arrays, Place, Windowed
from benchmarks.stages import bare_bytes, bare_tensors, receive, send, tune

_CONNECT_SECONDS = 30.0


def serve(place: Place) -> None:
    """Run what the one before sends, for ever."""
    run, boundary = place.half(place.rank), place.boundary(place.rank)
    with socket.create_server(("127.0.0.1", place.ports[place.rank])) as server:
        print("ready", flush=True)
        incoming, _ = server.accept()
        outgoing = _connected(place.ports[SECOND if place.rank == FIRST else REQUESTER])
        while True:
            send(outgoing, bare_bytes(run(bare_tensors(receive(incoming), boundary))))


class Requester(Windowed):
    """Both ends of the ring."""

    def __init__(self, place: Place) -> None:
        self._inputs = place.inputs()
        self._boundary = place.boundary(SECOND + 1)
        with socket.create_server(("127.0.0.1", place.ports[REQUESTER])) as server:
            self._out = _connected(place.ports[FIRST])
            self._in, _ = server.accept()

    def _begin(self) -> None:
        send(self._out, bare_bytes(self._inputs))

    def _end(self) -> Arrays:
        return bare_tensors(receive(self._in), self._boundary)


def _connected(port: int) -> socket.socket:
    ends = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            tune(sock)
            return sock
