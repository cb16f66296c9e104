"""What is larger than the broker takes is lost alone: the connection stays, and its owner is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.roles.actions import Publish
from edgemesh.roles.events import Refusal
from edgemesh.transport.messages import publish_properties
from edgemesh.transport.packet_limit import PacketLimit, packet_bytes
from edgemesh.transport.paho_client import PahoClient
from tests.brokers.servers import Mosquitto
from tests.transport.agent import Agent, run, served
from tests.transport.recording import CONNACK, RecordingBroker

LIMIT = 200_000
LARGE = bytes(300_000)
TAKES_1000 = bytes((0x20, 8, 0, 0, 5, 0x27, 0, 0, 3, 0xE8))
"""A CONNACK with a maximum packet size of 1000."""


@pytest.mark.parametrize(
    ("setting", "told"), [("max_packet_size", LIMIT), ("message_size_limit", None)], ids=str
)
def test_what_the_broker_does_not_take_is_told_and_ends_no_connection(
    setting: str, told: int | None, tmp_path: Path
) -> None:
    async def story(broker: Mosquitto) -> None:
        async with Agent(broker.address, "home-pi") as agent:
            await agent.hears("connected")
            await agent.subscribed("here")
            for token in ("first", "second"):
                agent.publish("here", LARGE, token=token, bulk=True)
                happened, sentence = await agent.next()
                if token == "first":
                    assert happened == "problem" and "a message of home-pi on here has" in sentence
                    assert "300,0" in sentence and ("200,000" in sentence) == (told is not None)
                    assert "raise max_packet_size or message_size_limit of the broker" in sentence
                    happened, sentence = await agent.next()
                message, refusal = sentence
                assert (happened, message.token, refusal) == ("not taken", token, Refusal(told))
            agent.publish("here", b"small", token="third")
            after = dict([await agent.next(), await agent.next()])
            assert bytes(after["message"].payload) == b"small" and after["acknowledged"] == "third"
            assert agent.connects == 1

    with Mosquitto.shipped(tmp_path, **{setting: str(LIMIT)}) as broker:
        run(story(broker))


def test_what_a_broker_refused_it_is_not_sent_again_on_that_connection() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "large") as agent:
            await agent.hears("connected")
            agent.publish("first", bytes(2000))
            await broker.until(lambda: len(broker.owed) == 1)
            broker.send(b"\x40\x03" + broker.owed.pop().to_bytes(2, "big") + b"\x95")
            await agent.hears("not taken")

            agent.publish("second", bytes(2500))
            await agent.hears("not taken")
            agent.publish("third", bytes(1999))
            await broker.until(lambda: len(broker.seen) == 2)
            broker.drop()
            await agent.hears("connected")  # to a broker that may take more now
            agent.publish("fourth", bytes(2500))
            await broker.until(lambda: "fourth" in broker.seen)

            assert broker.seen == ["first", "third", "third", "fourth"]

    run(story())


def test_what_the_next_connections_broker_does_not_take_is_not_sent_again() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "large") as agent:
            await agent.hears("connected")
            agent.publish("large", bytes(2000))
            agent.publish("small", bytes(900))
            await broker.until(lambda: len(broker.seen) == 2)
            broker.connack = TAKES_1000
            broker.drop()

            message, refusal = await agent.hears("not taken")
            assert (message.topic, refusal) == ("large", Refusal(1000))
            await broker.until(lambda: len(broker.seen) == 3)
            assert broker.seen == ["large", "small", "small"]

            broker.connack = CONNACK
            broker.drop()
            await agent.hears("connected")
            agent.publish("larger", bytes(3000))
            await broker.until(lambda: "larger" in broker.seen)
            assert broker.seen[3:] == ["small", "larger"]

    run(story())


def test_what_has_expired_is_not_sent_again() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "late") as agent:
            await agent.hears("connected")
            agent.publish("short", b"", expiry=0.05)
            agent.publish("long", b"", expiry=60.0)
            agent.publish("without", b"")
            await broker.until(lambda: len(broker.seen) == 3)
            broker.drop()  # the next connection begins after a quarter of a second at the earliest
            await agent.hears("connected")
            agent.publish("end", b"")
            await broker.until(lambda: "end" in broker.seen)

            assert broker.seen == ["short", "long", "without", "long", "without", "end"]

    run(story())


@pytest.mark.parametrize(
    "message",
    [
        Publish("a", b""),
        Publish("é" * 100, bytes(20_000), qos=1, expiry=30.0),
        Publish("topic", bytes(3_000_000), qos=1, expiry=5.0, content_type="image/jpeg", correlation=b"17"),
    ],
    ids=["empty", "expiry", "all properties"],
)
def test_a_packet_is_no_larger_than_it_is_counted(message: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    packets: list[bytes] = []
    monkeypatch.setattr(PahoClient, "_packet_queue", lambda self, command, packet, *_: packets.append(packet))
    client = PahoClient("counted", "tcp", lambda message: None)
    client._sock = object()  # type: ignore[assignment]
    client.publish(message.topic, message.payload, message.qos, properties=publish_properties(message))
    client._sock = None

    (packet,) = packets
    assert len(packet) <= packet_bytes(message) <= len(packet) + 24


def test_a_limit_holds_for_one_connection() -> None:
    limit = PacketLimit()
    large, small = Publish("t", bytes(2000)), Publish("t", bytes(900))
    assert not limit.forbids(large)

    limit.connected(1000)
    assert limit.forbids(large) and limit.of(large) == 1000 and not limit.forbids(small)

    limit.refused(small)
    assert limit.forbids(small) and limit.of(small) is None

    limit.connected(None)
    assert not limit.forbids(large)
