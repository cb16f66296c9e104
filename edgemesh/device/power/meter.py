"""What a power meter is, and how one without an energy counter is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgemesh.device.power.ina_address import InaAddress


class Meter(Protocol):
    """One source of watts of this machine."""

    @property
    def source(self) -> str:
        """For people and for ``resources``, such as ``rapl psys``."""
        ...

    def watts(self) -> float | None:
        """Mean since the call before; None while it has nothing to say."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True)
class Place:
    """Where meters are looked for; ``root`` other than ``/`` is a recorded tree."""

    root: Path
    clock: Callable[[], float]
    """Seconds, never back."""
    ina: InaAddress | None = None
    """The meter chip that a person named."""


class Sampled:
    """Watts of a meter that only tells the present moment, averaged by a thread.

    A reading now and then is no measurement of a load that comes in bursts: sampling at 1 Hz was up to 80 %
    off on an Odroid-XU4 (arXiv 2206.10377). The mean over the time between two calls belongs to the
    processor's load over the same time.
    """

    def __init__(self, source: str, power: Callable[[], float | None], period: float) -> None:
        """``power`` are the watts at this moment; asked every ``period`` seconds from the first call on."""
        self.source = source
        self._power = power
        self._period = period
        self._sum, self._count = 0.0, 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def watts(self) -> float | None:
        """Mean since the call before; the first call reads once."""
        if self._thread is None and not self._ended.is_set():
            self.sample()
            thread = threading.Thread(target=self._run, name="power-meter", daemon=True)
            # A small board has few threads to give: the next call is another try.
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread
        with self._lock:
            mean = self._sum / self._count if self._count else None
            self._sum, self._count = 0.0, 0
        return mean

    def sample(self) -> None:
        """Read once."""
        watts = self._power()
        if watts is not None:
            with self._lock:
                self._sum, self._count = self._sum + watts, self._count + 1

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._period):
            self.sample()
