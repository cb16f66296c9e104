"""A queue that lets messages through as slowly as an emulated board's link would."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_LEAD_SECONDS = 0.005
"""A message in bulk sets out so long before the link is free, or a timer that is late would leave it idle."""


class ShapedQueue:
    """Calls are made in order, each when ``due(now, nbytes)`` says that its bytes are through.

    Those in bulk have an order of their own, and each sets out when nothing else is left before it: whatever
    comes later waits for one of them and not for all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[float, int], float]) -> None:
        """``due`` is of a link that nothing has been sent over yet."""
        self._loop = loop
        self._due = due
        self._delay = due(loop.time(), 0) - loop.time()
        """What a message takes beside its bytes."""
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._bulk: deque[tuple[int, Callable[[], None]]] = deque()
        self._bulk_timer: asyncio.TimerHandle | None = None

    def put(self, nbytes: int, call: Callable[[], None], *, bulk: bool = False) -> None:
        """Make ``call`` when ``nbytes`` have passed the link."""
        if not bulk:
            self._send(nbytes, call)
            return
        self._bulk.append((nbytes, call))
        if self._bulk_timer is None:
            self._send_bulk()

    def _send(self, nbytes: int, call: Callable[[], None]) -> None:
        self._waiting.append((self._due(self._loop.time(), nbytes), call))
        if self._timer is None:
            self._arm()

    def _send_bulk(self) -> None:
        self._bulk_timer = None
        while self._bulk:
            now = self._loop.time()
            free_at = self._due(now, 0) - self._delay
            if free_at > now + _LEAD_SECONDS:
                self._bulk_timer = self._loop.call_at(free_at - _LEAD_SECONDS, self._send_bulk)
                return
            self._send(*self._bulk.popleft())

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
