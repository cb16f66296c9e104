"""Connection against real brokers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from edgemesh.node.shell import Shell
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish, Subscribe
from edgemesh.roles.events import Connected, Event, MessageReceived
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import Callbacks, Connection
from edgemesh.transport.session import SessionSettings
from tests.brokers.peer import Peer
from tests.brokers.servers import Mosquitto, free_port
from tests.transport.agent import WAIT, Agent, run, served
from tests.transport.virtual_loop import VirtualLoop

BOTH = pytest.mark.parametrize("broker", ["mosquitto", "embedded"], indirect=True)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> BrokerAddress:
    address: BrokerAddress = request.getfixturevalue(request.param)
    return address


# --- coming and going of the broker ---------------------------------------------------------------------


def test_it_connects_when_the_broker_starts_later(tmp_path: Path) -> None:
    later = Mosquitto.shipped(tmp_path)

    async def story() -> None:
        async with Agent(later.address, "early") as agent:
            assert "nothing listens there; trying again" in await agent.hears("problem")

            await asyncio.to_thread(later.start)

            await agent.hears("connected")

    try:
        run(story())
    finally:
        later.stop()


def test_the_wait_before_another_attempt_grows_and_no_two_agents_wait_alike() -> None:
    nobody = BrokerAddress("127.0.0.1", free_port())
    nothing = Callbacks(lambda: None, lambda text: None, lambda message: None)
    loops = [VirtualLoop() for _ in range(8)]

    for loop in loops:
        Connection(nobody, "agent", nothing, SessionSettings(), loop).start()  # type: ignore[arg-type]
        loop.run(until=120.0)

    for loop in loops:
        gaps = [later - earlier for earlier, later in zip(loop.executed, loop.executed[1:])]
        assert len(gaps) >= 7
        for gap, middle in zip(gaps, (0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0)):
            assert 0.5 * middle <= gap <= 1.5 * middle
    assert len({loop.executed[1] for loop in loops}) == 8


class FailingLoop(VirtualLoop):
    """The executor fails once."""

    def __init__(self, *, at_once: Exception | None = None, later: Exception | None = None) -> None:
        super().__init__()
        self.calls = 0
        self._at_once = at_once
        self._later = later

    def run_in_executor(self, executor: None, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.calls += 1
        if self.calls > 1:
            return super().run_in_executor(executor, call, *arguments)
        if self._at_once is not None:
            raise self._at_once
        future: Future[Any] = Future()
        future.set_exception(self._later)
        return future


@pytest.mark.parametrize(
    "loop",
    [
        FailingLoop(at_once=RuntimeError("can't start new thread")),
        FailingLoop(later=KeyError("a mistake")),
    ],
    ids=["no thread", "a mistake of ours"],
)
def test_an_attempt_that_cannot_even_be_made_is_explained_and_made_again(loop: FailingLoop) -> None:
    problems: list[str] = []
    nobody = BrokerAddress("127.0.0.1", free_port())
    callbacks = Callbacks(lambda: None, lambda text: None, lambda message: None, on_problem=problems.append)

    Connection(nobody, "agent", callbacks, SessionSettings(), loop).start()  # type: ignore[arg-type]
    loop.run(until=60.0)

    assert loop.calls >= 7
    assert problems[0].endswith("; trying again")
    assert "can't start new thread" in problems[0] or "a mistake" in problems[0]


@pytest.fixture
def slow_look_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Set once a name is being looked up; and what it waits for, then to be found on this machine."""
    begun, answers, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: Any, **others: Any) -> Any:
        begun.set()
        answers.wait(3 * WAIT)
        return real("127.0.0.1", port, *arguments, **others)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield begun, answers
    answers.set()


def unheard_connection(port: int) -> Connection:
    """To a broker that goes by a name."""
    nothing = Callbacks(lambda: None, lambda text: None, lambda message: None)
    named = BrokerAddress("broker.lan", port)
    return Connection(named, "agent", nothing, SessionSettings(), asyncio.get_running_loop())


def test_a_name_that_is_being_looked_up_does_not_keep_a_process_that_ends(
    slow_look_up: tuple[threading.Event, threading.Event],
) -> None:
    """Found by a reader: 40 s after SIGTERM the agent was still there."""
    begun, _ = slow_look_up

    async def story() -> None:
        connection = unheard_connection(free_port())
        connection.start()
        await asyncio.to_thread(begun.wait, WAIT)
        await connection.close([])

    ending = threading.Thread(target=lambda: asyncio.run(story()), daemon=True)
    ending.start()
    ending.join(WAIT)

    assert begun.is_set()
    assert not ending.is_alive()


