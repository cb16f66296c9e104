"""Ways into a mesh that end, and one that comes back: no job and no question waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from edgemesh.errors import BrokerError, DeadlineError
from edgemesh.node import job_session
from edgemesh.node.client import AsyncClient
from edgemesh.node.job_session import BrokerSession, JobSession, LaneSession
from edgemesh.node.local_lane import Frames, LaneServer, lane_path
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted
from edgemesh.simulation.models import input_of, made_up_model, result_of
from edgemesh.transport.address import BrokerAddress

MODEL, _ = made_up_model()
WAIT = 10.0
"""Until a story that does not end counts as stuck."""


class Agent:
    """The agent's end of the lane; it answers jobs at once, or keeps them."""

    def __init__(self, path: Path, *, answers: bool = True, knows: bool = True) -> None:
        self.submitted: list[JobSubmitted] = []
        self._answers = answers
        self._knows = knows
        self._programs: list[Frames] = []
        self._lane = LaneServer(
            path,
            asyncio.get_running_loop(),
            submit=self._submit,
            cancel=lambda job: None,
            manifest=self._manifest,
        )
        made = self._lane._client

        def program() -> Frames:
            self._programs.append(made())
            return self._programs[-1]

        self._lane._client = program  # type: ignore[method-assign]

    async def start(self) -> None:
        await self._lane.start()

    def die(self) -> None:
        self._lane.stop()
        for frames in self._programs:
            assert frames.transport is not None
            frames.transport.abort()

    def answer(self, job: str) -> None:
        self._lane.ended(JobEnded(job, MODEL.name, 0.01, section=result_of(MODEL, job)))

    def _submit(self, job: JobSubmitted) -> None:
        self.submitted.append(job)
        if self._answers:
            self.answer(job.job)

    def _manifest(self, model: str) -> Manifest | None:
        return MODEL if self._knows else None


def _job(name: str, left: float = WAIT) -> JobSubmitted:
    return JobSubmitted(name, MODEL.name, input_of(MODEL, name), left)


async def _end(session: JobSession, name: str, left: float = WAIT) -> JobEnded:
    future: asyncio.Future[JobEnded] = asyncio.get_running_loop().create_future()
    session.submit(_job(name, left), future.set_result)
    return await future


async def _until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


def _tell(story: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(story, WAIT))  # type: ignore[arg-type]


@pytest.fixture
def lane(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sock"


def _broker_session() -> BrokerSession:
    return BrokerSession("home", "app", BrokerAddress("127.0.0.1", 1), asyncio.get_running_loop())


def test_a_job_after_the_close_ends_at_once() -> None:
    async def story() -> None:
        session = _broker_session()
        await session.close()

        ended = await _end(session, "late")

        assert ended.code == BrokerError.code and "the client was closed" in ended.text

    _tell(story())


def test_a_job_that_is_submitted_because_another_one_was_ended_by_the_close_ends_too() -> None:
    async def story() -> None:
        session, texts = _broker_session(), []

        def again(ended: JobEnded) -> None:
            texts.append(ended.text)
            if len(texts) < 3:
                session.submit(_job(f"number {len(texts)}"), again)

        session.submit(_job("number 0"), again)
        await session.close()

        assert len(texts) == 3 and all("the client was closed" in text for text in texts)

    _tell(story())


def test_a_question_for_a_manifest_ends_with_the_close() -> None:
    async def story() -> None:
        session = _broker_session()
        asked = asyncio.ensure_future(session.manifest("face", WAIT))
        await asyncio.sleep(0)
        await session.close()

        with pytest.raises(BrokerError, match="the client was closed"):
            await asked
        with pytest.raises(BrokerError, match="the client was closed"):
            await session.manifest("face", WAIT)

    _tell(story())


def test_a_program_works_again_once_its_agent_is_back(lane: Path) -> None:
    async def story() -> None:
        agent = Agent(lane)
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)
        assert (await _end(session, "first")).section == result_of(MODEL, "first")

        for turn in range(2):
            agent.die()
            await _until(lambda: session._frames is None)
            agent = Agent(lane)
            await agent.start()
            await _until(lambda: session._frames is not None)

            assert (await _end(session, f"again {turn}")).section == result_of(MODEL, f"again {turn}")
            assert await session.manifest(MODEL.name, WAIT) == MODEL
        await session.close()
        agent.die()

    _tell(story())


