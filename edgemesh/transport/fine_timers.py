"""Running on an event loop whose timers are exact enough for an emulated link.

asyncio waits by ``epoll``, in whole milliseconds rounded up. Measured on a wired link's delay of 0.27 ms,
timers were 0.81 ms late by epoll and 0.08 ms by ``select``, which counts in microseconds. Two of them per
crossing are more than the link itself takes. ``select`` sees at most 1,024 descriptors, so it is not for
every process.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Coroutine
from typing import Any


def run_with_fine_timers(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run`` with timers of less than a millisecond; whole ones on Python 3.10."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=_fine_loop) as runner:
            runner.run(main)
    else:
        asyncio.run(main)


def _fine_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())
