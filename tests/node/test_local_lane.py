"""The agent's socket for programs on its machine: what it sends, and when it comes and goes."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgemesh.errors import BrokerError, BusyError, SupersededError
from edgemesh.node import local_lane
from edgemesh.node.local_lane import Frames, LaneServer, connect_lane, lane_path, pack_ended, pack_job
from edgemesh.roles.actions import JobEnded
from edgemesh.roles.events import JobSubmitted
from edgemesh.runtime.channel import pack_message

WAIT = 10.0
"""Until a story that does not end counts as stuck."""


class _Written(asyncio.Transport):
    """Keeps what is handed to the socket."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Any] = []

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.buffers += list_of_data

    def is_closing(self) -> bool:
        return False


def test_no_empty_buffer_is_sent() -> None:
    """Found by a reader: from Python 3.12 on asyncio never gets rid of one, and its loop spins."""
    frames, written = Frames(lambda header, body: None, lambda: None), _Written()
    frames.connection_made(written)
    error = pack_ended(JobEnded("job", "face", 0.0, BusyError.code, "is busy"))
    frames.send(error)

    assert all(len(buffer) for buffer in written.buffers)
    assert b"".join(written.buffers) == b"".join(error)


class _Agent:
    """The agent's side of a lane; it takes jobs and keeps them."""

    def __init__(self, path: Path) -> None:
        self.jobs: list[str] = []
        self.cancelled: list[str] = []
        self.lane = LaneServer(
            path,
            asyncio.get_running_loop(),
            submit=lambda job: self.jobs.append(job.job),
            cancel=self.cancel,
            manifest=lambda model: None,
        )
        self.end_by_cancelling: dict[str, str] = {}
        """Jobs that end when another is cancelled."""

    def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        if job in self.end_by_cancelling:
            self.lane.ended(JobEnded(self.end_by_cancelling[job], "face", 0.1, SupersededError.code, "newer"))


async def _until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


class _Program:
    """Submits jobs to whoever listens."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.told = asyncio.Event()
        """The agent has ended."""

    async def connect(self, path: Path) -> None:
        """Raises BrokerError."""
        loop = asyncio.get_running_loop()
        self.frames = await connect_lane(
            path, loop, lambda ended: self.ended.append(ended.job), lambda name, found: None, self.told.set
        )

    def submit(self, job: str) -> None:
        self.frames.send(pack_job(JobSubmitted(job, "face", b"input", 30.0)))


async def _submit(path: Path, job: str) -> None:
    """Submit a job as a new program does; raises BrokerError."""
    program = _Program()
    await program.connect(path)
    program.submit(job)
    program.frames.close()


def _tell(story: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(story, WAIT))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(local_lane, "_LOOK_SECONDS", 0.02)
    return tmp_path / "jobs.sock"


async def _first_and_second(
    path: Path, caplog: pytest.LogCaptureFixture
) -> tuple[_Agent, _Agent, asyncio.Future[None]]:
    """Two agents of one name, and the start of the second, which waits for the first to end."""
    first, second = _Agent(path), _Agent(path)
    await first.lane.start()
    starting = asyncio.ensure_future(second.lane.start())
    await _until(lambda: "another agent" in caplog.text)
    return first, second, starting


def test_a_second_agent_leaves_the_socket_to_the_first_and_has_it_after_that(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: it took the socket away, and when it ended the first was never reached again."""

    async def story() -> None:
        first, second, starting = await _first_and_second(path, caplog)
        await _submit(path, "one")
        await _until(lambda: first.jobs == ["one"])

        first.lane.stop()
        await starting
        await _submit(path, "two")
        await _until(lambda: second.jobs == ["two"])
        second.lane.stop()
        with pytest.raises(BrokerError, match="no agent"):
            await _submit(path, "three")

    _tell(story())
    assert caplog.text.count("another agent") == 1


def test_a_second_agent_that_ends_takes_nothing_with_it_and_does_not_come_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        first, second, starting = await _first_and_second(path, caplog)
        second.lane.stop()
        await _submit(path, "one")
        await _until(lambda: first.jobs == ["one"])

        first.lane.stop()
        await starting
        assert not path.exists()

    _tell(story())


def test_the_socket_of_an_agent_that_died_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))

    async def story() -> None:
        agent = _Agent(path)
        await agent.lane.start()
        await _submit(path, "one")
        await _until(lambda: agent.jobs == ["one"])
        agent.lane.stop()

    _tell(story())
    assert not path.exists()


@pytest.fixture
def one_file(path: Path) -> Iterator[Path]:
    """A path on a disk with room for one file."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    place = path.parent / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "small", place], check=True)
    yield place / "jobs.sock"
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_disk_without_room_for_a_socket_has_it_once_somebody_made_room(
    one_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: programs did not reach an agent that began on a full disk until it began again."""
    one_file.with_name("photographs").touch()

    async def story() -> None:
        agent = _Agent(one_file)
        starting = asyncio.ensure_future(agent.lane.start())
        await _until(lambda: caplog.records)
        one_file.with_name("photographs").unlink()
        await starting
        await _submit(one_file, "one")
        await _until(lambda: agent.jobs == ["one"])
        agent.lane.stop()

    _tell(story())
    assert [record.getMessage() for record in caplog.records] == [
        f"programs on this machine cannot reach this agent at {one_file} for now: No space left on device"
    ]


