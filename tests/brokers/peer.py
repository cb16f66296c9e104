"""A client for broker tests: paho with its own thread, every answer awaited."""

from __future__ import annotations

import queue
import socket
import threading
import uuid
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgemesh.transport.address import BrokerAddress

WAIT = 30.0
"""Seconds after which something that should come is missing; no machine is that slow."""


class Peer:
    """One connection; use as a context manager."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str | None = None,
        *,
        version: int = paho.MQTTv5,
        clean_start: bool = True,
        session_expiry: int = 0,
        receive_maximum: int | None = None,
        manual_ack: bool = False,
        keepalive: int = 30,
        will: tuple[str, bytes, bool] | None = None,
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.disconnected: queue.Queue[int] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._published: dict[int, threading.Event] = {}
        arguments: dict[str, Any] = {}
        if version != paho.MQTTv5:
            arguments["clean_session"] = clean_start
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id or f"peer-{uuid.uuid4().hex[:12]}",
            protocol=MQTTProtocolVersion(version),
            manual_ack=manual_ack,
            reconnect_on_failure=False,
            **arguments,
        )
        self.client.max_inflight_messages_set(1000)
        self.client.on_connect = lambda c, u, flags, reason, p: self._answers.put((flags, reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self._answers.put(reasons)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.disconnected.put(reason.value)
        if will is not None:
            self.client.will_set(will[0], will[1], 1, will[2])
        connect: dict[str, Any] = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = session_expiry
            if receive_maximum is not None:
                properties.ReceiveMaximum = receive_maximum
            connect = {"clean_start": clean_start, "properties": properties}
        self.client.connect(address.host, address.port, keepalive, **connect)
        self.client.loop_start()
        flags, reason = self._answers.get(timeout=WAIT)
        assert not reason.is_failure, reason
        self.session_present: bool = flags.session_present

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect cleanly: no Will."""
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        """Close the socket without a DISCONNECT, as a process that is killed."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribe and wait for the acknowledgement."""
        self.client.subscribe(topic_filter, qos)
        reasons = self._answers.get(timeout=WAIT)
        assert not any(reason.is_failure for reason in reasons), reasons

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 1, retain: bool = False, **properties: Any
    ) -> None:
        """Publish, and wait for the acknowledgement at QoS 1."""
        given = None
        if properties:
            given = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(given, name, value)
        info = self.client.publish(topic, payload, qos, retain, given)
        info.wait_for_publish(WAIT)
        assert info.is_published()

    def next(self) -> paho.MQTTMessage:
        """The next message; fails when none comes."""
        return self.messages.get(timeout=WAIT)

    def until(self, payload: bytes) -> list[bytes]:
        """Payloads that came before the one given; tells what a broker did not send, without waiting."""
        seen: list[bytes] = []
        while (message := self.next()).payload != payload:
            seen.append(bytes(message.payload))
        return seen
