"""A short-lived connection that reads what a mesh says of itself: what operator commands show and change."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgemesh.errors import BrokerError, NoRouteError, OperatorError
from edgemesh.node.content_actions import ContentActions
from edgemesh.node.content_store import ContentStore
from edgemesh.node.job_session import connect_in_time
from edgemesh.node.mesh_reading import ECHO_VERB, MeshReading
from edgemesh.node.shell import Shell
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import PlanRequest, PlanResponse
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.roles.actions import Publish
from edgemesh.roles.content import ContentKeeper
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.daemon_threads import DAEMON_THREADS

_CONNECT_SECONDS = 10.0
_START_ONE = "start one with  edgemesh up,  or name yours with --broker mqtt://HOST"
_READ_SECONDS = 5.0
_QUIET_SECONDS = 0.15
_LOOK_SECONDS = 0.02
_ANSWER_SECONDS = 6.0
"""The decision node plans at most every 2 s and answers after a round."""
T = TypeVar("T")


class MeshReader:
    """``async with MeshReader(mesh, address) as reader``: connected, and the retained messages read."""

    def __init__(self, mesh: str, address: BrokerAddress, content: Path | None = None) -> None:
        """``content`` is a directory for models' content, to fetch it into or to serve it from."""
        self.topics = Topics(mesh)
        self.reading = MeshReading(f"reader-{secrets.token_hex(6)}", self.topics)
        self.store = None if content is None else ContentStore(content)
        self._address = address
        if content is not None:
            self.reading.keeper = ContentKeeper(self.reading.requester, self.topics, lambda manifest: True)

    async def __aenter__(self) -> MeshReader:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(DAEMON_THREADS, check_reachable, self._address)
        self.shell = Shell(self.reading, self.topics, loop)
        if self.store is not None:
            content = ContentActions(self.store, loop, self.shell.deliver, self._carry_out)
            self.shell.handle_also(content.handlers())
        client_id = f"{self.topics.mesh}-{self.reading.requester}"
        try:
            await connect_in_time(self.shell, self._address, client_id, loop, _CONNECT_SECONDS)
        except BrokerError:
            await self.shell.close([])
            raise
        await self.until(self._has_read, _READ_SECONDS)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shell.close([])

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``holds()``, at most ``seconds``; whether it does."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while True:
            self.reading.now = loop.time()
            if holds():
                return True
            if loop.time() >= ends:
                return False
            await asyncio.sleep(_LOOK_SECONDS)

    async def publish_retained(self, kind: str, payload: bytes, **names: str) -> None:
        """Publish and wait until the broker has it; an empty payload clears.

        Raises OperatorError where the broker refuses it, BrokerError where it does not answer.
        """
        topic = self.topics.build(kind, **names)
        token, acknowledged = self._publish(topic, payload, retain=True), self.reading.acknowledged
        if not await self._until_refused_or(token, lambda: token in acknowledged, _CONNECT_SECONDS):
            raise BrokerError(f"{self._address} did not acknowledge {topic}: look at the broker's log")

    async def assignment(self, model: str, origin: str) -> Assignment:
        """The assignment in force, asked for where there is none; raises NoRouteError saying why not."""
        reading = self.reading
        key = model, origin
        if key not in reading.view.assignments:
            answer = await self.asked_plan(model, origin)
            if not answer.planned or not await self.until(
                lambda: key in reading.view.assignments, _ANSWER_SECONDS
            ):
                raise NoRouteError(f"no assignment of {model} for {origin}: {answer.reason}{_hint(answer)}")
        return reading.view.assignments[key]

    async def asked_plan(self, model: str, origin: str) -> PlanResponse:
        """The decision node's answer, after a round of planning; raises as ``asked`` does."""
        return await self.asked("plan", PlanRequest(self.reading.requester, model, origin), PlanResponse)

    async def asked(self, verb: str, request: object, response: type[T]) -> T:
        """The decision node's answer to ``request``.

        Raises NoRouteError when none comes, OperatorError where the broker refuses the request.
        """
        reading = self.reading
        reading.answers.clear()
        topic = self.topics.build("request", verb=verb)
        token = self._publish(topic, encode_json(request), expiry=TOPICS["request"].expiry)

        def mine() -> list[T]:
            return [answer for answer in reading.answers if isinstance(answer, response)]

        if not await self._until_refused_or(token, lambda: bool(mine()), _ANSWER_SECONDS):
            known = reading.decision
            said = (
                "no decision node has been seen" if known is None else f"the decision node is {known.state}"
            )
            raise NoRouteError(f"nobody answers ({verb}): {said}; start one with  edgemesh decision run")
        return mine()[-1]

    def _publish(self, topic: str, payload: bytes, **how: Any) -> str:
        """The token under which the broker's answer is found."""
        token = secrets.token_hex(4)
        self._carry_out(Publish(topic, payload, qos=1, token=token, **how))
        return token

    async def _until_refused_or(self, token: str, holds: Callable[[], bool], seconds: float) -> bool:
        """As ``until``; raises OperatorError as soon as the broker has refused the message with ``token``."""
        refused = self.reading.refused
        held = await self.until(lambda: token in refused or holds(), seconds)
        if token in refused:
            raise OperatorError(refused[token])
        return held

    def _carry_out(self, action: Publish) -> None:
        self.shell.carry_out([action])

    def _has_read(self) -> bool:
        reading = self.reading
        # Who may read and not ask gets a refusal in the place of the acknowledgement.
        echoed = ECHO_VERB in reading.acknowledged or ECHO_VERB in reading.refused
        return echoed and reading.now >= reading.read_at + _QUIET_SECONDS


def _hint(answer: PlanResponse) -> str:
    return "; that may change by itself, ask again soon" if answer.soon else ""


def read_mesh(mesh: str, address: BrokerAddress, listen: float = 0.0) -> MeshReading:
    """What the mesh says of itself, after ``listen`` more seconds for heartbeats; raises BrokerError."""

    async def read() -> MeshReading:
        async with MeshReader(mesh, address) as reader:
            await reader.until(lambda: False, listen)
            return reader.reading

    return asyncio.run(read())


def check_reachable(address: BrokerAddress, mend: str = _START_ONE) -> None:
    """Raise BrokerError at once where nobody listens: a command is not worth waiting for a broker.

    The error ends in what ``mend`` says to do.
    """
    try:
        socket.create_connection((address.host, address.port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise BrokerError(f"no broker at {address} ({error.strerror or error}): {mend}") from None
