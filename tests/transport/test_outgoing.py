"""What is written before what, and what waits."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from edgemesh.device.boards import Link
from edgemesh.device.emulation import LinkShaper
from edgemesh.node.content_actions import ContentActions
from edgemesh.roles.actions import Publish, SendChunk
from edgemesh.transport import connection
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.outgoing import Outgoing, gives_way
from edgemesh.transport.session import SessionSettings
from tests.transport.agent import Agent, run, served
from tests.transport.recording import CONNACK, RecordingBroker

SUBMISSION = b"\x32\x0a\x00\x03sub\x00\x07\x00hi"
"""A PUBLISH with packet id 7."""
MEGABYTE = bytes(1_000_000)
TWO_AT_ONCE = bytes((0x20, 6, 0, 0, 3, 0x21, 0, 2))
"""A CONNACK with a receive maximum of 2."""


def slow(**fields: Any) -> Publish:
    return Publish("bulk", bytes(20_000), 1, bulk=True, **fields)


# --- in line and in bulk ----------------------------------------------------------------------------------


def test_the_line_keeps_its_order_and_bulk_goes_when_nothing_else_is_left() -> None:
    waiting = Outgoing()
    first, second, result = slow(), slow(), Publish("result", b"", 1)
    for message in (first, second, result):
        waiting.add(message)
    waiting.acknowledge(7)

    taken = [waiting.take(0, idle=idle) for idle in (True, True, False, True, True, True)]

    assert taken == [result, 7, None, first, second, None]
    assert not waiting


def test_only_what_is_large_gives_way() -> None:
    assert [gives_way(Publish("work", bytes(size), bulk=bulk)) for size, bulk in SIZES] == [
        False, False, True
    ]  # fmt: skip


SIZES = [(1 << 20, False), (16_383, True), (16_384, True)]


def test_what_needs_an_acknowledgement_waits_for_room_and_what_is_behind_it_too() -> None:
    waiting = Outgoing()
    waiting.receive_maximum = 2
    one, bulk = Publish("one", b"", 1), slow()
    for message in (one, bulk):
        waiting.add(message)
    waiting.acknowledge(7)

    assert waiting.take(2, idle=True) is None
    assert [waiting.take(1, idle=True), waiting.take(2, idle=True)] == [one, 7]
    assert waiting.take(2, idle=True) is None
    assert waiting.take(1, idle=True) is bulk


def test_a_lost_connection_takes_with_it_what_is_not_sent_again() -> None:
    waiting = Outgoing()
    kept, kept_bulk = Publish("state", b"", 1), slow()
    for message in (kept, Publish("once", b"", 1, resend=False), slow(resend=False), kept_bulk):
        waiting.add(message)
    waiting.add(Publish("chunk", bytes(20_000), bulk=True))
    waiting.acknowledge(7)

    waiting.lost()

    assert [waiting.take(0, idle=True) for _ in range(3)] == [kept, kept_bulk, None]


def test_what_could_not_be_handed_over_is_the_next_again() -> None:
    waiting = Outgoing()
    for message in (Publish("one", b"", 1), Publish("two", b"", 1)):
        waiting.add(message)
    first = waiting.take(0, idle=False)
    assert isinstance(first, Publish)

    waiting.put_back(first)

    assert waiting.take(0, idle=False) is first


def test_chunks_are_in_bulk() -> None:
    class Store:
        def read_chunk(self, digest: str, index: int, chunk_bytes: int) -> bytes:
            return bytes(chunk_bytes)

    sent: list[Publish] = []
    actions = ContentActions(Store(), None, lambda event: None, sent.append)  # type: ignore[arg-type]

    actions.handlers()[SendChunk](SendChunk("t", "a" * 64, 0, 64_000))

    assert gives_way(sent[0])


# --- on the wire ------------------------------------------------------------------------------------------


def test_bulk_is_overtaken_and_stays_in_order() -> None:
    """A gateway's state and a device's heartbeat wait for one activation and not for all."""

    async def story() -> None:
        broker = RecordingBroker()
        async with served(broker.serve, receive_buffer=1 << 16) as address, Agent(address, "busy") as agent:
            await agent.hears("connected")
            broker.reads.clear()
            for number in range(8):
                agent.publish(f"work/{number}", MEGABYTE, bulk=True)
            agent.publish("heartbeat", b"", qos=0)
            agent.publish("state", b"")
            await asyncio.sleep(0.1)
            broker.reads.set()
            await broker.until(lambda: len(broker.seen) == 10)

            assert [topic for topic in broker.seen if topic.startswith("work")] == [
                f"work/{number}" for number in range(8)
            ]
            first = broker.seen.index("heartbeat")
            assert broker.seen[first + 1] == "state"
            # The kernel may have room for one, and another is on its way to it.
            assert first <= 2

    run(story())


def test_bulk_that_waits_when_the_connection_breaks_goes_again_or_not() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve, receive_buffer=1 << 16) as address, Agent(address, "busy") as agent:
            await agent.hears("connected")
            broker.reads.clear()
            for number in range(6):
                agent.publish(f"once/{number}", MEGABYTE, bulk=True, resend=False)
                agent.publish(f"again/{number}", MEGABYTE, bulk=True)
            broker.drop()
            await agent.hears("disconnected")
            broker.reads.set()
            broker.acknowledges = True
            await agent.hears("connected")
            agent.publish("end", MEGABYTE, bulk=True)
            await broker.until(lambda: "end" in broker.seen)

            assert broker.seen == [*(f"again/{number}" for number in range(6)), "end"]

    run(story())


def test_bulk_that_waits_is_sent_before_a_clean_end() -> None:
    async def story() -> None:
        broker = RecordingBroker()
        async with served(broker.serve, receive_buffer=1 << 16) as address:
            agent = Agent(address, "leaves")
            agent.connection.start()
            await agent.hears("connected")
            broker.reads.clear()
            for number in range(4):
                agent.publish(f"work/{number}", MEGABYTE, bulk=True, qos=0)
            broker.reads.set()

            await agent.connection.close([Publish("state", b"stopped", 1)])
            await broker.until(lambda: "DISCONNECT" in broker.seen)

            assert sorted(broker.seen[:-1]) == ["state", *(f"work/{number}" for number in range(4))]
            assert broker.seen.index("state") <= 2

    run(story())


@pytest.mark.parametrize("connack", [CONNACK, TWO_AT_ONCE], ids=["no maximum", "2 at once"])
def test_no_acknowledgement_overtakes_what_was_published_before(connack: bytes) -> None:
    """Or the broker would forget a submission whose result is still here."""

    async def story() -> None:
        broker = RecordingBroker(connack, acknowledges=False)
        session = SessionSettings(manual_acknowledgement=True)
        async with served(broker.serve) as address, Agent(address, "gateway", session) as agent:
            await agent.hears("connected")
            broker.send(SUBMISSION)
            submission = await agent.hears("message")
            for _ in range(1500):
                agent.publish("work", b"")
            agent.publish("result", b"")
            agent.connection.acknowledge(submission.mid, 1)
            while "PUBACK 7" not in broker.seen:
                broker.acknowledge()
                await asyncio.sleep(0.001)

            assert broker.seen[-2:] == ["result", "PUBACK 7"]

    run(story())


def test_an_acknowledgement_waits_for_the_emulated_link_as_the_result_before_it() -> None:
    async def story() -> None:
        broker = RecordingBroker()
        session = SessionSettings(manual_acknowledgement=True, shaper=LinkShaper(Link(1e6, 0.05, 1e6, 0.0)))
        async with served(broker.serve) as address, Agent(address, "gateway", session) as agent:
            await agent.hears("connected")
            broker.send(SUBMISSION)
            submission = await agent.hears("message")
            agent.publish("result", bytes(1000))
            agent.connection.acknowledge(submission.mid, 1)
            await broker.until(lambda: len(broker.seen) == 2)

            assert broker.seen == ["result", "PUBACK 7"]

    run(story())


def test_bulk_is_overtaken_on_an_emulated_link_too() -> None:
    async def story() -> None:
        broker = RecordingBroker()
        session = SessionSettings(shaper=LinkShaper(Link(1e6, 0.001, 1e6, 0.0)))
        async with served(broker.serve) as address, Agent(address, "board", session) as agent:
            await agent.hears("connected")
            for number in range(6):
                agent.publish(f"work/{number}", bytes(50_000), bulk=True)
            agent.publish("heartbeat", b"", qos=0)
            await broker.until(lambda: len(broker.seen) == 7)

            assert broker.seen == ["work/0", "heartbeat", *(f"work/{number}" for number in range(1, 6))]

    run(story())


def test_a_broker_gets_no_more_unacknowledged_messages_than_it_takes() -> None:
    """MQTT 5, 3.3.4: it may end the connection over one more. A heartbeat needs no room."""

    async def story() -> None:
        broker = RecordingBroker(TWO_AT_ONCE, acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "eager") as agent:
            await agent.hears("connected")
            for number in range(5):
                agent.publish(str(number), b"")
            agent.publish("heartbeat", b"", qos=0)
            await broker.until(lambda: "heartbeat" in broker.seen)
            assert broker.seen == ["0", "1", "heartbeat"]

            broker.acknowledges = True
            broker.acknowledge()
            await broker.until(lambda: len(broker.seen) == 6)

            assert broker.seen[3:] == ["2", "3", "4"]
            assert broker.most_owed == 2

    run(story())


def test_ten_thousand_messages_and_more_wait_for_the_broker(mosquitto: BrokerAddress) -> None:
    async def story() -> None:
        async with Agent(mosquitto, "patient") as agent:
            for _ in range(10_500):
                agent.publish("waits", b"")
            agent.publish("waits", b"", token="last")

            assert await agent.hears("acknowledged") == "last"

    run(story())


def test_a_message_whose_packet_id_is_taken_goes_under_the_next_one() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "old") as agent:
            await agent.hears("connected")
            agent.publish("first", b"", token="first")
            await broker.until(lambda: broker.seen == ["first"])
            agent.connection._client._last_mid -= 1  # as 65,535 messages later

            agent.publish("second", b"", token="second")
            agent.publish("third", b"", token="third")
            await broker.until(lambda: len(broker.seen) == 3)
            assert "does not acknowledge" in await agent.hears("problem")
            broker.acknowledge()

            assert broker.seen == ["first", "second", "third"]
            assert [await agent.hears("acknowledged") for _ in range(3)] == ["first", "second", "third"]

    run(story())


def test_what_mqtt_cannot_say_is_explained_and_holds_up_nothing() -> None:
    async def story() -> None:
        broker = RecordingBroker()
        async with served(broker.serve) as address, Agent(address, "odd") as agent:
            await agent.hears("connected")
            agent.publish("all/#", b"")
            assert "cannot send a message on all/#" in await agent.hears("problem")

            agent.publish("next", b"")
            await broker.until(lambda: broker.seen == ["next"])

    run(story())


@pytest.mark.skipif(connection._NOTSENT_LOWAT is None, reason="this system has no such option")
def test_the_kernel_takes_little_that_could_still_be_overtaken() -> None:
    async def story() -> None:
        broker = RecordingBroker()
        async with served(broker.serve) as address, Agent(address, "brief") as agent:
            await agent.hears("connected")
            sock = socket.socket(fileno=agent.connection._socket.fileno())
            try:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 1 << 17
            finally:
                sock.detach()

    run(story())
