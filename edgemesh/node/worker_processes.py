"""Processes that share a long computation, and end with it however it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from edgemesh.node.parent_death import end_with


@contextlib.contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``count`` processes; what is under way when the context fails is given up."""
    others = set(multiprocessing.active_children())
    # A fork would take threads' locks along, and Python 3.14's forkserver gives workers another parent.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        # The pool itself would wait for what is under way: minutes after Ctrl-C.
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    pool.shutdown()


def _begin(parent: int) -> None:
    # Ctrl-C reaches the whole process group, and would end one task of many here, with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)  # or one that is killed would leave us at work
