"""Ctrl-C that waits until what must not be cut in half is whole."""

from __future__ import annotations

# What signal.signal and signal.getsignal wrap: their enums take 25 of the 40 us of a call (measured).
import _signal  # type: ignore[import-not-found]
import asyncio
import contextlib
import threading
from types import FrameType


class HeldInterrupts:
    """While it is entered, SIGINT raises nothing: it stops ``loop``, and KeyboardInterrupt comes at the end.

    Python raises KeyboardInterrupt in the main thread between any two instructions, so a lock that was just
    taken would stay so, and a callback would end half-way. As ``asyncio.Runner``, it leaves SIGINT alone
    where a program has a handler of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.came = False
        """Whether there was one since."""
        self._loop = loop
        self._handler = self._note

    def __enter__(self) -> HeldInterrupts:
        if (
            threading.current_thread() is threading.main_thread()
            and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
        ):
            # An interpreter inside another program may have no signals.
            with contextlib.suppress(ValueError):
                _signal.signal(_signal.SIGINT, self._handler)
        return self

    def __exit__(self, *exc: object) -> None:
        if _signal.getsignal(_signal.SIGINT) is self._handler:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        if self.came:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        with contextlib.suppress(RuntimeError):  # another thread closed it meanwhile
            self._loop.call_soon_threadsafe(self._loop.stop)
