"""The client library: ``Client`` for ordinary programs, ``AsyncClient`` for asyncio ones."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgemesh.errors import ReplacedError, SupersededError
from edgemesh.node.job_session import BrokerSession, JobSession, LaneSession
from edgemesh.node.local_lane import lane_path
from edgemesh.node.prepared_job import Input, PreparedJob, Result
from edgemesh.node.shared_loop import LoopClosedError, SharedLoop
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.ids import APP_ORIGIN, checked_id
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted
from edgemesh.transport.address import BrokerAddress, parse_address

DEFAULT_BROKER = "mqtt://localhost:1883"
_CONNECT_SECONDS = 10.0
_MANIFEST_SECONDS = 3.0
_WINDOW = 4


class AsyncClient:
    """``async with AsyncClient() as mesh: result = await mesh.infer("face", "photo.jpg")``."""

    def __init__(
        self,
        broker: str | BrokerAddress | None = None,
        *,
        mesh: str | None = None,
        origin: str = APP_ORIGIN,
        device_directory: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        """``origin`` names the device on this machine where inputs arise; ``app`` is anywhere else.

        ``broker`` and ``mesh`` default to the environment's EDGEMESH_BROKER and EDGEMESH_MESH, then to
        mqtt://localhost:1883 and ``home``. EDGEMESH_CA may name the CA file by which a URL's broker is
        verified. ``timeout`` is each job's deadline in seconds. Raises SettingsError for what is no URL.
        """
        self._mesh = mesh or os.environ.get("EDGEMESH_MESH") or "home"
        chosen = broker or os.environ.get("EDGEMESH_BROKER") or DEFAULT_BROKER
        ca_file = os.environ.get("EDGEMESH_CA") or None
        self._address = parse_address(chosen, ca_file) if isinstance(chosen, str) else chosen
        self._origin = checked_id(origin, "origin")
        self._directory = device_directory
        self._timeout = timeout
        self._session: JobSession | None = None

    async def open(self) -> None:
        """Connect; raises BrokerError."""
        loop = asyncio.get_running_loop()
        if self._origin == APP_ORIGIN:
            self._session = BrokerSession(self._mesh, self._origin, self._address, loop)
        else:
            from edgemesh.node.device_agent import device_directory

            directory = self._directory or device_directory(self._mesh, self._origin)
            self._session = LaneSession(lane_path(directory), loop)
        try:
            await self._session.open(_CONNECT_SECONDS)
        except BaseException:  # cancelled, too
            await self._session.close()  # or it would go on trying on the caller's loop
            raise

    async def close(self) -> None:
        """Disconnect."""
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> AsyncClient:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def manifest(self, model: str) -> Manifest:
        """The model's manifest.

        Raises UnknownModelError, BrokerError where the client was closed, or the device's agent has ended or
        is silent.
        """
        assert self._session is not None, "open the client first"
        return await self._session.manifest(model, _MANIFEST_SECONDS)

    async def infer(
        self,
        model: str,
        given: Input,
        *,
        timeout: float | None = None,
        route: Sequence[Hop] | None = None,
    ) -> Result:
        """Run one input; raises an EdgemeshError that says what the job ended in.

        Where the model gets other content meanwhile the input is prepared and submitted once more.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + (timeout or self._timeout)
        replaced = 0
        while True:
            prepared = await self._prepared(model, given)
            future: asyncio.Future[JobEnded] = loop.create_future()
            self._submit(prepared.job(ends - loop.time(), None, route), _setting(future))
            if future.done():  # who tries again and again would leave nothing else a turn of the loop
                await asyncio.sleep(0)
            ended = await future
            replaced += 1
            if ended.code != ReplacedError.code or replaced > 1:
                return prepared.result(ended)

    async def stream(
        self,
        model: str,
        inputs: Iterable[Input],
        *,
        latest: bool = False,
        window: int = _WINDOW,
        timeout: float | None = None,
    ) -> AsyncIterator[Result]:
        """Results in the order of ``inputs``, at most ``window`` jobs under way.

        With ``latest`` a newer frame replaces an older one that still waits, which then has no result.
        """
        name = new_stream() if latest else None
        loop = asyncio.get_running_loop()
        under_way: deque[tuple[PreparedJob, asyncio.Future[JobEnded]]] = deque()
        for given in inputs:
            if len(under_way) >= window:
                prepared, future = under_way.popleft()
                async for result in _unless_superseded(prepared, future):
                    yield result
            prepared = await self._prepared(model, given)
            future = loop.create_future()
            self._submit(prepared.job(timeout or self._timeout, name, None), _setting(future))
            under_way.append((prepared, future))
        for prepared, future in under_way:
            async for result in _unless_superseded(prepared, future):
                yield result

    async def _prepared(self, model: str, given: Input) -> PreparedJob:
        return PreparedJob(self._known(model) or await self.manifest(model), given)

    def _known(self, model: str) -> Manifest | None:
        assert self._session is not None, "open the client first"
        return self._session.known(model)

    def _submit(self, job: JobSubmitted, ended: Any) -> None:
        assert self._session is not None, "open the client first"
        self._session.submit(job, ended)


