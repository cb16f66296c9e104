"""A queue that lets messages through as slowly as an emulated board's link would."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class ShapedQueue:
    """Calls are made in order, each when ``due(now, nbytes)`` says that its bytes are through."""

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[float, int], float]) -> None:
        self._loop = loop
        self._due = due
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, nbytes: int, call: Callable[[], None]) -> None:
        """Make ``call`` when ``nbytes`` have passed the link."""
        self._waiting.append((self._due(self._loop.time(), nbytes), call))
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        # One timer, not one per message: asyncio gives no order among timers of the same instant.
        self._timer = self._loop.call_at(self._waiting[0][0], self._release)

    def _release(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now + 1e-4:
            _, call = self._waiting.popleft()
            call()
        if self._waiting and self._timer is None:
            self._arm()
