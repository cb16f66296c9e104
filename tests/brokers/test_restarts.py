"""What a session keeps when Mosquitto is restarted with its store."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.transport.local_broker import installed_mosquitto, start_broker
from tests.brokers.peer import Peer
from tests.brokers.servers import free_port

pytestmark = pytest.mark.skipif(
    installed_mosquitto() is None, reason="needs Mosquitto: apt-get install mosquitto"
)
NAME = "home-gateway-0"


def test_a_session_keeps_its_subscriptions_but_for_shared_ones(tmp_path: Path) -> None:
    port = free_port()
    broker = start_broker(port, tmp_path)
    try:
        with Peer(broker.address, NAME, clean_start=False, session_expiry=60) as gateway:
            gateway.subscribe("plain/+")
            gateway.subscribe("$share/gateway/shared/+")
    finally:
        broker.stop()

    broker = start_broker(port, tmp_path)
    try:
        with Peer(broker.address) as speaks:
            speaks.publish("shared/1", b"lost")
            speaks.publish("plain/1", b"kept")
        with Peer(broker.address, NAME, clean_start=False, session_expiry=60) as gateway:
            assert gateway.session_present
            # The gateway leans on this: alone it has no shared subscription.
            assert gateway.next().payload == b"kept"
    finally:
        broker.stop()
