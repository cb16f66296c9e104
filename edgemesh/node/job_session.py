"""A program's way into a mesh: over the broker, or over the local lane of the device it runs on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from edgemesh.errors import BrokerError, UnknownModelError
from edgemesh.node.local_lane import Frames, connect_lane, pack_job
from edgemesh.node.shell import Shell
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.client import ClientRole
from edgemesh.roles.events import JobSubmitted
from edgemesh.runtime.channel import pack_message
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.connection import NOBODY_LISTENS
from edgemesh.transport.session import SessionSettings

Ended = Callable[[JobEnded], None]
_CLOSED = "the client was closed while the job was under way"
_AGENT_ENDED = "the device's agent ended: submit the job again when it is back"


class JobSession(Protocol):
    """Used on its loop's thread only."""

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when nobody answers in time."""
        ...

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest; raises UnknownModelError when the mesh has none in time."""
        ...

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class BrokerSession:
    """Over the broker: jobs arise on no device (origin ``app``)."""

    def __init__(
        self, mesh: str, origin: str, address: BrokerAddress, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.requester = f"client-{secrets.token_hex(6)}"
        self._mesh = mesh
        self._address = address
        self._loop = loop
        self._topics = Topics(mesh)
        self.role = ClientRole(self.requester, origin, self._topics)
        self.shell = Shell(self.role, self._topics, loop)
        self.shell.handle_also({JobEnded: self._ended})
        self._waiting: dict[str, Ended] = {}

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when nobody answers in time."""
        client_id = f"{self._mesh}-{self.requester}"
        await connect_in_time(self.shell, self._address, client_id, self._loop, timeout)

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest; raises UnknownModelError when the mesh has none in time."""
        ends = self._loop.time() + timeout
        while model not in self.role.view.manifests:
            if self._loop.time() > ends:
                known = ", ".join(sorted(self.role.view.manifests)) or "none"
                raise UnknownModelError(
                    f"no model {model} in mesh {self._mesh} (known: {known}): add it with  edgemesh model add"
                )
            await asyncio.sleep(0.01)
        return self.role.view.manifests[model]

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once."""
        self._waiting[job.job] = ended
        self.shell.deliver(job)

    async def close(self) -> None:
        """Disconnect; jobs under way end in an error."""
        await self.shell.close([])
        _end_all(self._waiting, _CLOSED)

    def _ended(self, action: JobEnded) -> None:
        ended = self._waiting.pop(action.job, None)
        if ended is not None:
            ended(action)


async def connect_in_time(
    shell: Shell, address: BrokerAddress, client_id: str, loop: asyncio.AbstractEventLoop, timeout: float
) -> None:
    """Connect a shell; raises BrokerError when nobody answers in time, or who answers is not ours to use."""
    refusal: list[str] = []
    shell.connect(address, client_id, SessionSettings(unique_id=True), on_refused=refusal.append)
    assert shell.connection is not None
    ends = loop.time() + timeout
    while not shell.connection.connected:
        if refusal:
            raise BrokerError(refusal[0])
        if loop.time() > ends:
            problem = shell.connection.problem
            if problem and NOBODY_LISTENS not in problem:
                raise BrokerError(problem)
            raise BrokerError(
                f"no broker answers at {address}: start one with  edgemesh up,  or name yours "
                "with --broker mqtt://HOST"
            )
        await asyncio.sleep(0.01)


class LaneSession:
    """Over the local lane: jobs arise on the device whose agent runs on this machine."""

    def __init__(self, lane: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._path = lane
        self._loop = loop
        self._frames: Frames | None = None
        self._waiting: dict[str, Ended] = {}
        self._manifests: dict[str, list[asyncio.Future[Manifest | None]]] = {}

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when no agent listens in time."""
        ends = self._loop.time() + timeout
        while True:
            try:
                self._frames = await connect_lane(
                    self._path, self._loop, self._ended, self._manifest_came, self._closed
                )
                return
            except BrokerError:
                if self._loop.time() > ends:
                    raise
                await asyncio.sleep(0.1)

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest; raises UnknownModelError when the agent knows none in time."""
        assert self._frames is not None
        ends = self._loop.time() + timeout
        while self._loop.time() < ends:
            future: asyncio.Future[Manifest | None] = self._loop.create_future()
            self._manifests.setdefault(model, []).append(future)
            self._frames.send(pack_message({"manifest": model}))
            try:
                found = await asyncio.wait_for(future, max(0.1, ends - self._loop.time()))
            except asyncio.TimeoutError:
                raise BrokerError(f"the device's agent does not answer at {self._path}") from None
            if found is not None:
                return found
            await asyncio.sleep(0.1)
        raise UnknownModelError(f"this device knows no model {model}: add it with  edgemesh model add")

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once."""
        assert self._frames is not None and self._frames.transport is not None
        if self._frames.transport.is_closing():
            ended(_lost(job.job, _AGENT_ENDED))
            return
        self._waiting[job.job] = ended
        self._frames.send(pack_job(job))

    async def close(self) -> None:
        """Disconnect; jobs under way end in an error."""
        if self._frames is not None and self._frames.transport is not None:
            self._frames.transport.close()
        _end_all(self._waiting, _CLOSED)

    def _ended(self, ended: JobEnded) -> None:
        waiting = self._waiting.pop(ended.job, None)
        if waiting is not None:
            waiting(ended)

    def _manifest_came(self, model: str, manifest: Manifest | None) -> None:
        for future in self._manifests.pop(model, []):
            if not future.done():
                future.set_result(manifest)

    def _closed(self) -> None:
        _end_all(self._waiting, _AGENT_ENDED)


def _end_all(waiting: dict[str, Ended], text: str) -> None:
    """Nobody would ever say what became of them."""
    while waiting:
        job, ended = waiting.popitem()
        ended(_lost(job, text))


def _lost(job: str, text: str) -> JobEnded:
    return JobEnded(job, "", 0.0, BrokerError.code, text)