def test_a_connection_that_comes_after_the_end_is_closed(
    slow_look_up: tuple[threading.Event, threading.Event],
) -> None:
    begun, answers = slow_look_up

    async def story() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            ended.set()
            writer.close()

        async with served(serve) as address:
            connection = unheard_connection(address.port)
            connection.start()
            await asyncio.to_thread(begun.wait, WAIT)
            await connection.close([])
            answers.set()

            await asyncio.wait_for(ended.wait(), WAIT)

    run(story())


def test_a_role_subscribes_again_after_the_broker_was_away(tmp_path: Path) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: asyncio.Queue[bytes] = asyncio.Queue()

        def handle(self, event: Event, now: float) -> list[Action]:
            if isinstance(event, Connected):
                submit = topics.build("submit", model="face")
                return [Subscribe(submit, 1), Publish(submit, b"connected", 1)]
            if isinstance(event, MessageReceived):
                self.heard.put_nowait(bytes(event.payload))
            return []

    topics = Topics("home")
    server = Mosquitto.shipped(tmp_path)
    server.start()

    async def story() -> None:
        role = Listener()
        shell = Shell(role, topics, asyncio.get_running_loop())
        shell.connect(server.address, "listener", SessionSettings())
        assert await asyncio.wait_for(role.heard.get(), WAIT) == b"connected"

        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)

        assert await asyncio.wait_for(role.heard.get(), WAIT) == b"connected"
        await shell.close([])

    try:
        run(story())
    finally:
        server.stop()


def test_what_is_published_at_qos_1_while_the_broker_is_away_arrives_later(tmp_path: Path) -> None:
    server = Mosquitto.shipped(tmp_path)
    server.start()

    async def story() -> None:
        async with Agent(server.address, "publisher") as agent:
            await agent.hears("connected")
            await asyncio.to_thread(server.stop)
            await agent.hears("disconnected")

            agent.publish("t/heartbeat", b"late", qos=0, retain=True)
            for i in range(3):
                agent.publish(f"t/job/{i}", b"kept", retain=True, token=str(i))
            await asyncio.to_thread(server.start)

            assert [await agent.hears("acknowledged") for _ in range(3)] == ["0", "1", "2"]
            with Peer(server.address) as later:
                later.subscribe("t/#")
                assert sorted(later.next().topic for _ in range(3)) == ["t/job/0", "t/job/1", "t/job/2"]
                later.publish("t/end", b"end")
                assert later.until(b"end") == []

    try:
        run(story())
    finally:
        server.stop()


