"""An asyncio loop that a waiting caller drives itself, and a thread of its own whenever no caller does.

A hand-over to another thread and one back cost a quarter of a small hop (docs/benchmarks.md). Who waits has
nothing else to do, so it runs the loop until its answer is there: leader and followers (Schmidt et al. 2000,
"Leader/Followers"), with at most one leader among the callers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_IDLE_SECONDS = 0.05
"""How long nobody drives the loop before its thread does: callers that come sooner find it free."""


class SharedLoop:
    """At any time one thread drives the loop; what runs on it needs no locks."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._turn = threading.Lock()
        """Held by whoever drives."""
        self._lock = threading.Lock()
        """Of the three fields below."""
        self._led = False
        """A caller drives, or is about to."""
        self._followed = 0
        """What others wait for, and the loop's own thread therefore works on."""
        self._turns = 0
        self._needed = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._attend, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing

    def call(self, function: Callable[[], object], until: Future[Any]) -> None:
        """Have the loop call ``function``, and drive it until ``until`` is done; returns at once."""
        with self._lock:
            self._followed += 1
        until.add_done_callback(self._followed_to_its_end)
        self.loop.call_soon_threadsafe(function)
        self._needed.set()

    def run(self, function: Callable[[], object], until: Future[T]) -> T:
        """Have the loop call ``function``, and wait for ``until``, which something on the loop must set."""
        if self._leads():
            self._lead(function, until)
        else:
            self.call(function, until)
        return until.result()

    def run_coroutine(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine that runs on the loop."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        self.call(_nothing, future)
        return future.result()

    def close(self) -> None:
        """End the thread and the loop."""
        self._closing = True
        self._needed.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        with self._turn:
            self.loop.close()

    def _leads(self) -> bool:
        """Whether the caller may drive the loop: nobody else waits, and it drives no other one."""
        if self._closing:
            raise RuntimeError("the loop is closed")
        if asyncio._get_running_loop() is not None:
            return False
        with self._lock:
            if self._led or self._followed:
                return False
            self._led = True
            return True

    def _lead(self, function: Callable[[], object], until: Future[Any]) -> None:
        held = False
        try:
            held = self._turn.acquire(blocking=False)
            if not held:
                self.loop.call_soon_threadsafe(self.loop.stop)  # the thread sees that it is led, and lets go
                held = self._turn.acquire()
            function()
            until.add_done_callback(lambda _: self.loop.stop())
            while not until.done():  # a stop that was meant for the thread may come late
                self.loop.run_forever()
        finally:
            self._turns += 1
            self._led = False
            if held:
                self._turn.release()

    def _followed_to_its_end(self, _: Future[Any]) -> None:
        with self._lock:
            self._followed -= 1

    def _attend(self) -> None:
        while not self._closing:
            turns = self._turns
            if not self._needed.wait(_IDLE_SECONDS) and self._turns != turns:
                continue
            self._needed.clear()
            with self._turn:
                while not self._led and not self._closing:
                    self.loop.run_forever()


def _nothing() -> None:
    pass
