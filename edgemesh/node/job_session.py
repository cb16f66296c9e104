"""A program's way into a mesh: over the broker, or over the local lane of the device it runs on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from edgemesh.errors import BrokerError, DeadlineError, InputError, ReplacedError, UnknownModelError
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
_CLOSED = "the client was closed"
_CLOSED_MEANWHILE = f"{_CLOSED} while the job was under way"
_AGENT_ENDED = "the device's agent ended: submit the job again when it is back"
_AGENT_SILENT = "the device's agent said nothing by the deadline: it is stopped, or gets no processor time"
_GRACE_SECONDS = 1.0
"""How long after its deadline a job waits for the agent's own word, which says more."""
_RETRY_SECONDS = 0.1
_OUT_OF_DATE = frozenset({ReplacedError.code, UnknownModelError.code, InputError.code})
"""What a job may end in whose input was prepared for another model than there is now."""


class JobSession(Protocol):
    """Used on its loop's thread only."""

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when nobody answers in time."""
        ...

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest.

        Raises UnknownModelError when the mesh has none in time, BrokerError where the session was closed, or
        the agent behind it has ended or is silent.
        """
        ...

    def known(self, model: str) -> Manifest | None:
        """The model's manifest as far as it is known without asking; may be called from any thread."""
        ...

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once, at once where the session was closed."""
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
        self._closing = False

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when nobody answers in time."""
        client_id = f"{self._mesh}-{self.requester}"
        await connect_in_time(self.shell, self._address, client_id, self._loop, timeout)

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest.

        Raises UnknownModelError when the mesh has none in time, BrokerError where the session was closed.
        """
        ends = self._loop.time() + timeout
        while True:
            if self._closing:
                raise BrokerError(_CLOSED)
            if model in self.role.view.manifests:
                return self.role.view.manifests[model]
            if self._loop.time() > ends:
                known = ", ".join(sorted(self.role.view.manifests)) or "none"
                raise UnknownModelError(
                    f"no model {model} in mesh {self._mesh} (known: {known}): add it with  edgemesh model add"
                )
            await asyncio.sleep(0.01)

    def known(self, model: str) -> Manifest | None:
        """The one in force: the mesh says when it changes."""
        return self.role.view.manifests.get(model)

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once."""
        if self._closing:
            ended(_lost(job.job, _CLOSED))
            return
        self._waiting[job.job] = ended
        self.shell.deliver(job)

    async def close(self) -> None:
        """Disconnect; jobs under way end in an error."""
        self._closing = True
        _end_all(self._waiting, _CLOSED_MEANWHILE)
        # Who closes may be cancelled meanwhile, and what is half closed would stay.
        await asyncio.shield(self._loop.create_task(self.shell.close([])))

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
    """Over the local lane: jobs arise on the device whose agent runs on this machine.

    Where the agent ends, so do jobs under way; later ones run once it is back. Deadlines are the agent's to
    keep, and are kept here as well: one that is paused keeps its socket and says nothing.
    """

    def __init__(self, lane: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._path = lane
        self._loop = loop
        self._frames: Frames | None = None
        self._waiting: dict[str, Ended] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._manifests: dict[str, list[asyncio.Future[Manifest | None]]] = {}
        self._known: dict[str, Manifest] = {}
        self._reopening: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self, timeout: float) -> None:
        """Connect; raises BrokerError when no agent listens in time."""
        ends = self._loop.time() + timeout
        while True:
            try:
                await self._connect()
                return
            except BrokerError:
                if self._closing or self._loop.time() > ends:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)

    async def manifest(self, model: str, timeout: float) -> Manifest:
        """The model's manifest.

        Raises UnknownModelError when the agent knows none in time, BrokerError where the session was closed,
        or the agent has ended or is silent.
        """
        ends = self._loop.time() + timeout
        while self._loop.time() < ends:
            if self._closing:
                raise BrokerError(_CLOSED)
            frames = self._usable()
            if frames is None:
                await asyncio.sleep(0)  # who asks again and again would leave nothing else a turn of the loop
                raise BrokerError(_AGENT_ENDED)
            future: asyncio.Future[Manifest | None] = self._loop.create_future()
            self._manifests.setdefault(model, []).append(future)
            frames.send(pack_message({"manifest": model}))
            try:
                found = await asyncio.wait_for(future, max(0.1, ends - self._loop.time()))
            except asyncio.TimeoutError:
                raise BrokerError(f"the device's agent does not answer at {self._path}") from None
            if found is not None:
                self._known[model] = found
                return found
            await asyncio.sleep(_RETRY_SECONDS)
        raise UnknownModelError(f"this device knows no model {model}: add it with  edgemesh model add")

    def known(self, model: str) -> Manifest | None:
        """The one that was asked for last, until a job says that it is out of date."""
        return self._known.get(model)

    def submit(self, job: JobSubmitted, ended: Ended) -> None:
        """Submit a job; ``ended`` is called once."""
        frames = self._usable()
        if self._closing or frames is None:
            ended(_lost(job.job, _CLOSED if self._closing else _AGENT_ENDED))
            return
        packed = pack_job(job)  # first, because what cannot be sent raises, and does not wait
        self._waiting[job.job] = ended
        self._deadlines[job.job] = self._loop.call_later(job.left + _GRACE_SECONDS, self._late, job.job)
        frames.send(packed)

    async def close(self) -> None:
        """Disconnect; jobs under way end in an error."""
        self._closing = True
        if self._reopening is not None:
            self._reopening.cancel()
        if self._frames is not None:
            self._frames.close()
        self._end(_CLOSED_MEANWHILE, _CLOSED)

    async def _connect(self) -> None:
        """Try once; raises BrokerError."""
        frames = await connect_lane(
            self._path, self._loop, self._ended, self._manifest_came, self._agent_gone
        )
        assert frames.transport is not None
        if self._closing or frames.transport.is_closing():
            frames.close()
            raise BrokerError(_CLOSED if self._closing else _AGENT_ENDED)
        self._frames = frames

    async def _reopen(self) -> None:
        while not self._closing:
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                await self._connect()
                return
            except BrokerError:
                continue

    def _usable(self) -> Frames | None:
        """None while no agent is there, and between the end of a transport and the news of it."""
        frames = self._frames
        if frames is None or frames.transport is None or frames.transport.is_closing():
            return None
        return frames

    def _ended(self, ended: JobEnded) -> None:
        if ended.code in _OUT_OF_DATE:
            self._known.pop(ended.model, None)
        deadline = self._deadlines.pop(ended.job, None)
        if deadline is not None:
            deadline.cancel()
        waiting = self._waiting.pop(ended.job, None)
        if waiting is not None:
            waiting(ended)

    def _late(self, job: str) -> None:
        self._ended(_lost(job, _AGENT_SILENT, DeadlineError.code))

    def _manifest_came(self, model: str, manifest: Manifest | None) -> None:
        for future in self._manifests.pop(model, []):
            if not future.done():
                future.set_result(manifest)

    def _agent_gone(self) -> None:
        if self._frames is None:
            return  # who connects sees it
        self._frames = None
        if not self._closing:
            self._reopening = self._loop.create_task(self._reopen())
        self._end(_AGENT_ENDED, _AGENT_ENDED)

    def _end(self, jobs: str, questions: str) -> None:
        """End what waits with these texts."""
        while self._deadlines:
            self._deadlines.popitem()[1].cancel()
        _end_all(self._waiting, jobs)
        while self._manifests:
            _, futures = self._manifests.popitem()
            for future in futures:
                if not future.done():
                    future.set_exception(BrokerError(questions))


def _end_all(waiting: dict[str, Ended], text: str) -> None:
    """Nobody would ever say what became of them."""
    while waiting:
        job, ended = waiting.popitem()
        ended(_lost(job, text))


def _lost(job: str, text: str, code: str = BrokerError.code) -> JobEnded:
    return JobEnded(job, "", 0.0, code, text)
