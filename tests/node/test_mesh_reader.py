"""What operator commands read of a mesh, and in which order."""

from __future__ import annotations

from edgemesh.node.mesh_reader import MeshReading
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Subscribe
from edgemesh.roles.events import Connected

TOPICS = Topics("home")


def test_policies_come_before_what_there_is_most_of() -> None:
    """Found by a reader: a broker dropped them behind the profiles, and ``edgemesh plan`` wiped the rest."""
    actions = MeshReading("reader", TOPICS).handle(Connected(), 0.0)
    wanted = [action.filter for action in actions if isinstance(action, Subscribe)]

    assert wanted.index(TOPICS.filter("model")) < wanted.index(TOPICS.filter("profile"))
    assert wanted.index(TOPICS.filter("policy")) < wanted.index(TOPICS.filter("profile"))
