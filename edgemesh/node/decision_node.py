"""The decision node: the decider role, held by one node at a time."""

from __future__ import annotations

import asyncio
import time

from edgemesh.node.history import HistoryStore
from edgemesh.node.history_actions import HistoryActions, history_path
from edgemesh.node.role_holder import RoleHolder, RoleSpec
from edgemesh.node.shell import Shell
from edgemesh.protocol.topics import Topics
from edgemesh.roles.decider import Decider
from edgemesh.roles.policy_memory import PolicyMemory
from edgemesh.transport.broker_search import Whereabouts


class DecisionNode:
    """Start it on a running loop; ``stop`` ends it cleanly."""

    def __init__(self, mesh: str, name: str, broker: Whereabouts, loop: asyncio.AbstractEventLoop) -> None:
        topics = Topics(mesh)
        self._history = HistoryActions(HistoryStore(history_path(mesh)), topics, loop)
        spec = RoleSpec(
            "decision node",
            f"{mesh}-decision",
            topics.build("decision"),
            0,
            False,
            None,
            # Asked each time: a board without a clock of its own is told the time of day after it began.
            lambda term, boot: Decider(
                name, boot, term, topics, unix_time=lambda now: now + time.time() - loop.time()
            ),
            self._wire,
            PolicyMemory(topics),
        )
        self._holder = RoleHolder(spec, topics, broker, loop)

    def start(self) -> None:
        """Stand by for the role and take it when it is free."""
        self._holder.start()

    async def stop(self) -> None:
        """Leave the role."""
        await self._holder.stop()
        await self._history.close()

    def _wire(self, shell: Shell) -> None:
        shell.handle_also(self._history.handlers(lambda message: shell.carry_out([message])))
