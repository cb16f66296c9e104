"""A Connection whose callbacks are awaited one by one."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from edgemesh.roles.actions import Publish
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.broker_search import Whereabouts
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.session import SessionSettings

WAIT = 10.0
"""Seconds after which something that should happen is missing."""


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop; fails when an error reached the loop unseen."""
    unseen: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        await asyncio.wait_for(story, 3 * WAIT)

    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(watched())
    assert not unseen


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve, receive_buffer: int | None = None) -> AsyncIterator[BrokerAddress]:
    """What looks like a broker, and does with each connection what ``serve`` says."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    if receive_buffer is not None:  # of each connection's socket
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    yield BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()


class Agent:
    """An async context manager: connects, and closes at the end."""

    def __init__(
        self,
        broker: Whereabouts,
        client_id: str,
        session: SessionSettings | None = None,
        *,
        leaves_when_taken_over: bool = False,
    ) -> None:
        self._happened: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.connects = 0

        def note(kind: str) -> Any:
            return lambda *what: self._happened.put_nowait((kind, what[0] if what else None))

        def connected() -> None:
            self.connects += 1
            self._happened.put_nowait(("connected", None))

        callbacks = Callbacks(
            on_connected=connected,
            on_disconnected=note("disconnected"),
            on_message=note("message"),
            on_acknowledged=note("acknowledged"),
            on_taken_over=note("taken over") if leaves_when_taken_over else None,
            on_refused=note("refused"),
            on_problem=note("problem"),
            on_message_refused=lambda message, why: self._happened.put_nowait(("not taken", (message, why))),
        )
        self.connection = Connection(
            broker, client_id, callbacks, session or SessionSettings(), asyncio.get_running_loop()
        )

    async def __aenter__(self) -> Agent:
        self.connection.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.connection.close([])

    async def hears(self, kind: str) -> Any:
        """What came with the next callback of that kind; others before it are dropped."""
        while True:
            happened, what = await self.next()
            if happened == kind:
                return what

    async def next(self) -> tuple[str, Any]:
        """The next callback of any kind, and what came with it."""
        return await asyncio.wait_for(self._happened.get(), WAIT)

    def publish(self, topic: str, payload: bytes, qos: int = 1, **others: Any) -> None:
        self.connection.publish(Publish(topic, payload, qos, **others))

    async def subscribed(self, topic: str) -> None:
        """Subscribe, and wait until the broker sends what is published there."""
        self.connection.subscribe(topic, 1)
        self.publish(topic, b"subscribed?")
        message = await self.hears("message")
        assert bytes(message.payload) == b"subscribed?"
        self.connection.acknowledge(message.mid, message.qos)
