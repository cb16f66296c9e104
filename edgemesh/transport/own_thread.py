"""Blocking work in a thread of its own, which nothing waits for at the end of a program.

The loop's own pool is joined there: a slow card, sensor or name server would hold up the end of an agent. And
work that the pool has no thread for raises, but stays in its queue, to be done some other time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def in_own_thread(loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> asyncio.Future[T]:
    """What ``work`` returns or raises; raises RuntimeError where the system has no thread to give.

    Who cancels the future does not hear of the work any more, which goes on.
    """
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            _tell(loop, future, partial(future.set_exception, error))
        else:
            _tell(loop, future, partial(future.set_result, result))

    threading.Thread(target=run, daemon=True).start()
    return future


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], settle: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if future.cancelled() else settle())
