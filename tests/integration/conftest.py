"""Meshes of real processes on a real broker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemesh.protocol.manifest import Manifest
from edgemesh.transport.embedded import EmbeddedBroker
from edgemesh.transport.local_broker import installed_mosquitto, start_broker
from tests.integration.mesh import RunningMesh, zoo_model


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def broker_port() -> Iterator[int]:
    assert installed_mosquitto(), "needs Mosquitto: apt-get install mosquitto mosquitto-clients"
    with start_broker(free_port()) as running:
        assert running.kind == "mosquitto"
        yield running.address.port


@pytest.fixture(params=["mosquitto", "embedded"])
def any_broker_port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "mosquitto":
        with start_broker(free_port()) as running:
            assert running.kind == "mosquitto", "apt-get install mosquitto mosquitto-clients"
            yield running.address.port
    else:
        with EmbeddedBroker(free_port()) as embedded:
            yield embedded.port


@pytest.fixture
def mesh(broker_port: int, tmp_path: Path) -> Iterator[RunningMesh]:
    running = RunningMesh(broker_port, tmp_path)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def face(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    return zoo_model("face-short", tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def photograph() -> Path:
    import matplotlib

    return Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
