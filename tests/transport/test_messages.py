"""What a message says in MQTT's properties."""

from __future__ import annotations

import math

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgemesh.roles.actions import Publish
from edgemesh.transport.messages import publish_properties


def stated(expiry: float, correlation: bytes | None = None) -> int | None:
    """Message expiry interval in the bytes on the wire."""
    packed = publish_properties(Publish("t", b"", expiry=expiry, correlation=correlation))
    if packed is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)
    properties.unpack(packed.pack())
    value: int | None = vars(properties).get("MessageExpiryInterval")
    return value


@pytest.mark.parametrize("correlation", [None, b"17"])
@pytest.mark.parametrize(
    ("expiry", "seconds"),
    [
        (-math.inf, 1),
        (-3.0, 1),
        (0.2, 1),
        (1.5, 2),
        (2**32 - 1.5, 2**32 - 1),
        (2**32, 2**32 - 1),
        (1e300, 2**32 - 1),
        (math.inf, None),
        (math.nan, None),
    ],
)
def test_an_expiry_is_whole_seconds_that_fit_into_four_bytes(
    expiry: float, seconds: int | None, correlation: bytes | None
) -> None:
    assert stated(expiry, correlation) == seconds
