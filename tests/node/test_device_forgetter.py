"""Which devices are forgotten: those that say that they left, and those of which nothing is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edgemesh.errors import SettingsError
from edgemesh.node import device_forgetter
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.protocol.jsontext import encode_json
from edgemesh.roles import mesh_view
from edgemesh.roles.actions import Publish
from edgemesh.transport.address import BrokerAddress
from tests.protocol.messages import JSON_MESSAGES

_SILENT_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_view, "_SILENT_SECONDS", _SILENT_SECONDS)


def played(
    address: BrokerAddress, mesh: str, story: Callable[[MeshReader], Coroutine[Any, Any, None]]
) -> None:
    """``story`` of somebody who has said that the device ``lost`` is online."""

    async def play() -> None:
        async with MeshReader(mesh, address) as other:
            await other.publish_retained("state", b"online", device="lost")
            await story(other)

    asyncio.run(play())


def test_a_device_whose_will_was_never_published_is_forgotten_once_it_is_silent(
    mosquitto: BrokerAddress,
) -> None:
    """Found by a reader: its power was cut and the broker restarted, and it could never be forgotten."""

    async def story(other: MeshReader) -> None:
        assert await device_forgetter._forget("silent", mosquitto, "lost") == []
        async with MeshReader("silent", mosquitto) as later:
            assert "lost" not in later.reading.view.devices

    played(mosquitto, "silent", story)


def test_a_device_whose_heart_beats_is_refused_at_its_first_beat(mosquitto: BrokerAddress) -> None:
    async def story(other: MeshReader) -> None:
        topic = other.topics.build("heartbeat", device="lost")
        beat = Publish(topic, encode_json(JSON_MESSAGES["heartbeat-least"]))

        async def beating() -> None:
            while True:
                other.shell.carry_out([beat])
                await asyncio.sleep(0.1)

        heart = asyncio.create_task(beating())
        with pytest.raises(SettingsError, match="lost is online: stop its agent first"):
            await device_forgetter._forget("alive", mosquitto, "lost")
        heart.cancel()
        async with MeshReader("alive", mosquitto) as later:
            assert later.reading.view.devices["lost"].state == "online"

    played(mosquitto, "alive", story)
