"""One thread at a time drives the loop: the caller that waits alone, or the loop's own."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import Any

import pytest

from edgemesh.node import held_interrupts
from edgemesh.node import shared_loop as shared_loop_module
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


def test_a_function_that_fails_fails_who_waits_for_what_it_should_begin() -> None:
    """Found by a reader: a job whose submission failed was waited for without end."""
    with shared_loop() as shared:
        failed: Future[None] = Future()
        shared.call(lambda: 1 / 0, failed)
        with pytest.raises(ZeroDivisionError):
            failed.result(WAIT)

        def set_and_fail(future: Future[str]) -> None:
            future.set_result("done")
            raise ZeroDivisionError

        late: Future[str] = Future()
        shared.call(lambda: set_and_fail(late), late)
        assert late.result(WAIT) == "done"


def test_an_interrupt_ends_the_wait_and_nothing_else() -> None:
    with shared_loop() as shared:
        with pytest.raises(KeyboardInterrupt):
            shared.run(lambda: shared.loop.call_soon(signal.raise_signal, signal.SIGINT), Future())

        job = Job(shared)
        assert shared.run(job.begin, job.future) == "done"


def test_an_interrupt_does_not_cut_a_callback_in_half() -> None:
    with shared_loop() as shared:
        whole: list[str] = []

        def interrupted(name: str) -> None:
            signal.raise_signal(signal.SIGINT)
            whole.append(name)

        with pytest.raises(KeyboardInterrupt):
            shared.run(lambda: interrupted("begun"), Future())
        with pytest.raises(KeyboardInterrupt):
            shared.run(lambda: shared.loop.call_soon(interrupted, "called"), Future())

        assert whole == ["begun", "called"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_with_its_own_word_on_interrupts_keeps_it() -> None:
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        with shared_loop() as shared:
            job = Job(shared)
            shared.loop.call_soon_threadsafe(signal.raise_signal, signal.SIGINT)
            assert shared.run(job.begin, job.future) == "done"
        assert came == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is note
    finally:
        signal.signal(signal.SIGINT, before)


class InterruptAt:
    """Raises SIGINT before instruction number ``at`` of the loop's own modules, in this thread."""

    _FILES = frozenset(str(module.__file__) for module in (shared_loop_module, held_interrupts))

    def __init__(self, at: int) -> None:
        self.came = False
        self._left = at
        self._thread = threading.get_ident()
        # From Python 3.12 on a trace function misses instructions of code that another thread has run since.
        self._monitoring = getattr(sys, "monitoring", None)

    def __enter__(self) -> InterruptAt:
        if (monitoring := self._monitoring) is not None:
            event = monitoring.events.INSTRUCTION
            monitoring.use_tool_id(monitoring.DEBUGGER_ID, "interrupts")
            monitoring.register_callback(monitoring.DEBUGGER_ID, event, self._comes)
            monitoring.set_events(monitoring.DEBUGGER_ID, event)
        else:
            self._before = sys.gettrace()
            sys.settrace(self._called)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._monitoring is not None:
            self._monitoring.set_events(self._monitoring.DEBUGGER_ID, 0)
            self._monitoring.free_tool_id(self._monitoring.DEBUGGER_ID)
        else:
            sys.settrace(self._before)

    def _comes(self, code: CodeType, offset: int) -> object:
        if code.co_filename not in self._FILES:
            return self._monitoring.DISABLE
        if threading.get_ident() == self._thread:
            self._step()
        return None

    def _called(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in self._FILES:
            return None
        frame.f_trace_opcodes = True
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            self._step()
        return self._stepped

    def _step(self) -> None:
        if self.came:
            return
        self._left -= 1
        if self._left < 0:
            self.came = True
            signal.raise_signal(signal.SIGINT)


def works(shared: SharedLoop) -> bool:
    """Whether another thread's job ends."""
    job = Job(shared)
    thread = threading.Thread(target=shared.run, args=(job.begin, job.future), daemon=True)
    thread.start()
    thread.join(WAIT)
    return not thread.is_alive()


@pytest.mark.parametrize("thread_holds_it", [True, False])
def test_an_interrupt_at_any_instruction_leaves_the_loop_usable(thread_holds_it: bool) -> None:
    """Found by a reader: Ctrl-C again and again, and a client that hung for ever."""
    shared = SharedLoop("shared")
    at, there = 0, True
    while there:
        if thread_holds_it:
            waiting: Future[None] = Future()
            shared.call(lambda: waiting.set_result(None), waiting)
            waiting.result(WAIT)
        job = Job(shared)
        with InterruptAt(at) as interrupt, suppress(KeyboardInterrupt):
            shared.run(job.begin, job.future)
        there, at = interrupt.came, at + 1
        # Not closed where it fails: that would hang, too.
        assert works(shared), f"not after an interrupt at instruction {at - 1}"
    shared.close()
    assert at > 100


def test_a_coroutine_runs_on_the_loop() -> None:
    with shared_loop() as shared:

        async def story() -> asyncio.AbstractEventLoop:
            await asyncio.sleep(0)
            return asyncio.get_running_loop()

        assert shared.run_coroutine(story()) is shared.loop


def test_what_is_due_has_its_turn_although_callers_need_none() -> None:
    with shared_loop() as shared:
        job = Job(shared)
        shared.run(job.begin, job.future)  # the thread has let go of the loop
        due: list[int] = []

        def begin(number: int, future: Future[None]) -> None:
            shared.loop.call_soon(due.append, number)
            future.set_result(None)

        for number in range(3):
            future: Future[None] = Future()
            shared.run(lambda: begin(number, future), future)
            assert due == list(range(number + 1))


def test_a_closed_loop_takes_nothing_more() -> None:
    shared = SharedLoop("shared")
    shared.close()

    with pytest.raises(RuntimeError, match="closed"):
        shared.run(lambda: None, Future())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "error::RuntimeWarning")
