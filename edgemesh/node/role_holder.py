"""Runs a role that only one node of the mesh holds at a time: stand by, take it, hold it, stand by again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgemesh.node.shell import Shell
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action
from edgemesh.roles.events import Event
from edgemesh.roles.policy_memory import PolicyMemory, Remembering
from edgemesh.roles.role import HeldRole
from edgemesh.roles.standby import Standby
from edgemesh.transport.broker_search import Whereabouts
from edgemesh.transport.session import SessionSettings

_log = logging.getLogger("edgemesh")


@dataclass
class RoleSpec:
    """What distinguishes one such role from another."""

    name: str
    client_id: str
    """Belongs to the role: the broker's one-connection rule makes it the lock."""
    topic: str
    session_expiry: int
    manual_acknowledgement: bool
    receive_maximum: int | None
    make: Callable[[int, str], HeldRole]
    """The role for a term and a boot id, which is new for each holding."""
    wire: Callable[[Shell], None] = lambda shell: None
    """Adds handlers for the role's own actions."""
    memory: PolicyMemory | None = None
    """What the role's nodes remember for the broker."""


class RoleHolder:
    """Start it on a running loop; ``stop`` ends it cleanly."""

    def __init__(
        self,
        spec: RoleSpec,
        topics: Topics,
        broker: Whereabouts,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._spec = spec
        self._topics = topics
        self._boot = secrets.token_hex(4)
        """Of the last holding: the retained state of our own is no reason to stand by."""
        self._term = 0
        """Of the last holding: a broker that lost its memory does not know it any more."""
        self._broker = broker
        self._loop = loop
        self._shell: Shell | None = None
        self._held: HeldRole | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin to stand by."""
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Leave the role so that another can take it at once."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._shell is not None:
            last_words = self._held.farewell() if self._held is not None else []
            await self._shell.close(last_words)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("the role %s is given up", self._spec.name, exc_info=error)
            raise SystemExit(1)  # a process that holds no role and says nothing would never be started again

    async def _run(self) -> None:
        while True:
            self._term = max(await self._stand_by(), self._term + 1)
            await self._hold(self._term)

    async def _stand_by(self) -> int:
        sounding = self._topics.build("probe", requester=f"standby-{self._boot}")
        standby = Standby(self._spec.name, self._spec.topic, self._boot, sounding)
        memory = self._spec.memory
        free = asyncio.Event()

        class Watched:
            def handle(self, event: Event, now: float) -> list[Action]:
                actions = standby.handle(event, now)
                if standby.taken is not None:
                    free.set()
                return actions if memory is None else [*actions, *memory.handle(event, now)]

        self._shell = Shell(Watched(), self._topics, self._loop)
        client_id = f"{self._spec.client_id}-standby-{self._boot}"
        self._shell.connect(self._broker, client_id, SessionSettings(unique_id=True))
        await free.wait()
        await self._shell.close([])
        assert standby.taken is not None
        return standby.taken.term

    async def _hold(self, term: int) -> None:
        spec = self._spec
        self._boot = secrets.token_hex(4)
        role = spec.make(term, self._boot)
        shell = Shell(
            role if spec.memory is None else Remembering(role, spec.memory), self._topics, self._loop
        )
        spec.wire(shell)
        self._shell, self._held = shell, role
        session = SessionSettings(
            clean_start=spec.session_expiry == 0,
            session_expiry=spec.session_expiry,
            receive_maximum=spec.receive_maximum,
            manual_acknowledgement=spec.manual_acknowledgement,
            will=role.will(),
        )
        self._over.clear()
        _log.info("holding the role %s (term %d)", spec.name, term)
        shell.connect(
            self._broker,
            spec.client_id,
            session,
            on_taken_over=self._over.set,
            # Whoever lost its connection asks first who holds the role now.
            on_lost=self._over.set,
        )
        await self._over.wait()
        self._held = None
        await shell.close([])
