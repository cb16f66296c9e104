"""One thread at a time drives the loop: the caller that waits alone, or the loop's own."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from edgemesh.node.shared_loop import SharedLoop

WAIT = 10.0


@contextmanager
def shared_loop() -> Iterator[SharedLoop]:
    shared = SharedLoop("shared")
    try:
        yield shared
    finally:
        shared.close()


class Job:
    """Notes the threads that began and ended it; it ends a turn of the loop after it began."""

    def __init__(self, shared: SharedLoop) -> None:
        self.future: Future[str] = Future()
        self.threads: list[threading.Thread] = []
        self._loop = shared.loop

    def begin(self) -> None:
        self.threads.append(threading.current_thread())
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self.threads.append(threading.current_thread())
        self.future.set_result("done")


def test_a_caller_that_waits_alone_drives_the_loop_itself() -> None:
    with shared_loop() as shared:
        for _ in range(3):
            job = Job(shared)

            assert shared.run(job.begin, job.future) == "done"

            assert job.threads == [threading.current_thread()] * 2


def test_what_is_begun_goes_on_while_nobody_waits() -> None:
    with shared_loop() as shared:
        first = Job(shared)
        shared.run(first.begin, first.future)  # the thread has let go of the loop

        job = Job(shared)
        shared.call(job.begin, job.future)

        assert job.future.result(WAIT) == "done"
        assert threading.current_thread() not in job.threads


def test_the_thread_serves_the_loop_again_after_a_caller_drove_it() -> None:
    with shared_loop() as shared:
        job = Job(shared)
        shared.run(job.begin, job.future)

        served = threading.Event()
        shared.loop.call_soon_threadsafe(served.set)

        assert served.wait(WAIT)


def test_callers_of_many_threads_all_get_their_results() -> None:
    with shared_loop() as shared:
        done: list[str] = []

        def work(number: int) -> None:
            for turn in range(50):
                job = Job(shared)
                if (number + turn) % 3:
                    done.append(shared.run(job.begin, job.future))
                else:
                    shared.call(job.begin, job.future)
                    done.append(job.future.result(WAIT))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)

        assert done == ["done"] * 300


def test_a_caller_inside_another_loop_leaves_it_to_the_thread() -> None:
    with shared_loop() as shared:

        async def story() -> list[threading.Thread]:
            job = Job(shared)
            shared.run(job.begin, job.future)
            return job.threads

        assert threading.current_thread() not in asyncio.run(story())


def test_a_function_that_fails_fails_in_its_caller() -> None:
    with shared_loop() as shared:
        with pytest.raises(ZeroDivisionError):
            shared.run(lambda: 1 / 0, Future())

        job = Job(shared)
        assert shared.run(job.begin, job.future) == "done"


def test_an_interrupt_ends_the_wait_and_nothing_else() -> None:
    with shared_loop() as shared:
        with pytest.raises(KeyboardInterrupt):
            shared.run(lambda: shared.loop.call_soon(signal.raise_signal, signal.SIGINT), Future())

        job = Job(shared)
        assert shared.run(job.begin, job.future) == "done"


def test_a_coroutine_runs_on_the_loop() -> None:
    with shared_loop() as shared:

        async def story() -> asyncio.AbstractEventLoop:
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        assert shared.run_coroutine(story()) is shared.loop


def test_a_closed_loop_takes_nothing_more() -> None:
    shared = SharedLoop("shared")
    shared.close()

    with pytest.raises(RuntimeError, match="closed"):
        shared.run(lambda: None, Future())
