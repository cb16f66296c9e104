"""What is spared of paho's work changes nothing of what arrives, and paho still does the rest."""

from __future__ import annotations

import fcntl
import select
import socket
import termios
import threading
from array import array
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.buffered_socket import BufferedSocket
from edgemesh.transport.messages import IncomingMessage, incoming_message
from edgemesh.transport.paho_client import PahoClient, session_client
from edgemesh.transport.session import SessionSettings

WAIT = 10.0
"""Seconds after which what was sent is missing."""
CONNACK = bytes((0x20, 3, 0, 0, 0))


def packed(**values: Any) -> bytes:
    """Properties of a PUBLISH."""
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)
    return bytes(properties.pack())


EXPIRY = packed(MessageExpiryInterval=30)


def framed(first: int, body: bytes) -> bytes:
    return bytes((first,)) + bytes(VariableByteIntegers.encode(len(body))) + body


def publish(topic: str, payload: bytes, properties: bytes = EXPIRY, flags: int = 2, mid: int = 1) -> bytes:
    """One PUBLISH packet; ``flags`` are the lower four bits of its first byte."""
    name = topic.encode()
    packet_id = mid.to_bytes(2, "big") if flags & 6 else b""
    return framed(0x30 | flags, len(name).to_bytes(2, "big") + name + packet_id + properties + payload)


class Reading:
    """A client connected to a socket of this test; use as a context manager."""

    def __init__(self, make: Callable[[int, Callable[[IncomingMessage], None]], paho.Client]) -> None:
        self.messages: list[IncomingMessage] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.client = make(self._server.getsockname()[1], self.messages.append)
        self.client.reconnect()
        self._broker, _ = self._server.accept()
        self.reads(CONNACK)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *exception: object) -> None:
        sock = self.client.socket()
        if sock is not None:
            sock.close()
        self._broker.close()
        self._server.close()

    def reads(self, packet: bytes) -> str:
        """What reading a packet ends in: nothing, ``closed`` or the name of an error."""
        sender = threading.Thread(target=self._broker.sendall, args=(packet,))
        sender.start()
        sock: Any = self.client.socket()
        held = 0
        try:
            while sock is not None and (
                held or sender.is_alive() or self._on_the_way() or select.select([sock], [], [], 0.0)[0]
            ):
                if not held:
                    select.select([sock], [], [], 0.01)
                getattr(sock, "readable", lambda: None)()
                self.client.loop_read()
                sock = self.client.socket()
                held = 0 if sock is None else getattr(sock, "pending", lambda: 0)()
        except Exception as error:
            return type(error).__name__
        finally:
            sender.join(WAIT)
        return "" if sock is not None else "closed"

    def _on_the_way(self) -> bool:
        unconfirmed = array("i", [0])
        fcntl.ioctl(self._broker, termios.TIOCOUTQ, unconfirmed)
        return unconfirmed[0] > 0


def ours(port: int, received: Callable[[IncomingMessage], None]) -> paho.Client:
    return session_client(BrokerAddress("127.0.0.1", port), "reader", SessionSettings(), received)


def plain(port: int, received: Callable[[IncomingMessage], None]) -> paho.Client:
    """paho alone."""

    def on_message(client: Any, userdata: Any, message: paho.MQTTMessage) -> None:
        incoming = incoming_message(message)
        if incoming is not None:
            received(incoming)

    client = paho.Client(CallbackAPIVersion.VERSION2, "reader", protocol=paho.MQTTv5, manual_ack=True)
    client.on_message = on_message
    client.connect_async("127.0.0.1", port)
    return client


PROPERTIES = st.sampled_from(
    [
        packed(),
        EXPIRY,
        packed(MessageExpiryInterval=29),
        packed(ContentType="image/jpeg", ResponseTopic="answers", CorrelationData=b"17"),
        packed(UserProperty=("key", "value" * 200)),
    ]
)
FLAGS = st.sampled_from([0, 1, 2, 3, 10, 11])
MESSAGES = st.builds(
    publish,
    st.sampled_from(["a", "edgemesh/v1/home/device/pi/work", "é" * 300]),
    st.binary(max_size=3000) | st.just(bytes(200_000)),
    PROPERTIES,
    FLAGS,
    st.integers(1, 65_535),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(MESSAGES, max_size=12))
def test_messages_arrive_as_paho_alone_decodes_them(packets: list[bytes]) -> None:
    with Reading(ours) as spared, Reading(plain) as usual:
        for packet in packets:
            spared.reads(packet)
            usual.reads(packet)

        assert len(spared.messages) == len(packets)
        assert spared.messages == usual.messages


@pytest.mark.parametrize("flags", [0, 2])
def test_a_cut_or_damaged_message_ends_as_with_paho_alone(flags: int) -> None:
    whole = publish("topic", b"payload", packed(MessageExpiryInterval=3, ContentType="text"), flags)[2:]
    bodies = [whole[:length] for length in range(len(whole))]
    bodies += [
        whole[:at] + bytes((value,)) + whole[at + 1 :] for at in range(2, 18) for value in (0, 127, 255)
    ]

    for body in bodies:
        packet = framed(0x30 | flags, body)
        with Reading(ours) as spared, Reading(plain) as usual:
            ends = spared.reads(packet), usual.reads(packet)

            assert ends[0] == ends[1], body
            assert spared.messages == usual.messages, body


