"""Real brokers for tests, on free ports; each is started once per session and ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.embedded import EmbeddedBroker
from tests.brokers.servers import Mosquitto, free_port


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerAddress]:
    """Mosquitto with the shipped file for a home network."""
    with Mosquitto.shipped(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def embedded() -> Iterator[BrokerAddress]:
    """The embedded broker."""
    with EmbeddedBroker(free_port()) as broker:
        yield broker.address
