"""The executor's process as the agent sees it: real processes, small models."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemesh.node import executor as executor_module
from edgemesh.node.executor import ExecutorProcess, _event_of
from edgemesh.node.stall_watch import StallWatch
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.tensors import decode_tensors, encode_tensors
from edgemesh.roles.actions import LoadUnits, MeasureUnits, RunUnits
from edgemesh.roles.events import Event, ExecutorLost, RangeLoaded, RunFailed, RunFinished
from edgemesh.runtime.shared_bodies import AREA_BYTES
from tests.runtime.tflite_range import manifest_of
from tests.tflite_models import ModelBuilder

pytest.importorskip("tflite_runtime")
_SECONDS = 60.0
"""Until a process that does not answer counts as stuck."""
_SIZES = (16, 50_000, AREA_BYTES - 4096, AREA_BYTES + 4096)
"""Bytes of a body: sent with its message, shared, nearly a whole area, more than one."""

Story = Callable[[ExecutorProcess, "asyncio.Queue[Event]"], Awaitable[None]]


def _negating(directory: Path, elements: int) -> tuple[Path, Manifest]:
    builder = ModelBuilder()
    before, after = builder.tensor((elements,)), builder.tensor((elements,))
    builder.operator("NEG", [before], [after])
    builder.ends([before], [after])
    content = builder.content()
    path = directory / f"{elements}.tflite"
    path.write_bytes(content)
    return path, manifest_of(content)


def _values(elements: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(elements).astype(np.float32)


def _run(name: str, manifest: Manifest, values: np.ndarray) -> RunUnits:
    section = memoryview(b"".join(encode_tensors([values])))
    return RunUnits(name, manifest.digest, 0, manifest.unit_count, section, "raw", 0.0)


def _with_executor(story: Story, watch: StallWatch | None = None) -> None:
    async def told() -> None:
        events: asyncio.Queue[Event] = asyncio.Queue()

        def deliver(event: Event) -> None:
            if isinstance(event, RunFinished):
                event = replace(event, section=bytes(event.section))  # it is written to again
            events.put_nowait(event)

        executor = ExecutorProcess(asyncio.get_running_loop(), 1, deliver, stall_watch=watch)
        executor.start()
        try:
            await asyncio.wait_for(story(executor, events), _SECONDS)
        finally:
            executor.stop()

    asyncio.run(told())


@pytest.mark.parametrize("nbytes", _SIZES)
@pytest.mark.parametrize("shared", [True, False])
def test_outputs_are_right_while_later_jobs_run_already(
    nbytes: int, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shared:
        monkeypatch.setattr(executor_module, "shared_bodies", lambda: None)
    elements = nbytes // 4
    path, manifest = _negating(tmp_path, elements)
    inputs = [_values(elements, seed) for seed in range(3)]

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        for number, values in enumerate(inputs):
            executor.submit(_run(str(number), manifest, values))
        finished = [await events.get() for _ in inputs]

        for number, (event, values) in enumerate(zip(finished, inputs, strict=True)):
            assert isinstance(event, RunFinished)
            assert event.run == str(number)
            assert np.array_equal(decode_tensors(event.section)[0], -values)

    _with_executor(story)


def test_a_job_of_the_wrong_shape_is_answered_and_the_next_one_runs(tmp_path: Path) -> None:
    path, manifest = _negating(tmp_path, 20_000)
    values = _values(20_000, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.submit(_run("wrong", manifest, values[:10_000]))
        executor.submit(_run("right", manifest, values))
        wrong, right = await events.get(), await events.get()

        assert isinstance(wrong, RunFailed)
        assert isinstance(right, RunFinished)
        assert np.array_equal(decode_tensors(right.section)[0], -values)

    _with_executor(story)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_after_a_crash_a_new_process_runs_jobs_and_the_old_memory_is_gone(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    path, manifest = _negating(tmp_path, 20_000)
    values = _values(20_000, 1)
    before = _shared_descriptors()

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.submit(_run("first", manifest, values))
        assert isinstance(await events.get(), RunFinished)
        held = _shared_descriptors()
        assert executor.pid is not None
        os.kill(executor.pid, number)
        assert isinstance(await events.get(), ExecutorLost)
        executor.submit(_run("second", manifest, values))
        second = await events.get()

        assert isinstance(second, RunFinished)
        assert np.array_equal(decode_tensors(second.section)[0], -values)
        assert _shared_descriptors() == held > before

    _with_executor(story)
    assert _shared_descriptors() == before
    assert caplog.messages == [f"the executor process ended by signal {int(number)}; it is started again"]


def test_a_run_that_went_ahead_of_a_death_is_lost_with_it_but_not_to_blame(tmp_path: Path) -> None:
    path, manifest = _negating(tmp_path, 20_000)
    other_path, other = _negating(tmp_path, 16)
    values = _values(20_000, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.open(other_path, other)
        executor.submit(_run("first", manifest, values))
        assert isinstance(await events.get(), RunFinished)
        executor.submit(replace(_run("long", manifest, values), at_least=_SECONDS))
        executor.submit(_run("ahead", other, _values(16, 1)))
        assert len(executor._sent) == 2
        assert executor.pid is not None
        os.kill(executor.pid, signal.SIGKILL)
        lost = await events.get()
        assert isinstance(lost, ExecutorLost) and lost.digest == manifest.digest
        executor.submit(_run("again", manifest, values))
        again = await events.get()

        assert isinstance(again, RunFinished) and again.run == "again"
        assert np.array_equal(decode_tensors(again.section)[0], -values)

    _with_executor(story)


def test_a_process_that_hangs_is_killed_and_the_next_one_runs_jobs(tmp_path: Path) -> None:
    """It is stopped here: as with a library that waits for ever, nothing moves and nothing ends."""
    path, manifest = _negating(tmp_path, 20_000)
    values = _values(20_000, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.submit(_run("first", manifest, values))
        assert isinstance(await events.get(), RunFinished)
        assert executor.pid is not None
        os.kill(executor.pid, signal.SIGSTOP)
        executor.submit(_run("hangs", manifest, values))
        lost = await events.get()
        assert isinstance(lost, ExecutorLost) and lost.digest == manifest.digest
        assert f"hung in run of units 0 to 1 of {manifest.name}" in lost.text
        executor.submit(_run("second", manifest, values))
        second = await events.get()

        assert isinstance(second, RunFinished) and second.run == "second"

    _with_executor(story, StallWatch(look_seconds=0.05, stall_seconds=1.0))


def test_a_board_that_sleeps_through_its_runs_does_not_hang(tmp_path: Path) -> None:
    path, manifest = _negating(tmp_path, 64)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.submit(replace(_run("slow", manifest, _values(64, 1)), at_least=1.0))
        slow = await events.get()

        assert isinstance(slow, RunFinished) and slow.run_seconds >= 1.0

    _with_executor(story, StallWatch(look_seconds=0.05, stall_seconds=0.5))


def test_a_run_whose_time_has_passed_is_not_begun(tmp_path: Path) -> None:
    path, manifest = _negating(tmp_path, 64)
    values = _values(64, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        now = asyncio.get_running_loop().time()
        executor.open(path, manifest)
        executor.submit(replace(_run("in time", manifest, values), until=now + _SECONDS))
        executor.submit(replace(_run("late", manifest, values), until=now))
        in_time, late = await events.get(), await events.get()

        assert isinstance(in_time, RunFinished)
        assert isinstance(late, RunFailed) and late.code == "deadline"

    _with_executor(story)


def test_a_load_has_its_turn_although_jobs_never_end(tmp_path: Path) -> None:
    path, manifest = _negating(tmp_path, 64)
    values = _values(64, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        for number in range(2):
            executor.submit(_run(str(number), manifest, values))
        executor.submit(LoadUnits(manifest.digest, 0, manifest.unit_count))
        finished = 0
        while isinstance(event := await events.get(), RunFinished):
            finished += 1
            executor.submit(_run(str(finished + 1), manifest, values))
        assert isinstance(event, RangeLoaded)
        assert finished <= 3

    _with_executor(story)


_NONSENSE = {
    "no message": b"\x01\0\0\0\0\0\0\0\xc1",
    "a message that ends too soon": b"\x01\0\0\0\0\0\0\0\x81",
    "bytes after the message": b"\x02\0\0\0\0\0\0\0\x80\x80",
    "no map": b"\x01\0\0\0\0\0\0\0\x05",
    "no text": b"\x03\0\0\0\0\0\0\0\x81\xa1\xff",
    "an empty answer": b"\x01\0\0\0\0\0\0\0\x80",
    "an answer of nothing": b"\x09\0\0\0\0\0\0\0\x81\xa6memory\xc0",
    "an answer of too much": b"\x11\0\0\0\0\0\0\0\x81\xa6memory\xcb\x7f\xf0\0\0\0\0\0\0",
    "an answer of less than nothing": b"\x09\0\0\0\0\0\0\0\x81\xa6memory\xff",
    "an error that is no word": b"\x07\0\0\0\0\0\0\0\x81\xa4code\x90",
    "lists in lists": b"\xf9\x03\0\0\0\0\0\0\x81\xa4text" + b"\x91" * 1010 + b"\x90",
    "a body that is nowhere": b"\x09\0\0\0\0\0\0\0\x81\xa6shared\xc3",
    "four gigabytes to come": b"\0\0\0\0\xff\xff\xff\xff",
    "a line of text": b"Segmentation fault\n",
}
_WRITES = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.recv(1)
sock.sendall(bytes.fromhex(sys.argv[2]))
while sock.recv(4096):
    pass
"""


