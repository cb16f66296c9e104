"""paho's client, set up for one session and spared most of the work on messages that are alike.

Three of paho's private methods are overridden. A paho that no longer calls one of the two that decode works
as before, only slower, and a refusal that it does not know ends its connections; without ``_create_socket``
no connection works. Two private attributes are set, its TLS context and whether it has one: without that a CA
file is read only once, and a client cannot go from a broker with TLS to one without.
``tests/transport/test_paho_client.py`` and ``test_secure.py`` notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from paho.mqtt.reasoncodes import ReasonCode

from edgemesh.transport.address import BrokerAddress, tls_context
from edgemesh.transport.buffered_socket import BufferedSocket
from edgemesh.transport.messages import IncomingMessage, incoming_message
from edgemesh.transport.outgoing import MOST_UNACKNOWLEDGED
from edgemesh.transport.session import SessionSettings

if TYPE_CHECKING:
    import ssl

KEEPALIVE = 10
"""Seconds; a silent death shows as a Will after 1.5 of it."""
CONNECT_SECONDS = 5.0
_HEADS, _HEAD_BYTES = 256, 512
"""Heads that are kept, and bytes of each; jobs to one device have one topic and few different expiries."""
_LARGE_BYTES = 16 << 10
"""A smaller payload is copied: that takes less than what a view costs its readers."""
PACKET_TOO_LARGE: Final = 0x95
_BYTE_ORDER_MARK: Final = "\ufeff".encode()
"""Where a property has this paho takes the message for malformed and ends the connection. MQTT 5 allows it
(1.5.4-3) and brokers hand it on: what is retained or not acknowledged would come again with each connection.
Such a message is taken without its properties."""
_FAILURE = 0x80
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]

Head = tuple[int, bytes, bytes]
"""First byte, topic with its length, properties with their length: a message but for its id and payload."""


class PahoClient(paho.Client):
    """Reads and writes through a ``BufferedSocket``; has paho decode each head of a message once.

    For each message paho makes its table of 27 properties anew, and copies the payload up to nine times while
    it decodes what stands before it: 0.05 to 0.08 ms of 50 KB in a process that just woke up (measured). An
    acknowledgement takes it 0.02 ms there.
    """

    def __init__(self, client_id: str, transport: Any, received: Callable[[IncomingMessage], None]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            transport=transport,
            # Always by hand: paho would write the PUBACK, which wakes the broker, before we see the message.
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self.on_message = self._decoded
        self._received = received
        self._heads: dict[Head, IncomingMessage] = {}
        """As paho decoded them; the oldest leaves first."""
        self._secured: Callable[[], ssl.SSLContext] | None = None
        self._aside: tuple[Head, bytes | memoryview] | None = None
        """Head and payload of a message whose head paho is decoding."""

    def forget(self, mids: Iterable[int]) -> None:
        """Do not send these messages again with the next connection; call it before that is begun."""
        with self._out_message_mutex:
            for mid in mids:
                self._out_messages.pop(mid, None)

    def secure(self, context: Callable[[], ssl.SSLContext] | None) -> None:
        """Connect with TLS and, each time, a ``context`` of that time: CA files are replaced while we run.

        None is without TLS.
        """
        self._ssl, self._ssl_context = False, None  # paho would take it once only
        if context is not None:
            self.tls_set_context(context())
        self._secured = context

    def _create_socket(self) -> Any:
        if self._secured is not None:
            self._ssl_context = self._secured()
        sock = super()._create_socket()
        # paho's WebSocket connections buffer themselves, and are mended by WholeFrames.
        return sock if self.transport == "websockets" else BufferedSocket(sock)

    def _handle_publish(self) -> Any:
        first, packet = self._in_packet["command"], self._in_packet["packet"]
        qos = first >> 1 & 3
        self._aside = None
        if qos > 1 or len(packet) < 2:  # a message at QoS 2 is delivered with a later packet
            return super()._handle_publish()
        # MQTT 5, 3.3.2: topic, packet id, properties.
        topic_end = 2 + (packet[0] << 8 | packet[1])
        start = topic_end + 2 * qos
        if start >= len(packet):
            return super()._handle_publish()  # which says what is wrong with it
        nbytes, digits = VariableByteIntegers.decode(packet[start : start + 4])  # type: ignore[no-untyped-call]
        end = start + digits + nbytes
        if end > len(packet):
            return super()._handle_publish()
        with memoryview(packet) as view:
            head = first, bytes(view[:topic_end]), bytes(view[start:end])
            # paho makes a new buffer for the next packet, so of a large payload this one can be kept.
            large = len(packet) >= _LARGE_BYTES
            payload = memoryview(packet)[end:].toreadonly() if large else bytes(view[end:])
        known = self._heads.get(head)
        if known is None:
            self._aside = head, payload
            self._in_packet["packet"] = packet[:end]
            try:
                return super()._handle_publish()
            except MalformedPacket:
                if _BYTE_ORDER_MARK not in head[2]:
                    raise
                self._aside = None
                self._in_packet["packet"] = packet[:start] + b"\0" + packet[end:]
                return super()._handle_publish()
        mid = packet[topic_end] << 8 | packet[topic_end + 1] if qos else 0
        self._received(known._replace(payload=payload, mid=mid))
        return paho.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Any) -> Any:
        packet = self._in_packet["packet"]
        # The packet id alone is a success (MQTT 5, 3.4.2.1), which paho would tell with two tables made anew.
        reason = _SUCCESS if len(packet) == 2 else _unknown_refusal(packet[2]) if len(packet) > 2 else None
        if cmd != "PUBACK" or reason is None:
            return super()._handle_pubackcomp(cmd)
        with self._out_message_mutex:
            mid = packet[0] << 8 | packet[1]
            if mid in self._out_messages:
                return self._do_on_publish(mid, reason, _NO_PROPERTIES)
        return paho.MQTT_ERR_SUCCESS

    def _decoded(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        incoming = incoming_message(message)
        if incoming is None:
            self.ack(message.mid, message.qos)  # or the broker would keep room for it
            return
        # Taken once: it belongs to this message and to no other.
        aside, self._aside = self._aside, None
        if aside is not None:
            head, payload = aside
            self._keep(head, incoming)
            incoming = incoming._replace(payload=payload)
        self._received(incoming)

    def _keep(self, head: Head, message: IncomingMessage) -> None:
        _, topic, properties = head
        if len(topic) + len(properties) > _HEAD_BYTES:
            return
        if len(self._heads) >= _HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[head] = message


@cache
def _unknown_refusal(code: int) -> ReasonCode | None:
    """What a PUBACK says with a reason that paho does not know there; None where paho knows it.

    Mosquitto refuses what is larger than its ``message_size_limit`` with 0x95, which the standard has for
    DISCONNECT alone (measured, 2.0.11). paho ends the connection over it and sends the message again with the
    next one, for ever.
    """
    if code < _FAILURE or _named(PacketTypes.PUBACK, code) is not None:
        return None
    return _named(PacketTypes.DISCONNECT, code) or ReasonCode(PacketTypes.PUBACK, "Unspecified error")


def _named(packet_type: int, code: int) -> ReasonCode | None:
    try:
        return ReasonCode(packet_type, identifier=code)
    except (KeyError, ValueError):
        return None


def session_client(
    address: BrokerAddress,
    client_id: str,
    session: SessionSettings,
    received: Callable[[IncomingMessage], None],
) -> PahoClient:
    """A client that knows where and how to connect; it does so when ``reconnect`` is called."""
    client = PahoClient(client_id, "websockets" if address.websocket_path else "tcp", received)
    # 0 is no limit. paho would keep what is beyond one and write an acknowledgement past it; what has to wait
    # waits with the connection (``transport/outgoing.py``).
    client.max_inflight_messages_set(0)
    client.max_queued_messages_set(0)
    client.connect_timeout = CONNECT_SECONDS
    if address.websocket_path:
        client.ws_set_options(path=address.websocket_path)
    if address.username:
        client.username_pw_set(address.username, address.password)
    if session.will is not None:
        will = session.will
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    direct(client, address, session)
    return client


def direct(client: PahoClient, address: BrokerAddress, session: SessionSettings) -> None:
    """Have the next attempt of ``client`` go to ``address``, by the transport and as the user it has.

    Raises SettingsError for a CA file that cannot be used.
    """
    client.secure(partial(tls_context, address) if address.tls else None)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = session.session_expiry
    # Stated always: to a client that says nothing Mosquitto sends ``max_inflight_messages``, queues
    # ``max_queued_messages`` and drops what is left of a burst of retained messages (measured).
    properties.ReceiveMaximum = session.receive_maximum or MOST_UNACKNOWLEDGED
    client.connect_async(
        address.host,
        address.port,
        keepalive=KEEPALIVE,
        clean_start=session.clean_start,
        properties=properties,
    )
