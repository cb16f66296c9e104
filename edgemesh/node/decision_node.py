"""The decision node: the decider role, held by one node at a time."""

from __future__ import annotations

import asyncio

from edgemesh.node.role_holder import RoleHolder, RoleSpec
from edgemesh.protocol.topics import Topics
from edgemesh.roles.decider import Decider
from edgemesh.transport.address import BrokerAddress


class DecisionNode:
    """Start it on a running loop; ``stop`` ends it cleanly."""

    def __init__(self, mesh: str, name: str, address: BrokerAddress, loop: asyncio.AbstractEventLoop) -> None:
        topics = Topics(mesh)
        spec = RoleSpec(
            "decision node",
            f"{mesh}-decision",
            topics.build("decision"),
            0,
            False,
            None,
            lambda term, boot: Decider(name, boot, term, topics),
        )
        self._holder = RoleHolder(spec, topics, address, loop)

    def start(self) -> None:
        """Stand by for the role and take it when it is free."""
        self._holder.start()

    async def stop(self) -> None:
        """Leave the role."""
        await self._holder.stop()
