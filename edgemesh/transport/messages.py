"""Messages as the rest of the program has them, and paho's form of them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgemesh.roles.actions import Publish

_LONGEST_EXPIRY = 2**32 - 1
"""Seconds that fit into the property's four bytes (MQTT 5, 3.3.2.3.3): 136 years."""


class IncomingMessage(NamedTuple):
    """What arrived, with the MQTT 5 properties that we use."""

    topic: str
    payload: bytes | memoryview
    retained: bool
    duplicate: bool
    content_type: str | None
    response_topic: str | None
    correlation: bytes | None
    expiry: float | None
    mid: int
    qos: int


def incoming_message(message: paho.MQTTMessage) -> IncomingMessage | None:
    """What arrived; None when its topic is no text."""
    try:
        topic = message.topic
    except UnicodeDecodeError:
        return None  # no topic of ours
    sent = vars(message.properties)
    return IncomingMessage(
        topic,
        bytes(message.payload),
        message.retain,
        message.dup,
        sent.get("ContentType"),
        sent.get("ResponseTopic"),
        sent.get("CorrelationData"),
        sent.get("MessageExpiryInterval"),
        message.mid,
        message.qos,
    )


def publish_properties(message: Publish) -> Any:
    """MQTT 5 properties for paho to publish the message with, or None."""
    expiry = None if message.expiry is None else _whole_seconds(message.expiry)
    if message.content_type or message.correlation is not None:
        return _properties(expiry, message.content_type, message.correlation)
    return None if expiry is None else _expiry_alone(expiry)


def _whole_seconds(expiry: float) -> int | None:
    """None without an end; nor has one what is no number: a message that is kept too long does less harm than
    one that is lost."""
    if math.isnan(expiry) or expiry == math.inf:
        return None
    return math.ceil(min(max(1.0, expiry), _LONGEST_EXPIRY))


def _properties(expiry: int | None, content_type: str | None, correlation: bytes | None) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    if content_type:
        properties.ContentType = content_type
    if correlation is not None:
        properties.CorrelationData = correlation
    return properties


class _Packed:
    """Properties whose bytes are known: all that paho asks of them when it publishes is ``pack``."""

    def __init__(self, properties: Properties) -> None:
        self._bytes: bytes = properties.pack()  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """The bytes, without going through paho's table of 27 names each time (a tenth of a small hop)."""
        return self._bytes


@lru_cache(maxsize=256)
def _expiry_alone(expiry: int) -> _Packed:
    return _Packed(_properties(expiry, None, None))
