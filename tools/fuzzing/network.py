"""Bytes from the network, outside of messages: what answers on a port, and what announces itself."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

import zeroconf
from paho.mqtt.properties import VariableByteIntegers
from zeroconf import DNSCache, DNSIncoming, DNSOutgoing, DNSPointer, ServiceInfo

from edgemesh.errors import DecodeError
from edgemesh.transport.address import BrokerAddress, parse_address
from edgemesh.transport.buffered_socket import BufferedSocket
from edgemesh.transport.discovery import SERVICES, announced
from edgemesh.transport.greeting import greeting
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.paho_client import session_client
from edgemesh.transport.protocol_front import _read_head, protocol_level
from edgemesh.transport.session import SessionSettings
from fuzzing.canned import Canned
from fuzzing.target import Target

_SERVICE_TYPES = tuple(SERVICES)
_CONNECT_3 = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x0a\x00\x02id"
_CONNECT_5 = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x02id"
_CONNECT_31 = b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x02id"


def network_targets() -> list[Target]:
    """All of them."""
    return [
        Target("greeting", _greeting, lambda: [b"\x20\x03\x00\x00\x00", b"\x20\x02\x00\x05"], most_bytes=16),
        Target("first-packet", _first_packet, lambda: [_CONNECT_3, _CONNECT_5, _CONNECT_31], most_bytes=64),
        Target("packet", _packet, _packets),
        Target("mdns", _mdns, _announcements, most_bytes=1500),
    ]


# --- brokers, and what calls itself one ------------------------------------------------------------------


def _greeting(payload: bytes) -> object:
    with mock.patch.object(socket, "create_connection", lambda *given: Canned(payload, step=3)):
        reason = greeting("nowhere", 1883)
    if reason is None:
        raise DecodeError("no broker")
    assert 0 <= reason <= 255
    return reason


def _first_packet(payload: bytes) -> object:
    """However the bytes of a client arrive, it gets to the same port."""
    levels = []
    for step in (1, 5, 64):
        sock: Any = Canned(payload, step=step)
        try:
            head, level = _read_head(sock)
        except ValueError as error:
            levels.append(str(error))
            continue
        assert protocol_level(head) == level and payload.startswith(head)
        levels.append(str(level))
    assert len(set(levels)) == 1, levels
    if not levels[0].isdecimal():
        raise DecodeError(levels[0])
    return levels


def _packet(payload: bytes) -> object:
    """What a broker sends; the connection is what may end.

    Of two packets with a right length where the first byte is odd: hardly any other input gets past it.
    """
    if len(payload) > 1 and payload[0] % 2:
        half = 2 + len(payload[2:]) // 2
        payload = _framed(payload[1], payload[2:half]) + _framed(payload[1], payload[half:])
    else:
        payload = payload[1:]
    messages: list[IncomingMessage] = []
    client = session_client(BrokerAddress("nowhere", 1883), "fuzzed", SessionSettings(), messages.append)
    sock: Any = BufferedSocket(Canned(payload, ends=False))
    client._sock = sock
    while client.socket() is not None:
        client.loop_read(1)
        if not sock.pending():
            break
    if client.socket() is None:
        raise DecodeError("the connection was closed")
    return messages


def _packets() -> list[bytes]:
    expiry, text = b"\x05\x02\x00\x00\x00\x1e", b"\x0d\x03\x00\x0aimage/jpeg"
    welcome = _framed(0x20, b"\x00\x00\x00")
    plain = _framed(0x30, b"\x00\x01a" + expiry + b"payload")
    asked = _framed(0x32, b"\x00\x01a\x00\x07" + text + b"payload")
    refused = _framed(0x40, b"\x00\x01\x87")
    streams = [welcome, plain + plain, asked, refused, _framed(0x90, b"\x00\x01\x00\x01")]
    message = b"\x00\x01a\x00\x07" + text + b"x"
    return [b"\x00" + stream for stream in streams] + [b"\x01\x32" + message + message]


def _framed(first: int, body: bytes) -> bytes:
    return bytes((first,)) + bytes(VariableByteIntegers.encode(len(body))) + body


# --- the network -----------------------------------------------------------------------------------------


class _Responder:
    """Knows what one packet says."""

    def __init__(self, packet: DNSIncoming) -> None:
        self.cache = DNSCache()
        self.cache.async_add_records(packet.answers())

    def get_service_info(self, service_type: str, name: str, timeout: int) -> ServiceInfo | None:
        info = ServiceInfo(service_type, name)
        return info if info.load_from_cache(self) else None  # type: ignore[arg-type]


def _mdns(payload: bytes) -> object:
    """The first byte chooses the service that was asked for; a person is shown what is found."""
    packet = DNSIncoming(payload[1:])
    if not payload or not packet.valid:
        raise DecodeError("no answer")
    service = _SERVICE_TYPES[payload[0] % len(_SERVICE_TYPES)]
    names = [record.alias for record in packet.answers() if isinstance(record, DNSPointer)]
    responder = _Responder(packet)
    found = [announced(responder, service, name, 0.0) for name in names]
    addresses = [address for address in found if address is not None]
    for address in addresses:
        shown = str(address)
        assert shown.isprintable(), shown
        assert parse_address(shown).host == address.host.lower(), shown
        assert parse_address(shown).port == address.port, shown
    if not addresses:
        raise DecodeError("no broker")
    return addresses


def _announcements() -> list[bytes]:
    return [bytes([number]) + _announcement(service) for number, service in enumerate(_SERVICE_TYPES)]


def _announcement(service: str) -> bytes:
    name, server = f"broker.{service}", "broker.local."
    info = ServiceInfo(service, name, 1883, addresses=[bytes((10, 9, 0, 1))], server=server)
    out = DNSOutgoing(zeroconf.const._FLAGS_QR_RESPONSE | zeroconf.const._FLAGS_AA)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    return b"".join(out.packets())
