"""Kept activations: what a worker has passed on lately, so that a job sent again need not be run again.

When a device of a route dies, its requester sends the input over another route. Where that one has the same
partition on a device before the loss, the activation is there already, and goes on from there.
"""

from __future__ import annotations

from collections import OrderedDict

from edgemesh.protocol.activation import Timing, decode_activation
from edgemesh.roles.work_queue import Task

KEPT_BYTES = 8 << 20
"""Of all together: the newest of a busy mesh, and little on the smallest board."""

_Key = tuple[str, str, str, tuple[tuple[int, str], ...]]
"""Requester, job and digest, and the cuts and codecs up to here: what came of them is the same to the bit."""


class KeptActivations:
    """Of one worker, as messages: they hold their bytes only once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, tuple[bytes | memoryview, float]] = OrderedDict()
        """Message and deadline, the newest last."""
        self._nbytes = 0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def keep(self, task: Task, message: bytes | memoryview, now: float) -> None:
        """``message`` passes on what ``task`` came to."""
        key = _key(task)
        self._drop(key)
        while self._kept and next(iter(self._kept.values()))[1] <= now:
            self._drop(next(iter(self._kept)))
        if len(message) > KEPT_BYTES:
            return
        self._kept[key] = message, task.deadline
        self._nbytes += len(message)
        while self._nbytes > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def find(self, task: Task) -> tuple[Timing, memoryview] | None:
        """What the partition took for the same job when it ran, and the tensor section that came of it."""
        if not task.header.attempt or task.is_last or (kept := self._kept.get(_key(task))) is None:
            return None
        header, section = decode_activation(kept[0])
        return header.timings[-1], section

    def _drop(self, key: _Key) -> None:
        message, _ = self._kept.pop(key, (b"", 0.0))
        self._nbytes -= len(message)


def _key(task: Task) -> _Key:
    header = task.header
    behind = tuple((hop.stop, hop.codec) for hop in header.route if hop.stop <= task.hop.stop)
    return header.requester, header.job, header.digest, behind
