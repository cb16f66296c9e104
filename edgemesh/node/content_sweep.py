"""Drops content from a device's disk that no manifest names any more.

A device that is off while a model is replaced or removed is told of neither when it comes back: the content
is not named, and that is all. It goes when it is old (``content_age.py``), and while the mesh can be heard.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable

from edgemesh.node.content_age import KEPT_SECONDS, sort_by_age
from edgemesh.node.content_store import ContentStore, KeptFile, free_in_a_thread
from edgemesh.roles.actions import Action
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived
from edgemesh.roles.role import Role
from edgemesh.transport.daemon_threads import DAEMON_THREADS

_SETTLE_SECONDS = 600.0
"""After connecting: what the broker retains comes by then, and what other devices say to one that forgot."""
_EVERY_SECONDS = 6 * 3600.0
_NAMES = 16384
"""Of content that are remembered; where somebody names more, nothing is dropped."""
_NAMED = re.compile(rb'"digest"\s*:\s*"([0-9a-f]{64})"')
"""In a manifest, also in one that cannot be read: of a later release it may be in use tomorrow."""
_log = logging.getLogger("edgemesh")


class ContentSweep:
    """Hears what its device hears. Decides on the loop's thread, where nothing is begun meanwhile."""

    def __init__(
        self,
        store: ContentStore,
        loop: asyncio.AbstractEventLoop,
        is_used: Callable[[str], bool],
        settle_seconds: float | None = None,
    ) -> None:
        """``is_used`` says of a digest whether the device has or fetches it now."""
        self._store = store
        self._loop = loop
        self._is_used = is_used
        self._settle_seconds = _SETTLE_SECONDS if settle_seconds is None else settle_seconds
        self._named: set[str] = set()
        """Digests that a manifest has named on this connection."""
        self._sweeping: asyncio.Task[None] | None = None

    def hear(self, event: Event) -> None:
        """Take in what happens to the device."""
        if isinstance(event, MessageReceived):
            if event.topic.kind == "model" and len(self._named) <= _NAMES:
                found = _NAMED.search(event.payload)
                if found is not None:
                    self._named.add(bytes(found[1]).decode())
        elif isinstance(event, Connected):
            self.stop()
            self._sweeping = self._loop.create_task(self._sweep_for_ever())
        elif isinstance(event, Disconnected):
            self.stop()

    def stop(self) -> None:
        """Drop nothing more until the next connection."""
        self._named.clear()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    async def _sweep_for_ever(self) -> None:
        await asyncio.sleep(self._settle_seconds)
        while True:
            try:
                await self._sweep()
            except (OSError, RuntimeError) as error:  # a loose card, or no thread; the next time may do
                _log.warning("cannot look for old content on the disk now: %s", error)
            await asyncio.sleep(_EVERY_SECONDS)

    async def _sweep(self) -> None:
        # In threads: a card that is worn, or busy with other things, may take seconds.
        kept = await self._loop.run_in_executor(DAEMON_THREADS, self._store.kept)
        if len(self._named) > _NAMES:
            return
        files = {file.name: file for file in kept}
        times = {name: file.at for name, file in files.items()}
        drop, renew = sort_by_age(times, lambda name: self._is_named(files[name].digest), time.time())
        for name in drop:
            self._drop(files[name])
        if renew:
            await self._loop.run_in_executor(DAEMON_THREADS, self._store.renew, renew)

    def _is_named(self, digest: str) -> bool:
        return digest in self._named or self._is_used(digest)

    def _drop(self, file: KeptFile) -> None:
        give_back = self._store.let_go(file)
        if give_back is None:
            return
        _log.info(
            "dropped %s from the disk (%d bytes): no model has had this content for %d days",
            file.name.replace(file.digest, file.digest[:20]),
            file.size,
            KEPT_SECONDS // 86400,
        )
        free_in_a_thread(give_back)


class Overheard:
    """A role whose events a sweep hears, too."""

    def __init__(self, role: Role, sweep: ContentSweep) -> None:
        self._role = role
        self._sweep = sweep

    def handle(self, event: Event, now: float) -> list[Action]:
        """React as the role does."""
        self._sweep.hear(event)
        return self._role.handle(event, now)