def test_a_program_that_tries_again_without_a_pause_comes_through_as_well(tmp_path: Path) -> None:
    async def story() -> None:
        agent = Agent(lane_path(tmp_path))
        await agent.start()
        given = np.frombuffer(input_of(MODEL, "photograph"), np.uint8)
        async with AsyncClient(origin="camera", device_directory=tmp_path) as client:
            await client.infer(MODEL.name, given)
            agent.die()
            again = Agent(lane_path(tmp_path))
            starting = asyncio.ensure_future(again.start())
            errors = 0
            ends = time.monotonic() + WAIT  # what hinders the loop hinders its timeouts, too
            while time.monotonic() < ends:
                try:
                    await client.infer(MODEL.name, given)
                    break
                except BrokerError:
                    errors += 1
            assert errors and len(again.submitted) == 1
            await starting
        again.die()

    _tell(story())


def test_what_waits_for_an_agent_that_ends_is_told_and_so_is_what_comes_before_it_is_back(lane: Path) -> None:
    async def story() -> None:
        agent = Agent(lane, answers=False, knows=False)
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)
        under_way = asyncio.ensure_future(_end(session, "under way"))
        asked = asyncio.ensure_future(session.manifest(MODEL.name, WAIT))
        await _until(lambda: agent.submitted)
        agent.die()

        ended = await under_way
        assert ended.code == BrokerError.code and "agent ended" in ended.text
        with pytest.raises(BrokerError, match="agent ended"):
            await asked
        ended = await _end(session, "while it is away")
        assert ended.code == BrokerError.code and "agent ended" in ended.text
        with pytest.raises(BrokerError, match="agent ended"):
            await session.manifest(MODEL.name, WAIT)
        await session.close()

    _tell(story())


def test_a_question_that_is_under_way_when_the_agent_ends_is_told(lane: Path) -> None:
    async def story() -> None:
        agent = Agent(lane)
        agent._lane._manifest = lambda model: agent.die()  # type: ignore[assignment,func-returns-value]
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)

        with pytest.raises(BrokerError, match="agent ended"):
            await session.manifest(MODEL.name, 2 * WAIT)
        await session.close()

    _tell(story())


def test_a_closed_program_does_not_come_back(lane: Path) -> None:
    async def story() -> None:
        agent = Agent(lane, answers=False)
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)
        under_way = asyncio.ensure_future(_end(session, "under way"))
        await _until(lambda: agent.submitted)
        agent.die()
        await under_way
        await session.close()
        await session.close()

        ended = await _end(session, "late")
        assert ended.code == BrokerError.code and "the client was closed" in ended.text
        with pytest.raises(BrokerError, match="the client was closed"):
            await session.manifest(MODEL.name, WAIT)
        await _until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(story())


def test_jobs_and_questions_under_way_end_with_the_close_of_the_program(lane: Path) -> None:
    async def story() -> None:
        agent = Agent(lane, answers=False, knows=False)
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)
        under_way = asyncio.ensure_future(_end(session, "under way"))
        asked = asyncio.ensure_future(session.manifest(MODEL.name, WAIT))
        await _until(lambda: agent.submitted)
        await session.close()

        ended = await under_way
        assert ended.code == BrokerError.code and "the client was closed" in ended.text
        with pytest.raises(BrokerError, match="the client was closed"):
            await asked
        agent.die()

    _tell(story())


def test_a_job_ends_by_its_deadline_where_the_agent_says_nothing(
    lane: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: the agent was paused, and its socket stayed open."""
    monkeypatch.setattr(job_session, "_GRACE_SECONDS", 0.1)

    async def story() -> None:
        agent = Agent(lane, answers=False)
        await agent.start()
        session = LaneSession(lane, asyncio.get_running_loop())
        await session.open(WAIT)
        longer = asyncio.ensure_future(_end(session, "longer"))

        ended = await _end(session, "short", 0.1)
        assert ended.code == DeadlineError.code and "agent" in ended.text
        agent.answer("short")  # too late: nobody waits for it
        agent.answer("longer")
        assert (await longer).section == result_of(MODEL, "longer")
        assert not session._waiting and not session._deadlines
        await session.close()
        agent.die()

    _tell(story())