# --- Will -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("ending", "last_words"), [("killed", b"offline"), ("clean", b"stopped")])
def test_the_will_speaks_for_a_killed_process_and_only_for_that(
    broker: BrokerAddress, ending: str, last_words: bytes
) -> None:
    topic = f"state/{ending}"
    command = [sys.executable, "-m", "tests.transport.agent_process", str(broker), topic]
    with (
        Peer(broker) as watches,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        watches.subscribe(topic)
        assert process.stdout.readline() == b"ready\n"

        if ending == "killed":
            process.send_signal(signal.SIGKILL)
        process.stdin.close()
        process.wait(WAIT)

        assert watches.until(last_words)[-1:] == [b"online"]
        # A Will after a clean end would come before the one of a client that vanishes now.
        Peer(broker, will=(topic, b"end", False)).vanish()
        assert watches.until(b"end") == []
        watches.publish(topic, b"", retain=True)


# --- two agents of one name -----------------------------------------------------------------------------


def test_two_agents_of_one_name_say_so_and_slow_down(mosquitto: BrokerAddress) -> None:
    """Mosquitto 2.0.11 does not tell the older one why it is thrown out, 2.1 does."""

    async def story() -> None:
        async with Agent(mosquitto, "twin") as one, Agent(mosquitto, "twin") as two:
            sentence = await asyncio.wait_for(_first(one.hears("problem"), two.hears("problem")), WAIT)

            assert "the same name; stop one" in sentence
            assert "--id" in sentence
            assert one.connects + two.connects <= 8

    run(story())


async def _first(*waits: object) -> str:
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    text: str = done.pop().result()
    return text


# --- payloads -------------------------------------------------------------------------------------------


def test_acknowledgements_and_messages_are_told_in_the_order_of_the_wire() -> None:
    connack = bytes((0x20, 3, 0, 0, 0))
    echo = b"\x30\x06\x00\x01t\x00hi"
    puback = bytes((0x40, 2, 0, 1))

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(connack)
        await reader.read(1000)
        writer.write(puback + echo)
        await reader.read()
        writer.close()

    async def story() -> None:
        async with served(answers) as address, Agent(address, "echoes") as agent:
            await agent.hears("connected")
            agent.publish("t", b"hi", token="first")

            assert [kind for kind, _ in [await agent.next(), await agent.next()]] == [
                "acknowledged",
                "message",
            ]

    run(story())


@BOTH
def test_four_megabytes_come_back_whole(broker: BrokerAddress) -> None:
    payload = os.urandom(4_000_000)

    async def story() -> None:
        async with Agent(broker, "big") as agent:
            await agent.hears("connected")
            await agent.subscribed("big")

            agent.publish("big", payload, token="big", content_type="application/x-edgemesh", expiry=60.0)

            message = await agent.hears("message")
            assert bytes(message.payload) == payload
            assert message.content_type == "application/x-edgemesh"
            assert 0 < message.expiry <= 60

    run(story())


def test_more_retained_messages_than_the_broker_queues_all_arrive(tmp_path: Path) -> None:
    """Found by a reader: who stated no receive maximum got 1,020 of 3,000 with the shipped file."""

    async def story(broker: Mosquitto) -> None:
        async with Agent(broker.address, "owner") as owner, Agent(broker.address, "reader") as reader:
            await owner.hears("connected")
            await reader.hears("connected")
            for i in range(200):
                owner.publish(f"kept/{i}", str(i).encode(), retain=True, token=str(i))
            for _ in range(200):
                await owner.hears("acknowledged")

            reader.connection.subscribe("kept/+", 1)
            reader.connection.subscribe("end", 0)
            reader.publish("end", b"end", 0)

            got = set()
            while (payload := bytes((await reader.hears("message")).payload)) != b"end":
                got.add(payload)
            assert len(got) == 200

    with Mosquitto.shipped(tmp_path, max_queued_messages="10", max_inflight_messages="10") as broker:
        run(story(broker))


@BOTH
def test_a_thousand_messages_at_once_are_all_acknowledged_and_in_order(broker: BrokerAddress) -> None:
    async def story() -> None:
        async with Agent(broker, "burst") as agent:
            await agent.hears("connected")
            await agent.subscribed("burst")

            for i in range(1000):
                agent.publish("burst", str(i).encode())

            got = [bytes((await agent.hears("message")).payload) for _ in range(1000)]
            assert got == [str(i).encode() for i in range(1000)]

    run(story())


@BOTH
def test_unacknowledged_messages_come_again_to_the_next_holder_of_the_name(broker: BrokerAddress) -> None:
    session = SessionSettings(
        clean_start=False, session_expiry=60, manual_acknowledgement=True, receive_maximum=50
    )

    async def story() -> None:
        async with Agent(broker, "asker") as asker:
            await asker.hears("connected")
            holder = Agent(broker, "slot", session, leaves_when_taken_over=True)
            holder.connection.start()
            await holder.hears("connected")
            await holder.subscribed("slot/submit")
            asker.publish("slot/submit", b"job", token="sent")
            await asker.hears("acknowledged")
            assert bytes((await holder.hears("message")).payload) == b"job"
            holder.connection._drop_socket()  # as a machine that lost its power: no DISCONNECT

            async with Agent(broker, "slot", session) as standby:
                await standby.hears("connected")
                assert bytes((await standby.hears("message")).payload) == b"job"

    run(story())


# --- sockets --------------------------------------------------------------------------------------------


def test_tcp_nodelay_is_set_on_the_socket(mosquitto: BrokerAddress) -> None:
    async def story() -> None:
        async with Agent(mosquitto, "quick") as agent:
            await agent.hears("connected")
            descriptor = agent.connection._socket.fileno()
            with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(story())


def test_last_words_are_sent_before_a_clean_end(mosquitto: BrokerAddress) -> None:
    async def story() -> None:
        agent = Agent(mosquitto, "leaves")
        agent.connection.start()
        await agent.hears("connected")

        await agent.connection.close([Publish("leaves/state", b"stopped", 1, retain=True)])

        with Peer(mosquitto) as later:
            later.subscribe("leaves/state")
            assert later.next().payload == b"stopped"
            later.publish("leaves/state", b"", retain=True)

    run(story())
