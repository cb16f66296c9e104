"""Only those publish on a topic whom docs/wire.md calls its writers: access rules can be made of it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from edgemesh.protocol.topics import TOPICS
from edgemesh.simulation.broker import Message
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.run import played
from edgemesh.simulation.faults.schedules import schedule_of
from edgemesh.simulation.faults.world import World


def called(world: World, client_id: str) -> set[str]:
    """What the table calls a client."""
    name = client_id.removeprefix("home-")
    if name.startswith("decision"):  # or one that stands by
        return {"decision node"}
    if name.startswith("gateway-"):
        return {"gateway", "requester"}
    if name in world.mesh.devices:
        return {"device", "requester", "holder"}
    return {"client", "requester"}


@pytest.mark.parametrize("seed", range(8))
def test_roles_write_only_where_the_table_of_topics_says(seed: int) -> None:
    wrote, strangers = Counter[str](), Counter[tuple[str, str]]()

    def watch(world: World) -> None:
        before = world.mesh.broker.on_publish

        def published(connection: ModelledConnection, message: Message) -> None:
            assert before is not None
            before(connection, message)
            # What simulated people publish, and where answers to them go, is up to the schedule.
            if connection is world.app or not message.topic.startswith(world.topics.root):
                return
            kind = world.topics.parse(message.topic).kind
            wrote[kind] += 1
            if not called(world, connection.client_id) & set(re.split(", | or ", TOPICS[kind].writer)):
                strangers[kind, connection.client_id] += 1

        world.mesh.broker.on_publish = published

    played(schedule_of(seed), watch)

    assert not strangers
    assert {"work", "reply", "assignment", "result", "request", "link"} <= set(wrote)
