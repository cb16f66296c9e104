"""A loop whose time is a number: what it is asked to call is called by ``run``, without waiting."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Handle:
    """What ``call_at`` gives; ``cancel`` as asyncio's."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop:
    """The methods of an asyncio loop that transport/ uses, in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.executed: list[float] = []
        """When something was handed to the executor."""
        self._calls: list[tuple[float, int, Handle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., Any], *arguments: Any) -> Handle:
        handle = Handle(lambda: call(*arguments))
        self._count += 1
        heapq.heappush(self._calls, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, call: Callable[..., Any], *arguments: Any) -> Handle:
        return self.call_at(self.now + delay, call, *arguments)

    def call_soon(self, call: Callable[..., Any], *arguments: Any) -> Handle:
        return self.call_at(self.now, call, *arguments)

    def run_in_executor(self, executor: None, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Done at once, on this thread."""
        self.executed.append(self.now)
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except OSError as error:
            future.set_exception(error)
        return future

    def run(self, until: float) -> None:
        """Make all calls that are due by then."""
        while self._calls and self._calls[0][0] <= until:
            when, _, handle = heapq.heappop(self._calls)
            self.now = max(self.now, when)
            if not handle.cancelled:
                handle.call()
        self.now = until
