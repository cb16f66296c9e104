"""Times QoS 1 requests and replies through the broker: 44 ms tell of a missing TCP_NODELAY, 1 ms is usual."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from edgemesh.errors import BrokerError
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.session import SessionSettings

NAGLE_SECONDS = 0.035
"""On a local network more than this is Nagle's algorithm waiting for ACKs, which Linux delays 40 ms."""
_TIMEOUT = 8.0
_LEAST_ECHOES, _MOST_ECHOES = 9, 24
_LONG_SECONDS = 3.0
"""After so long the least must do."""


async def measured_echo(address: BrokerAddress, mesh: str = "home") -> float:
    """Seconds that nine in ten QoS 1 request-reply exchanges of two clients of this machine do not exceed.

    Raises BrokerError when the broker is not there, refuses us or loses the messages.
    """
    exchange = _Exchange(address, Topics(mesh))
    try:
        return await asyncio.wait_for(exchange.seconds(), _TIMEOUT)
    except asyncio.TimeoutError:
        raise BrokerError(
            f"no echo through {address} within {_TIMEOUT:g} s: see whether it is overloaded, or whether an "
            f"access rule forbids this user {Topics(mesh).filter('reply')}"
        ) from None
    finally:
        await exchange.close()


def slow_echo(seconds: Sequence[float]) -> float:
    """What nine in ten do not exceed.

    Linux does not delay every ACK: through a broker without TCP_NODELAY mostly 5 to 24 of 24 exchanges took
    44 ms, and the median less than one in two runs of five; with it none took longer than 4 ms (measured).
    """
    return sorted(seconds)[int(0.9 * len(seconds))]


class _Exchange:
    """An asker and an answerer, each on a connection of its own."""

    def __init__(self, address: BrokerAddress, topics: Topics) -> None:
        self._loop = asyncio.get_running_loop()
        token = secrets.token_hex(4)
        self._asks, self._answers = f"echo-a-{token}", f"echo-b-{token}"
        self._topic = {name: topics.build("reply", requester=name) for name in (self._asks, self._answers)}
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._sequence = 0
        self._connections = {
            name: Connection(address, name, self._callbacks(name), SessionSettings(), self._loop)
            for name in self._topic
        }

    def _callbacks(self, name: str) -> Callbacks:
        return Callbacks(
            on_connected=lambda: self._connections[name].subscribe(self._topic[name], 1),
            on_disconnected=self._failed,
            on_message=self._answer if name == self._answers else self._returned,
            on_problem=self._failed,
        )

    async def seconds(self) -> float:
        """Of some exchanges, as ``slow_echo`` says."""
        for connection in self._connections.values():
            connection.start()
        # Both subscriptions hold when a first echo is back; it may need more than one try.
        while not self._done.done():
            self._ask()
            await asyncio.wait([self._done], timeout=0.2)
        self._done.result()
        end, found = self._loop.time() + _LONG_SECONDS, list[float]()
        while len(found) < (_MOST_ECHOES if self._loop.time() < end else _LEAST_ECHOES):
            found.append(await self._timed())
        return slow_echo(found)

    async def close(self) -> None:
        """Disconnect both."""
        for connection in self._connections.values():
            await connection.close([])

    async def _timed(self) -> float:
        self._done = self._loop.create_future()
        self._sequence += 1  # the echo of an earlier try must not end this one
        start = self._loop.time()
        self._ask()
        await self._done
        return self._loop.time() - start

    def _ask(self) -> None:
        self._send(self._asks, self._answers, str(self._sequence).encode())

    def _send(self, sender: str, receiver: str, payload: bytes) -> None:
        if self._connections[sender].connected:
            self._connections[sender].publish(Publish(self._topic[receiver], payload, qos=1))

    def _answer(self, message: IncomingMessage) -> None:
        self._send(self._answers, self._asks, bytes(message.payload))

    def _returned(self, message: IncomingMessage) -> None:
        if message.payload == str(self._sequence).encode() and not self._done.done():
            self._done.set_result(None)

    def _failed(self, text: str) -> None:
        if not self._done.done():
            self._done.set_exception(BrokerError(text))
