"""A thread for each call, for calls that may take longer than anybody wants to wait at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

T = TypeVar("T")


class DaemonThreads(Executor):
    """An executor that nobody waits for: what is still under way ends with the process.

    ``asyncio.run`` joins the threads of a loop's own executor, and so does the interpreter at its end: a name
    look-up while the resolver is away, a slow card or a sensor would keep a process for half a minute after
    SIGTERM. And what an ordinary executor has no thread for raises, but stays in its queue, to be done later.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call it in a thread of its own; raises RuntimeError where none can be started."""
        future: Future[T] = Future()
        threading.Thread(target=_call, args=(future, fn, args, kwargs), daemon=True).start()
        return future


DAEMON_THREADS: Final = DaemonThreads()
"""For ``run_in_executor``: it keeps nothing."""


def _call(future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    # Whatever it is belongs to who waits for the future.
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