def test_an_agent_on_a_disk_that_became_read_only_ends_all_the_same(
    one_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: it ended with a traceback, and its mesh was not told that it stopped."""

    async def story() -> None:
        agent = _Agent(one_file)
        await agent.lane.start()
        subprocess.run(["mount", "-o", "remount,ro", one_file.parent], check=True)
        agent.lane.stop()
        with pytest.raises(BrokerError, match="no agent"):
            await _submit(one_file, "one")

    _tell(story())
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot remove the socket {one_file}: Read-only file system"
    ]


def test_only_the_socket_is_for_its_user_alone(path: Path) -> None:
    """Found by a reader: so was what the rest of the process made while the socket was."""
    others = path.with_name("others")

    async def story() -> None:
        agent = _Agent(path)
        starting = asyncio.ensure_future(agent.lane.start())
        await asyncio.sleep(0)
        others.touch()
        await starting
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        agent.lane.stop()

    before = os.umask(0o022)
    try:
        _tell(story())
    finally:
        os.umask(before)
    assert stat.S_IMODE(others.stat().st_mode) == 0o644


def test_an_agent_that_ends_leaves_a_socket_that_is_not_its_own(path: Path) -> None:
    async def story() -> None:
        agent = _Agent(path)
        await agent.lane.start()
        path.unlink()
        other = _Agent(path)
        await other.lane.start()
        agent.lane.stop()
        await _submit(path, "one")
        await _until(lambda: other.jobs == ["one"])
        other.lane.stop()

    _tell(story())


def test_an_agent_that_ends_tells_the_programs_at_once_and_takes_no_job_any_more(path: Path) -> None:
    """Found by a reader: jobs were taken, and had no end, for as long as the agent took to end."""

    async def story() -> None:
        agent, program, late = _Agent(path), _Program(), _Program()
        await agent.lane.start()
        await program.connect(path)
        program.submit("answered")
        program.submit("under way")
        await _until(lambda: len(agent.jobs) == 2)
        connecting = asyncio.ensure_future(late.connect(path))
        await asyncio.sleep(0)
        agent.lane.ended(JobEnded("answered", "face", 0.1))
        agent.lane.stop()
        program.submit("too late")
        await program.told.wait()
        assert program.ended == ["answered"]

        await connecting
        late.submit("too late as well")
        await late.told.wait()
        assert agent.jobs == ["answered", "under way"] and not agent.cancelled

    _tell(story())


def test_a_program_that_goes_away_has_all_its_jobs_cancelled_though_one_ends_meanwhile(path: Path) -> None:
    """Found by a reader: cancelling a frame sends the one that was held, and that supersedes another."""
    failures: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        agent, program = _Agent(path), _Program()
        agent.end_by_cancelling = {"runs": "waits"}
        await agent.lane.start()
        await program.connect(path)
        for job in ("runs", "waits", "held"):
            program.submit(job)
        await _until(lambda: len(agent.jobs) == 3)

        program.frames.close()
        await _until(lambda: failures or len(agent.cancelled) == 2)
        agent.lane.stop()
        assert agent.cancelled == ["runs", "held"]

    _tell(story())
    assert not failures


def test_in_a_long_folder_agent_and_program_meet_whatever_their_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: each looked where XDG_RUNTIME_DIR or TMPDIR said, where others could be first."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()

    def open_folders() -> int:
        names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(name) == str(folder) for name in names)

    async def story() -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        agent, late = _Agent(lane_path(folder)), _Agent(lane_path(folder))
        await agent.lane.start()
        assert [each.name for each in tmp_path.iterdir()] == [folder.name]

        monkeypatch.delenv("XDG_RUNTIME_DIR")
        monkeypatch.setenv("TMPDIR", "/")
        await _submit(lane_path(folder), "one")
        await _until(lambda: agent.jobs == ["one"])
        assert local_lane.is_served(lane_path(folder))

        assert open_folders() == 1
        agent.lane.stop()
        await late.lane.start()
        await _submit(lane_path(folder), "two")
        await _until(lambda: late.jobs == ["two"])
        late.lane.stop()
        assert not list(folder.iterdir())
        with pytest.raises(BrokerError, match="no agent"):
            await _submit(lane_path(folder), "three")
        await asyncio.sleep(0)
        assert open_folders() == 0

    _tell(story())


def test_a_folder_too_long_where_descriptors_have_no_names_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_lane, "_DESCRIPTORS", tmp_path / "none")

    async def story() -> None:
        with pytest.raises(OSError, match="shorten --directory"):
            await _Agent(lane_path(tmp_path / ("long" * 30))).lane.start()

    _tell(story())


def test_a_socket_of_another_user_gets_no_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a reader: in a folder where others write, one of them may listen there."""

    async def story() -> None:
        agent = _Agent(path)
        await agent.lane.start()
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        with pytest.raises(BrokerError, match=f"is user {me}, and .* runs as user {me + 1}"):
            await _submit(path, "one")
        monkeypatch.undo()
        await _submit(path, "two")
        await _until(lambda: agent.jobs == ["two"])
        agent.lane.stop()

    _tell(story())


@pytest.mark.parametrize(
    "odd",
    [
        {"stream": ["camera"]},
        {"stream": {}},
        {"route": [{"device": "pi", "stop": functools.reduce(lambda inner, _: [inner], range(1010), [])}]},
    ],
    ids=["a list", "a map", "lists in lists"],
)
def test_a_job_that_no_requester_could_keep_closes_the_connection(
    odd: dict[str, Any], tmp_path: Path
) -> None:
    """Found by the fuzzer: the requester had the job before it found that no table takes its stream."""
    taken: list[JobSubmitted] = []
    loop: Any = None
    lane = LaneServer(
        tmp_path / "socket", loop, submit=taken.append, cancel=lambda job: None, manifest=lambda model: None
    )
    frames, transport = lane._client(), _Closing()
    frames.connection_made(transport)

    frames.data_received(b"".join(pack_message({"job": "j", "model": "face", "left": 5.0, **odd})))

    assert transport.closed and not taken


class _Closing(_Written):
    """Knows that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True
