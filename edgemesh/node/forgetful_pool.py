"""A few threads for calls in turn; a call that it has no thread for is refused, and not done later.

``transport/daemon_threads.py`` is for calls that may hang.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class ForgetfulPool(ThreadPoolExecutor):
    """An ordinary one raises, too, but keeps the call and all that belongs to it, and does it later."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call it when a thread is free.

        Raises RuntimeError where another thread is wanted and cannot be started, also while one that there is
        could do it later: whoever asked is told, and nothing piles up.
        """
        call = [partial(fn, *args, **kwargs)]
        try:
            return super().submit(_only, call)
        except RuntimeError:
            call.clear()
            raise


def _only(call: list[partial[T]]) -> T:
    return call.pop()()  # of one that was refused it raises, and nobody asks