@pytest.mark.parametrize("nonsense", _NONSENSE.values(), ids=list(_NONSENSE))
def test_a_process_that_writes_nonsense_is_killed_and_the_next_one_runs_jobs(
    nonsense: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: the agent read the same nonsense for ever, with all of its core."""
    path, manifest = _negating(tmp_path, 64)
    begin = ExecutorProcess._started
    monkeypatch.setattr(executor_module, "_RESTART_SECONDS", 0.02)

    def writes_nonsense(executor: ExecutorProcess, channel: int, shared: int | None) -> Any:
        monkeypatch.setattr(ExecutorProcess, "_started", begin)
        return subprocess.Popen(
            [sys.executable, "-S", "-c", _WRITES, str(channel), nonsense.hex()], pass_fds=[channel]
        )

    monkeypatch.setattr(ExecutorProcess, "_started", writes_nonsense)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        first = executor.pid
        executor.submit(LoadUnits(manifest.digest, 0, 1))
        assert await events.get() == ExecutorLost("the executor process ended by signal 9", manifest.digest)
        executor.open(path, manifest)
        executor.submit(_run("again", manifest, _values(64, 1)))
        assert isinstance(await events.get(), RunFinished)
        assert executor.pid != first

    _with_executor(story)


_HANGS_AT_ITS_END = """
import signal, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.recv(1)
sock.close()
signal.pause()
"""


def test_a_process_that_hangs_at_its_end_is_killed_and_the_next_one_runs_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: its agent waited for it, and did and said nothing else for ever."""
    path, manifest = _negating(tmp_path, 64)
    begin = ExecutorProcess._started
    monkeypatch.setattr(executor_module, "_END_SECONDS", 0.02)
    monkeypatch.setattr(executor_module, "_RESTART_SECONDS", 0.02)

    def hangs(executor: ExecutorProcess, channel: int, shared: int | None) -> Any:
        monkeypatch.setattr(ExecutorProcess, "_started", begin)
        command = [sys.executable, "-S", "-c", _HANGS_AT_ITS_END, str(channel)]
        return subprocess.Popen(command, pass_fds=[channel])

    monkeypatch.setattr(ExecutorProcess, "_started", hangs)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.submit(LoadUnits(manifest.digest, 0, 1))
        why = "the executor process hung at its end, and was killed"
        assert await events.get() == ExecutorLost(why, manifest.digest)
        executor.open(path, manifest)
        executor.submit(_run("again", manifest, _values(64, 1)))
        assert isinstance(await events.get(), RunFinished)

    _with_executor(story)


def _without_processes(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """The next ``number`` processes cannot be started; grows with each try, which may be the last one."""
    begin, tries = subprocess.Popen, [0]

    def refused(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        tries[0] += 1
        if tries[0] <= number:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return begin(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(executor_module, "_RESTART_SECONDS", 0.02)
    return tries


def test_a_process_that_cannot_be_started_again_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, manifest = _negating(tmp_path, 20_000)
    values = _values(20_000, 1)

    async def story(executor: ExecutorProcess, events: asyncio.Queue[Event]) -> None:
        executor.open(path, manifest)
        executor.submit(_run("first", manifest, values))
        assert isinstance(await events.get(), RunFinished)
        held = _descriptors()
        tries = _without_processes(monkeypatch, 3)
        assert executor.pid is not None
        os.kill(executor.pid, signal.SIGKILL)
        assert isinstance(await events.get(), ExecutorLost)
        assert executor.pid is None
        executor.submit(_run("second", manifest, values))
        second = await events.get()

        assert isinstance(second, RunFinished)
        assert np.array_equal(decode_tensors(second.section)[0], -values)
        assert tries == [4]
        assert _descriptors() == held

    _with_executor(story)
    assert caplog.text.count("cannot start the executor") == 1  # the same each time
    assert "Resource temporarily unavailable" in caplog.text


def test_a_stopped_executor_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> None:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        executor = ExecutorProcess(loop, 1, events.put_nowait)
        executor.start()
        tries = _without_processes(monkeypatch, 1_000_000)
        assert executor.pid is not None
        os.kill(executor.pid, signal.SIGKILL)
        assert isinstance(await events.get(), ExecutorLost)
        while not tries[0]:
            await asyncio.sleep(0.001)
        executor.stop()
        before = tries[0]
        await asyncio.sleep(0.1)  # five times the pause between two tries
        assert tries[0] == before

    asyncio.run(asyncio.wait_for(told(), _SECONDS))


def test_a_first_start_that_fails_says_so_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> None:
        executor = ExecutorProcess(asyncio.get_running_loop(), 1, lambda event: None)
        _without_processes(monkeypatch, 1)
        before = _descriptors()
        with pytest.raises(BlockingIOError):
            executor.start()
        assert _descriptors() == before
        executor.stop()

    asyncio.run(told())


def _descriptors() -> int:
    """How many files and sockets this process holds open."""
    return len(os.listdir("/proc/self/fd"))


def _shared_descriptors() -> int:
    """How much shared memory this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(descriptor))
        except FileNotFoundError:  # the one that lists the folder
            continue
    return sum("edgemesh-bodies" in link for link in links)


@pytest.mark.parametrize("measured", [-0.25, float("nan"), float("inf"), "soon"])
def test_what_is_no_measurement_is_nonsense(measured: object) -> None:
    """Found by the fuzzer: one such number would be in each figure that is made of it."""
    run, measure = RunUnits("run", "0" * 64, 0, 1, b"", "raw"), MeasureUnits("0" * 64, 0, 1)
    nothing = memoryview(b"")
    for name in ("run_seconds", "code_seconds"):
        with pytest.raises(ValueError):
            _event_of(run, {"run_seconds": 0.5, "code_seconds": 0.0, name: measured}, nothing)
    for name in ("seconds", "spread"):
        with pytest.raises(ValueError):
            _event_of(measure, {"seconds": 0.5, "spread": 0.0, name: measured}, nothing)
