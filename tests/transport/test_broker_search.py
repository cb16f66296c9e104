"""Where a node looks for a broker that nobody named, and when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from edgemesh.errors import MissingExtraError
from edgemesh.transport import broker_search as module
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.broker_search import PATIENCE, BrokerSearch
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.greeting import ACCEPTED
from edgemesh.transport.session import SessionSettings
from tests.brokers.peer import Peer
from tests.brokers.servers import Mosquitto, free_port
from tests.transport.agent import Agent, run
from tests.transport.virtual_loop import VirtualLoop

HERE = BrokerAddress("localhost", 1883)
THERE, ELSEWHERE = BrokerAddress("192.0.2.7", 1883), BrokerAddress("192.0.2.8", 1999)
WRONG_USER = 0x86


class Network:
    """What answers on this machine and what announces itself."""

    def __init__(self) -> None:
        self.here: int | None = None
        self.announced: BrokerAddress | Exception | None = None

    def find(self, timeout: float) -> BrokerAddress | None:
        if isinstance(self.announced, Exception):
            raise self.announced
        return self.announced


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(module, "greeting", lambda host, port: network.here)
    monkeypatch.setattr(module, "find_broker", network.find)
    return network


def test_a_command_takes_what_there_is_at_once(network: Network) -> None:
    network.announced = THERE
    assert BrokerSearch(HERE).look() == THERE

    network.here = ACCEPTED
    assert BrokerSearch(HERE).look() == HERE


def test_a_broker_that_begins_later_than_its_node_is_waited_for_before_a_stranger_is_taken(
    network: Network,
) -> None:
    """Found by a reader: after a power cut a mesh was split, because a device took the first stranger."""
    network.announced = THERE
    search = BrokerSearch(HERE)

    assert search.look(PATIENCE - 1.0) == HERE
    assert search.look(PATIENCE) == THERE


def test_a_broker_that_moved_is_followed_and_one_on_this_machine_goes_first(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: a device kept to the port that its broker had before."""
    search = BrokerSearch(HERE)
    network.announced = THERE
    search.look()
    network.announced = ELSEWHERE

    assert search.look(PATIENCE - 1.0) == THERE  # it may be back any moment
    assert [search.look(away) for away in (PATIENCE, PATIENCE + 5.0)] == [ELSEWHERE, ELSEWHERE]
    network.here = ACCEPTED
    assert search.look(1.0) == HERE

    assert [record.message for record in caplog.records] == [
        f"using the broker at {THERE}, which announces itself by mDNS",
        f"using the broker at {ELSEWHERE}, which announces itself by mDNS",
        f"using the broker at {HERE}, which answers on this machine",
    ]


def test_no_broker_is_left_for_one_on_this_machine_that_refuses(network: Network) -> None:
    network.here = WRONG_USER
    network.announced = THERE
    assert BrokerSearch(HERE).look() == HERE  # its refusal names what to do

    network.here = None
    search = BrokerSearch(HERE)
    search.look()
    network.here = WRONG_USER
    assert search.look() == THERE


@pytest.mark.parametrize(
    ("announced", "level"),
    [
        (None, logging.WARNING),
        (MissingExtraError("zeroconf is not installed"), logging.INFO),
        (OSError(101, "Network is unreachable"), logging.INFO),
    ],
)
def test_where_nothing_is_found_it_stays_and_says_so_once(
    announced: Exception | None, level: int, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    network.announced = announced
    search = BrokerSearch(HERE)

    with caplog.at_level(logging.INFO, "edgemesh"):
        assert [search.look() for _ in range(3)] == [HERE] * 3

    assert [record.levelno for record in caplog.records] == [level]
    assert f"nothing answers at {HERE}" in caplog.text


class Asked(BrokerSearch):
    """Notes for how long no broker was reached, and what time it was; finds none."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(BrokerAddress("127.0.0.1", free_port()))
        self.told: list[float] = []
        self._clock = clock
        self.at: list[float] = []

    def look(self, away: float = 0.0) -> BrokerAddress:
        self.told.append(away)
        self.at.append(self._clock())
        return self.address


def test_a_connection_asks_after_its_first_attempt_and_says_how_long_it_is_without() -> None:
    loop = VirtualLoop()
    loop.now = 100.0
    search = Asked(loop.time)
    nothing = Callbacks(lambda: None, lambda text: None, lambda message: None)

    Connection(search, "agent", nothing, SessionSettings(), loop).start()  # type: ignore[arg-type]
    loop.run(until=130.0)

    assert len(search.told) == len(loop.executed) - 1 >= 5
    assert search.told == [pytest.approx(at - 100.0) for at in search.at]


def test_a_connection_follows_its_broker_with_what_was_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "next").mkdir()
    first, second = Mosquitto.shipped(tmp_path), Mosquitto.shipped(tmp_path / "next")
    announced = [first.address]
    monkeypatch.setattr(module, "find_broker", lambda timeout: announced[-1])
    search = BrokerSearch(BrokerAddress("127.0.0.1", free_port()), patience=0.0)

    async def story() -> None:
        async with Agent(search, "device") as agent:
            await agent.hears("connected")
            first.stop()
            await agent.hears("disconnected")
            agent.publish("result", b"made meanwhile")
            with second, Peer(second.address) as app:
                app.subscribe("result")
                announced.append(second.address)
                await agent.hears("connected")
                assert (await asyncio.to_thread(app.next)).payload == b"made meanwhile"

    with first:
        run(story())
