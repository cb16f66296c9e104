"""Work that nobody waits for at the end: it tells the loop how it ended, if there is one still."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from edgemesh.transport.daemon_threads import DAEMON_THREADS

WAIT = 10.0

_PROGRAM = """
import asyncio, time
from edgemesh.transport.daemon_threads import DAEMON_THREADS
async def main():
    asyncio.get_running_loop().run_in_executor(DAEMON_THREADS, lambda: time.sleep(60))
asyncio.run(main())
"""


def _failing() -> None:
    raise OSError(5, "Input/output error")


def test_the_loop_gets_what_the_work_returns_or_raises() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        thread = await loop.run_in_executor(DAEMON_THREADS, threading.current_thread)
        assert thread is not threading.current_thread()
        with pytest.raises(OSError, match="Input/output error"):
            await loop.run_in_executor(DAEMON_THREADS, _failing)

    asyncio.run(asyncio.wait_for(story(), WAIT))


def test_cancelled_work_and_work_that_outlives_the_loop_end_quietly(caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        go_on.wait(WAIT)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(DAEMON_THREADS, work)
        cancelled = loop.run_in_executor(DAEMON_THREADS, lambda: None)
        cancelled.cancel()
        while not threads:
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(story(), WAIT))
    assert threads[0].is_alive()
    go_on.set()
    threads[0].join(WAIT)
    assert not threads[0].is_alive() and not caplog.records


def test_a_program_ends_while_the_work_goes_on() -> None:
    assert subprocess.run([sys.executable, "-c", _PROGRAM], check=False, timeout=WAIT).returncode == 0


def test_it_is_said_at_once_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)

    async def story() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            asyncio.get_running_loop().run_in_executor(DAEMON_THREADS, lambda: None)

    asyncio.run(story())