@pytest.mark.parametrize("flags", [0, 2])
@pytest.mark.parametrize(
    "properties",
    [
        {"ContentType": "\ufeffimage/jpeg"},
        {"ResponseTopic": "answers/\ufeff"},
        {"UserProperty": ("\ufeff", "")},
    ],
)
def test_a_message_that_paho_wrongly_refuses_arrives_without_its_properties(
    properties: dict[str, Any], flags: int
) -> None:
    """U+FEFF is allowed (MQTT 5, 1.5.4-3), and paho ends the connection: where retained, for ever."""
    with Reading(ours) as reading, Reading(plain) as usual:
        packet = publish("topic", b"payload", packed(**properties), flags)
        assert usual.reads(packet) == "closed"

        assert reading.reads(packet) == ""
        assert reading.reads(publish("topic", b"the next one")) == ""
        (first, _) = reading.messages
        assert (first.topic, first.payload, first.mid) == ("topic", b"payload", 1 if flags else 0)
        assert first.content_type is first.response_topic is None


def test_bytes_that_look_like_that_are_no_reason_to_refuse_or_to_drop_properties() -> None:
    correlation = "\ufeff".encode()
    with Reading(ours) as reading:
        assert reading.reads(publish("topic", b"", packed(CorrelationData=correlation))) == ""

        assert [message.correlation for message in reading.messages] == [correlation]


def test_a_message_at_qos_2_is_left_to_paho() -> None:
    with Reading(ours) as reading:
        reading.reads(publish("topic", b"twice", flags=4, mid=7))
        reading.reads(framed(0x62, (7).to_bytes(2, "big")))

        assert [message.payload for message in reading.messages] == [b"twice"]


def test_what_is_kept_of_the_past_is_bounded() -> None:
    with Reading(ours) as reading:
        for number in range(600):
            reading.reads(publish(f"topic-{number}", b"", flags=0))
        reading.reads(publish("long", b"", packed(CorrelationData=bytes(40_000)), flags=0))

        assert len(reading.messages) == 601
        heads = reading.client._heads  # type: ignore[attr-defined]
        assert len(heads) <= 256
        assert all(len(topic) + len(properties) <= 512 for _, topic, properties in heads)


def test_paho_is_spared_the_heads_that_it_has_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = paho.Client._handle_publish
    monkeypatch.setattr(
        paho.Client, "_handle_publish", lambda client: decoded.append(client) or original(client)
    )

    with Reading(ours) as reading:
        for number in range(1, 4):
            reading.reads(publish("topic", bytes(number), mid=number))

        assert [(message.payload, message.mid) for message in reading.messages] == [
            (bytes(number), number) for number in range(1, 4)
        ]
    assert len(decoded) == 1, (
        "this paho decodes each message in full: it no longer calls Client._handle_publish, which PahoClient "
        "overrides; messages arrive all the same, large ones slower"
    )


@pytest.mark.parametrize("make", [ours, plain])
def test_an_acknowledgement_says_what_it_says_with_paho_alone(make: Any) -> None:
    told = []
    with Reading(make) as reading:
        reading.client.on_publish = lambda client, userdata, mid, reason, properties: told.append(
            (mid, str(reason), reason.is_failure, str(properties))
        )
        sent = [reading.client.publish("topic", b"payload", 1) for _ in range(3)]
        mids = [message.mid.to_bytes(2, "big") for message in sent]

        for body in (mids[0], mids[1] + b"\x87", (9999).to_bytes(2, "big"), mids[0]):
            assert reading.reads(framed(0x40, body)) == ""

        assert [message.is_published() for message in sent] == [True, True, False]
        assert told == [
            (sent[0].mid, "Success", False, "[]"),
            (sent[1].mid, "Not authorized", True, "[]"),
        ]
        assert reading.reads(framed(0x40, b"\x01")) == "closed"


def test_a_refusal_with_any_reason_is_told_and_ends_no_connection() -> None:
    told = []
    with Reading(ours) as reading:
        reading.client.on_publish = lambda client, userdata, mid, reason, properties: told.append(
            (mid, str(reason), reason.is_failure)
        )
        sent = [reading.client.publish("topic", b"payload", 1) for _ in range(0x80, 0x100)]

        for code, message in enumerate(sent, start=0x80):
            assert reading.reads(framed(0x40, message.mid.to_bytes(2, "big") + bytes((code,)))) == "", code

        assert all(message.is_published() for message in sent)
        assert [mid for mid, _, failed in told if failed] == [message.mid for message in sent]
        reasons = dict(zip(range(0x80, 0x100), (text for _, text, _ in told)))
        assert (reasons[0x87], reasons[0x95], reasons[0xFF]) == (
            "Not authorized",
            "Packet too large",
            "Unspecified error",
        )


def test_paho_is_spared_acknowledgements_of_success(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = paho.Client._handle_pubackcomp
    monkeypatch.setattr(
        paho.Client, "_handle_pubackcomp", lambda client, cmd: decoded.append(cmd) or original(client, cmd)
    )

    with Reading(ours) as reading:
        sent = reading.client.publish("topic", b"payload", 1)
        reading.reads(framed(0x40, sent.mid.to_bytes(2, "big")))

        assert sent.is_published()
    assert not decoded, (
        "this paho decodes each PUBACK in full: it no longer calls Client._handle_pubackcomp, which "
        "PahoClient overrides; acknowledgements arrive all the same, a little slower, but a refusal for size "
        "ends the connection"
    )


def test_paho_takes_the_socket_that_we_make() -> None:
    with Reading(ours) as reading:
        assert isinstance(reading.client, PahoClient)
        assert isinstance(reading.client.socket(), BufferedSocket), (
            "this paho does not call Client._create_socket, which PahoClient overrides: nothing is buffered, "
            "and Connection then takes the socket for one of paho's WebSocket connections"
        )
