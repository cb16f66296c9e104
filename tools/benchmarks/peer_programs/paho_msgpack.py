"""paho through Mosquitto (QoS 1), tensors in msgpack: what somebody writes in an afternoon."""

from __future__ import annotations

import queue
import threading
from typing import Any

import msgpack
import numpy as np

from benchmarks.peer_programs.place import FIRST, REQUESTER, SECOND, Arrays, Place, Windowed
from benchmarks.stages import QOS, paho_client

_TOPICS = ("answers", "first", "second")
_WAIT_SECONDS = 120.0
"""Longer than the benchmark waits: whoever writes ``get()`` waits for ever."""


def _packed(arrays: Arrays) -> bytes:
    plain = [{"shape": each.shape, "dtype": each.dtype.str, "data": each.tobytes()} for each in arrays]
    return bytes(msgpack.packb(plain))


def _unpacked(payload: bytes) -> Arrays:
    tensors = msgpack.unpackb(payload)
    return [np.frombuffer(each["data"], each["dtype"]).reshape(each["shape"]) for each in tensors]


def serve(place: Place) -> None:
    """Run what arrives, publish what comes out, for ever."""
    run = place.half(place.rank)
    following = _TOPICS[SECOND if place.rank == FIRST else REQUESTER]

    def on_message(client: Any, userdata: Any, message: Any) -> None:
        client.publish(following, _packed(run(_unpacked(message.payload))), QOS)

    client = paho_client(place.ports[0])
    client.on_message = on_message
    client.on_subscribe = lambda *arguments: print("ready", flush=True)
    client.subscribe(_TOPICS[place.rank], QOS)
    client.loop_forever()


class Requester(Windowed):
    """A client whose callback puts answers into a queue."""

    def __init__(self, place: Place) -> None:
        self._inputs = place.inputs()
        self._answers: queue.Queue[bytes] = queue.Queue()
        subscribed = threading.Event()
        self._client = paho_client(place.ports[0])
        self._client.on_message = lambda client, userdata, message: self._answers.put(message.payload)
        self._client.on_subscribe = lambda *arguments: subscribed.set()
        self._client.subscribe(_TOPICS[REQUESTER], QOS)
        self._client.loop_start()
        subscribed.wait(10.0)

    def _begin(self) -> None:
        self._client.publish(_TOPICS[FIRST], _packed(self._inputs), QOS)

    def _end(self) -> Arrays:
        return _unpacked(self._answers.get(timeout=_WAIT_SECONDS))
