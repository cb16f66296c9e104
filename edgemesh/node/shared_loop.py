"""An asyncio loop that a waiting caller drives itself, and a thread of its own whenever no caller does.

A hand-over to another thread and one back cost a quarter of a small hop (docs/benchmarks.md). Who waits has
nothing else to do, so it runs the loop until its answer is there: leader and followers (Schmidt et al. 2000,
"Leader/Followers"), with at most one leader among the callers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from edgemesh.node.held_interrupts import HeldInterrupts

T = TypeVar("T")
_IDLE_SECONDS = 0.05
"""How long nobody drives the loop before its thread does: callers that come sooner find it free."""


class LoopClosedError(RuntimeError):
    """Nothing runs on the loop any more: a bug of who uses it, or another thread closed it meanwhile.

    Or this process is a fork of the one that it runs in: threads stay behind, and the connection is theirs.
    """


class SharedLoop:
    """At any time one thread drives the loop; what runs on it needs no locks."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._name = name
        self._process = os.getpid()
        self._turn = threading.Lock()
        """Held by whoever drives."""
        self._lock = threading.Lock()
        """Of the three fields below; whatever the loop is to run is handed to it with this lock."""
        self._led = False
        """A caller drives, or is about to."""
        self._followed: set[Future[Any]] = set()
        """What others wait for, and the loop's own thread therefore works on."""
        self._closing = False
        self._turns = 0
        self._needed = threading.Event()
        self._thread = threading.Thread(target=self._attend, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing

    def call(self, function: Callable[[], object], until: Future[Any]) -> None:
        """Have the loop call ``function``, and drive it until ``until`` is done; returns at once.

        What ``function`` raises is set on ``until``. Like ``run`` and ``run_coroutine`` it raises
        LoopClosedError once the loop is closed; what has not ended by then fails with it.
        """
        self._check_process()
        with HeldInterrupts(self.loop):
            with self._lock:
                self._check_open()
                self._followed.add(until)
                self.loop.call_soon_threadsafe(_begin, function, until)
            until.add_done_callback(self._followed_to_its_end)
            self._needed.set()

    def run(self, function: Callable[[], object], until: Future[T]) -> T:
        """Have the loop call ``function``, and wait for ``until``, which something on the loop must set.

        Ctrl-C ends the wait; what runs on the loop it does not cut short.
        """
        self._check_process()
        with HeldInterrupts(self.loop) as interrupts:
            if self._leads():
                self._lead(function, until, interrupts)
            else:
                self.call(function, until)
        return until.result()

    def run_coroutine(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine that runs on the loop; it is cancelled when the loop is closed."""
        with HeldInterrupts(self.loop):
            try:
                self._check_process()
                with self._lock:
                    self._check_open()
                    future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
                    self._followed.add(future)
            except LoopClosedError:
                coroutine.close()
                raise
            future.add_done_callback(self._followed_to_its_end)
            self._needed.set()
        try:
            return future.result()
        except CancelledError:
            raise self._closed_error() from None

    def close(self) -> None:
        """End the thread and the loop; whoever still waits for something on it is told.

        In a fork nothing is done: both belong to the process before.
        """
        if self._forked():
            return
        with self._lock:
            if not self._closing:
                self._closing = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        self._needed.set()
        self._thread.join()

    def _forked(self) -> bool:
        return os.getpid() != self._process

    def _check_process(self) -> None:
        """Before any lock is taken: in a fork who held it is not there to let go."""
        if self._forked():
            raise LoopClosedError(
                f"{self._name} was opened in process {self._process}, and this is a fork of it: open one here"
            )

    def _check_open(self) -> None:
        if self._closing:
            raise self._closed_error()

    def _closed_error(self) -> LoopClosedError:
        return LoopClosedError(f"{self._name} was closed")

    def _leads(self) -> bool:
        """Whether the caller may drive the loop: nobody else waits, and it drives no other one."""
        if asyncio._get_running_loop() is not None:
            return False
        with self._lock:
            self._check_open()
            if self._led or self._followed:
                return False
            self._led = True
            return True

    def _lead(self, function: Callable[[], object], until: Future[Any], interrupts: HeldInterrupts) -> None:
        held = False
        try:
            held = self._turn.acquire(blocking=False)
            if not held:
                self.loop.call_soon_threadsafe(self.loop.stop)  # the thread sees that it is led, and lets go
                held = self._turn.acquire()
            self._check_open()
            if interrupts.came:  # the thread may have taken the stop that was meant for us
                return
            function()
            until.add_done_callback(lambda _: self.loop.stop())
            # Also for what is done: callers that try again and again would leave nothing else a turn.
            self.loop.run_forever()
            # A stop that was meant for the thread may come late.
            while not (until.done() or interrupts.came):
                self._check_open()
                self.loop.run_forever()
        finally:
            self._turns += 1
            self._led = False
            if held:
                self._turn.release()

    def _followed_to_its_end(self, until: Future[Any]) -> None:
        with self._lock:
            self._followed.discard(until)

    def _attend(self) -> None:
        while not self._closing:
            turns = self._turns
            if not self._needed.wait(_IDLE_SECONDS) and self._turns != turns:
                continue
            self._needed.clear()
            with self._turn:
                while not self._led and not self._closing:
                    self.loop.run_forever()
        with self._turn:
            self._end()

    def _end(self) -> None:
        """Run what was handed over before the close, and end what would go on."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            ended = self.loop.create_task(asyncio.wait(tasks))
            ended.add_done_callback(lambda _: self.loop.stop())
            while not ended.done():  # a stop of a caller that was about to drive may come late
                self.loop.run_forever()
        self.loop.close()
        with self._lock:
            unset = [future for future in self._followed if not future.done()]
        for future in unset:
            future.set_exception(self._closed_error())


def _begin(function: Callable[[], object], until: Future[Any]) -> None:
    try:
        function()
    # It has a caller, who would wait for ever: the loop itself could only log it.
    except Exception as error:
        if not until.done():
            until.set_exception(error)