def _setting(future: asyncio.Future[JobEnded] | Future[JobEnded]) -> Callable[[JobEnded], None]:
    # Who waits for it may have been cancelled, and the future with it; or submitting failed half-way.
    return lambda ended: None if future.done() else future.set_result(ended)


async def _unless_superseded(
    prepared: PreparedJob, future: asyncio.Future[JobEnded]
) -> AsyncIterator[Result]:
    ended = await future
    if ended.code != SupersededError.code:
        yield prepared.result(ended)


class Client:
    """``with Client() as mesh: print(mesh.infer("face", "photo.jpg").outputs)``.

    The methods may be called from any thread. A thread of its own carries the connection, except while a
    single ``infer`` waits: then its caller does.
    """

    def __init__(
        self,
        broker: str | BrokerAddress | None = None,
        *,
        mesh: str | None = None,
        origin: str = APP_ORIGIN,
        device_directory: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        """As ``AsyncClient``; connects at once and raises BrokerError when it cannot."""
        self._timeout = timeout
        self._twin = AsyncClient(
            broker, mesh=mesh, origin=origin, device_directory=device_directory, timeout=timeout
        )
        self._loop = SharedLoop("edgemesh-client")
        try:
            self._loop.run_coroutine(self._twin.open())
        except BaseException:  # interrupted, too
            self.close()
            raise

    def close(self) -> None:
        """Disconnect and end the thread; jobs under way end in an error, and later calls in RuntimeError."""
        if self._loop.closed:
            return
        try:
            self._loop.run_coroutine(self._twin.close())
        except LoopClosedError:
            pass  # another thread was faster
        finally:
            self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def manifest(self, model: str) -> Manifest:
        """The model's manifest.

        Raises UnknownModelError, BrokerError where the client is closed meanwhile, or the device's agent has
        ended or is silent.
        """
        return self._loop.run_coroutine(self._twin.manifest(model))

    def infer(
        self,
        model: str,
        given: Input,
        *,
        timeout: float | None = None,
        route: Sequence[Hop] | None = None,
    ) -> Result:
        """Run one input; raises an EdgemeshError that says what the job ended in.

        Where the model gets other content meanwhile the input is prepared and submitted once more.
        """
        ends = time.monotonic() + (timeout or self._timeout)
        replaced = 0
        while True:
            prepared, job, future = self._job(model, given, ends - time.monotonic(), None, route)
            ended = self._loop.run(partial(self._twin._submit, job, _setting(future)), future)
            replaced += 1
            if ended.code != ReplacedError.code or replaced > 1:
                return prepared.result(ended)

    def stream(
        self,
        model: str,
        inputs: Iterable[Input],
        *,
        latest: bool = False,
        window: int = _WINDOW,
        timeout: float | None = None,
    ) -> Iterator[Result]:
        """Results in the order of ``inputs``, at most ``window`` jobs under way.

        With ``latest`` a newer frame replaces an older one that still waits, which then has no result.
        """
        name = new_stream() if latest else None
        under_way: deque[PendingResult] = deque()
        for given in inputs:
            if len(under_way) >= window:
                yield from _unless_replaced(under_way.popleft())
            under_way.append(self.begin(model, given, timeout=timeout, stream=name))
        while under_way:
            yield from _unless_replaced(under_way.popleft())

    def begin(
        self,
        model: str,
        given: Input,
        *,
        timeout: float | None = None,
        stream: str | None = None,
        route: Sequence[Hop] | None = None,
    ) -> PendingResult:
        """Submit one input and return at once; raises InputError, and what ``manifest`` does.

        Of the jobs of one ``stream`` (see ``new_stream``) a newer one replaces an older one that still waits.
        """
        prepared, job, future = self._job(model, given, timeout or self._timeout, stream, route)
        # No coroutine per job: a task costs as much as the rest of a small hop.
        self._loop.call(partial(self._twin._submit, job, _setting(future)), future)
        return PendingResult(prepared, future)

    def _job(
        self, model: str, given: Input, left: float, stream: str | None, route: Sequence[Hop] | None
    ) -> tuple[PreparedJob, JobSubmitted, Future[JobEnded]]:
        prepared = PreparedJob(self._twin._known(model) or self.manifest(model), given)
        return prepared, prepared.job(left, stream, route), Future()


@dataclass(frozen=True)
class PendingResult:
    """A job under way."""

    _prepared: PreparedJob
    _future: Future[JobEnded]

    def result(self) -> Result:
        """Wait for its end; raises what it ended in: SupersededError where a newer one replaced it."""
        return self._prepared.result(self._future.result())


def new_stream() -> str:
    """A name for a stream of frames of which only the newest matters."""
    return f"stream-{secrets.token_hex(6)}"


def _unless_replaced(pending: PendingResult) -> Iterator[Result]:
    try:
        result = pending.result()
    except SupersededError:
        return
    yield result