def test_a_closed_loop_refuses_calls_and_coroutines_too() -> None:
    shared = SharedLoop("shared")
    shared.close()
    shared.close()

    with pytest.raises(RuntimeError, match="closed"):
        shared.call(lambda: None, Future())
    with pytest.raises(RuntimeError, match="closed"):
        shared.run_coroutine(asyncio.sleep(0))


class Held:
    """Keeps the loop's thread busy until it is let go."""

    def __init__(self, shared: SharedLoop) -> None:
        self._busy, self._go_on = threading.Event(), threading.Event()
        self._shared = shared
        shared.loop.call_soon_threadsafe(self._hold)
        assert self._busy.wait(WAIT)

    def _hold(self) -> None:
        self._busy.set()
        self._go_on.wait(WAIT)

    def close_and_let_go(self) -> None:
        """Begin to close the loop while its thread is busy, and return once it is closed."""
        closing = threading.Thread(target=self._shared.close, daemon=True)
        closing.start()
        while not self._shared.closed:
            pass
        self._go_on.set()
        closing.join(WAIT)
        assert not closing.is_alive()


def test_what_was_called_before_the_close_still_runs() -> None:
    shared = SharedLoop("shared")
    held = Held(shared)
    futures: list[Future[str]] = [Future() for _ in range(3)]
    for future in futures:
        shared.call(lambda future=future: future.set_result("done"), future)  # type: ignore[misc]
    held.close_and_let_go()

    assert [future.result(WAIT) for future in futures] == ["done"] * 3


def test_who_waits_for_what_nobody_sets_any_more_is_told() -> None:
    shared = SharedLoop("shared")
    future: Future[str] = Future()
    shared.call(lambda: None, future)
    shared.close()

    with pytest.raises(RuntimeError, match="closed"):
        future.result(WAIT)


def test_a_coroutine_that_would_go_on_is_cancelled_and_who_waits_for_it_is_told() -> None:
    shared = SharedLoop("shared")
    begun, cleaned_up, told = threading.Event(), threading.Event(), []

    async def story() -> None:
        begun.set()
        try:
            await asyncio.sleep(600.0)
        finally:
            shared.loop.stop()  # as a caller may that is about to drive the loop
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            cleaned_up.set()

    def wait() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            shared.run_coroutine(story())
        told.append(True)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert begun.wait(WAIT)
    shared.close()
    thread.join(WAIT)

    assert told and cleaned_up.is_set()


def test_a_caller_that_drives_the_loop_lets_go_of_it_when_another_thread_closes_it() -> None:
    shared = SharedLoop("shared")
    begun, told = threading.Event(), []

    def lead() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            shared.run(lambda: shared.loop.call_soon(begun.set), Future())
        told.append(True)

    leader = threading.Thread(target=lead, daemon=True)
    leader.start()
    assert begun.wait(WAIT)
    closing = threading.Thread(target=shared.close, daemon=True)
    closing.start()
    closing.join(WAIT)
    leader.join(WAIT)

    assert told and not closing.is_alive()


@pytest.mark.parametrize("round_", range(10))
def test_whoever_comes_while_the_loop_is_closed_gets_a_result_or_is_told(round_: int) -> None:
    shared = SharedLoop("shared")
    enough, refused = threading.Semaphore(0), []

    async def answer() -> str:
        await asyncio.sleep(0)
        return "done"

    def work(number: int) -> None:
        with pytest.raises(RuntimeError, match="closed"):
            for turn in range(1_000_000):
                enough.release()
                job = Job(shared)
                way = (number + turn) % 3
                if way == 0:
                    assert shared.run_coroutine(answer()) == "done"
                elif way == 1:
                    assert shared.run(job.begin, job.future) == "done"
                else:
                    shared.call(job.begin, job.future)
                    assert job.future.result() == "done"
        refused.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        enough.acquire()
    shared.close()
    for thread in threads:
        thread.join(WAIT)

    assert sorted(refused) == list(range(6))


def test_a_loop_may_be_closed_inside_another_one() -> None:
    shared = SharedLoop("shared")

    async def story() -> None:
        shared.close()

    asyncio.run(story())
    assert shared.loop.is_closed()
