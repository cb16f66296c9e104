"""What operator commands read of a mesh, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edgemesh.errors import OperatorError
from edgemesh.node import mesh_reader
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Log, Subscribe
from edgemesh.roles.events import Connected, MessageReceived
from tests.brokers.servers import Mosquitto

TOPICS = Topics("home")


def test_policies_come_before_what_there_is_most_of() -> None:
    """Found by a reader: a broker dropped them behind the profiles, and ``edgemesh plan`` wiped the rest."""
    actions = MeshReading("reader", TOPICS).handle(Connected(), 0.0)
    wanted = [action.filter for action in actions if isinstance(action, Subscribe)]

    assert wanted.index(TOPICS.filter("model")) < wanted.index(TOPICS.filter("profile"))
    assert wanted.index(TOPICS.filter("policy")) < wanted.index(TOPICS.filter("profile"))


def test_the_log_says_whose_message_was_refused() -> None:
    """Found by a reader: which model it was of, nobody was told."""
    reading = MeshReading("reader", TOPICS)
    topic = TOPICS.parse(TOPICS.build("model", model="face"))

    (line,) = reading.handle(MessageReceived(topic, b"{}", retained=True), 0.0)

    assert isinstance(line, Log) and line.text.startswith("refused a message on model face: ")
    assert list(reading.unreadable) == ["face"]
    reading.handle(MessageReceived(topic, b""), 0.0)
    assert not reading.unreadable


def test_what_the_broker_refuses_ends_a_command_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: ``model add`` waited for 12 s and said that the broker does not answer."""
    for patience in ("_CONNECT_SECONDS", "_READ_SECONDS", "_ANSWER_SECONDS"):
        monkeypatch.setattr(mesh_reader, patience, 3600.0)
    rules = tmp_path / "acl"
    rules.write_text("topic read #\n")

    async def story(broker: Mosquitto) -> None:
        async with MeshReader("home", broker.address) as reader:
            with pytest.raises(OperatorError, match=r"the message on .*/policy/face: Not authorized"):
                await reader.publish_retained("policy", b"{}", model="face")
            with pytest.raises(OperatorError, match=r"the message on .*/request/plan: Not authorized"):
                await reader.asked_plan("face", "app")

    with Mosquitto.shipped(tmp_path, acl_file=str(rules)) as broker:
        asyncio.run(asyncio.wait_for(story(broker), 60.0))
