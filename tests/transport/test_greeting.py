"""What answers on a port, and what stands in front of the embedded broker."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import BrokerError
from edgemesh.transport import echo
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.echo import NAGLE_SECONDS, measured_echo, slow_echo
from edgemesh.transport.greeting import ACCEPTED, greeting
from edgemesh.transport.local_broker import local_broker
from edgemesh.transport.protocol_front import protocol_level
from tests.brokers.servers import Mosquitto, free_port


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port on which everyone gets these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, suppress(OSError):
                    client.recv(100)
                    client.sendall(answer)
                    client.recv(100)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_a_broker_answers(kind: str, request: pytest.FixtureRequest) -> None:
    address: BrokerAddress = request.getfixturevalue(kind)

    assert greeting(address.host, address.port) == ACCEPTED


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02"])
def test_what_is_no_broker_does_not_answer(answer: bytes) -> None:
    with answering(answer) as port:
        assert greeting("127.0.0.1", port, timeout=0.2) is None


def test_a_closed_port_does_not_answer() -> None:
    assert greeting("127.0.0.1", free_port()) is None


@pytest.mark.parametrize("code", [0x01, 0x84])
def test_a_broker_of_mqtt_3_is_refused_by_name(code: int) -> None:
    with (
        answering(bytes((0x20, 2, 0, code))) as port,
        pytest.raises(BrokerError, match="speaks MQTT 3 only"),
    ):
        local_broker(port)


def test_a_broker_with_passwords_is_not_taken_for_an_open_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    closed = Mosquitto.shipped(tmp_path_factory.mktemp("closed"), allow_anonymous="false")
    with closed, pytest.raises(BrokerError, match="takes no anonymous clients"):
        local_broker(closed.port)


# --- echo -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_an_echo_comes_back(kind: str, request: pytest.FixtureRequest) -> None:
    assert asyncio.run(measured_echo(request.getfixturevalue(kind))) > 0.0


def test_an_echo_is_slow_where_the_kernel_delays_some_acknowledgements() -> None:
    """Measured of a Mosquitto without TCP_NODELAY, in ms; of one with it, two that something else delays."""
    slow = [0, 0, 0, 43, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 42, 44, 0, 0, 0, 43, 44, 0, 0, 0]
    fast = [0] * 22 + [60, 40]

    assert slow_echo(slow) / 1e3 > NAGLE_SECONDS
    assert slow_echo(fast) / 1e3 < NAGLE_SECONDS


def test_no_echo_where_nothing_listens() -> None:
    with pytest.raises(BrokerError, match="nothing listens there"):
        asyncio.run(measured_echo(BrokerAddress("127.0.0.1", free_port())))


def test_a_forbidden_echo_says_so(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "_TIMEOUT", 2.0)
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules").write_text("topic read edgemesh/v1/home/#\n")
    strict = Mosquitto.shipped(folder, acl_file=str(folder / "rules"))

    with strict, pytest.raises(BrokerError, match=r"reply/|Not authorized"):
        asyncio.run(measured_echo(strict.address))


# --- the front ------------------------------------------------------------------------------------------

CONNECTS = [
    (b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x00", 3),
    (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00", 4),
    (b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00", 5),
    (b"\x10\x80\x80\x80\x01\x00\x04MQTT\x05\x02", 5),
]


@pytest.mark.parametrize(("packet", "level"), CONNECTS)
def test_the_version_is_read_as_soon_as_it_is_there(packet: bytes, level: int) -> None:
    at = packet.index(b"MQTT" if b"MQTT" in packet else b"MQIsdp") + (4 if b"MQTT" in packet else 6)

    assert [protocol_level(packet[:length]) for length in range(at + 1)] == [None] * (at + 1)
    assert protocol_level(packet[: at + 1]) == protocol_level(packet) == level


@given(st.binary(max_size=40))
def test_any_bytes_have_a_version_too_little_or_none(head: bytes) -> None:
    try:
        level = protocol_level(head)
    except ValueError:
        return
    assert level is None or 0 <= level <= 255


@pytest.mark.parametrize(
    "greeting_bytes", [b"GET / HTTP/1.1\r\n", b"\x10\xff\xff\xff\xff\xff", b"\x16\x03\x01"]
)
def test_the_embedded_broker_ends_what_is_no_mqtt(embedded: BrokerAddress, greeting_bytes: bytes) -> None:
    with socket.create_connection((embedded.host, embedded.port), 5) as sock:
        sock.sendall(greeting_bytes)

        assert sock.recv(10) == b""
