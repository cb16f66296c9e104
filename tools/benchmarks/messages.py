"""One hop of the messaging alone: our connection, framing and tensor codec, no role and no executor process.

``python -m benchmarks.messages FOLDER BROKER_PORT`` answers activations by running the model in its own
process, as the hand-written baseline does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import opened
from edgemesh.node.shared_loop import SharedLoop
from edgemesh.protocol.activation import (
    Activation,
    Hop,
    Reply,
    decode_activation,
    decode_reply,
    encode_activation,
    encode_reply,
)
from edgemesh.protocol.tensors import decode_tensors, encode_tensors
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.runtime.allocation import keep_large_buffers
from edgemesh.runtime.registry import runtime_for
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.session import SessionSettings

_TOPICS = Topics("hop")
_WORK = _TOPICS.build("work", device="worker")
_REPLY = _TOPICS.build("reply", requester="asker")


def _connected(
    port: int,
    name: str,
    topic: str,
    loop: asyncio.AbstractEventLoop,
    on_message: Callable[[IncomingMessage], None],
    ready: Callable[[], None],
) -> Connection:
    def connect() -> None:
        connection.subscribe(topic, 1)
        loop.call_later(0.3, ready)  # the SUBACK is not told; a retained message would be as slow

    callbacks = Callbacks(connect, lambda reason: None, on_message)
    connection = Connection(BrokerAddress("127.0.0.1", port), name, callbacks, SessionSettings(), loop)
    connection.start()
    return connection


class MessageRequests:
    """The requester's end: a caller that waits for the answer, as the client library does."""

    def __init__(self, port: int, digest: str, units: int) -> None:
        self._header = Activation(
            "job", "asker", "echo", digest, 0, (Hop("worker", units),), 0, 30.0, "asker"
        )
        self._shared = SharedLoop("hop-asker")
        self._answer: Future[list[np.ndarray[Any, Any]]] = Future()
        loop = self._shared.loop
        ready: Future[None] = Future()

        def connect() -> None:
            listening = partial(ready.set_result, None)
            self._connection = _connected(port, "hop-asker", _REPLY, loop, self._on_message, listening)

        self._shared.run(connect, ready)

    def __call__(self, array: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        self._answer = Future()
        payload = encode_activation(self._header, encode_tensors([array]))
        message = Publish(_WORK, payload, 1, expiry=30.0)
        return self._shared.run(partial(self._connection.publish, message), self._answer)

    def close(self) -> None:
        self._shared.run_coroutine(self._connection.close([]))
        self._shared.close()

    def _on_message(self, message: IncomingMessage) -> None:
        _, section = decode_reply(message.payload)
        self._answer.set_result(decode_tensors(section))


async def _serve(folder: Path, port: int) -> None:
    keep_large_buffers()  # as an agent does
    model = opened(folder)
    units = model.manifest.unit_count
    loaded = runtime_for(model.manifest.format).open(model.path, model.manifest, 1).load(0, units)

    def on_message(message: IncomingMessage) -> None:
        header, section = decode_activation(message.payload)
        outputs = loaded.run(decode_tensors(section))
        reply = Reply(header.job, header.requester, header.attempt, "worker", position=units)
        payload = encode_reply(reply, encode_tensors(outputs))
        connection.publish(Publish(_REPLY, payload, 1, expiry=header.left))

    loop = asyncio.get_running_loop()
    connection = _connected(port, "hop-worker", _WORK, loop, on_message, lambda: print("ready", flush=True))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
