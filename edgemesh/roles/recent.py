"""Recent measurements: the newest of each kind, kept for a decision node that has heard none of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from edgemesh.planning.level import FRESH_AGE
from edgemesh.protocol.link import RunReport, Transfer

_EACH: Final = 6
"""Of one kind: enough for a median, and for its spread."""
_KINDS: Final = 12
"""The ones not measured for longest give way."""

Measured = TypeVar("Measured")


class _Newest(Generic[Measured]):
    """The newest of each key."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], deque[tuple[float, Measured]]] = OrderedDict()

    def add(self, key: tuple[object, ...], measured: Measured, now: float) -> None:
        self._kept.setdefault(key, deque(maxlen=_EACH)).append((now, measured))
        self._kept.move_to_end(key)
        if len(self._kept) > _KINDS:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()

    def since(self, time: float) -> Iterator[Measured]:
        """In the order of their measuring."""
        pairs = (pair for kept in self._kept.values() for pair in kept if pair[0] >= time)
        return (measured for _, measured in sorted(pairs, key=lambda pair: pair[0]))


class Recent:
    """Of one connection: what it showed of the link, and of how fast units run."""

    def __init__(self) -> None:
        self._transfers: _Newest[Transfer] = _Newest()
        self._runs: _Newest[RunReport] = _Newest()

    def connected(self) -> None:
        """A new connection: what is known of the old one's link may not hold."""
        self._transfers.clear()

    def transfer(self, transfer: Transfer, now: float) -> None:
        """Keep one."""
        self._transfers.add((transfer.kind, transfer.peer, transfer.nbytes.bit_length()), transfer, now)

    def run(self, run: RunReport, now: float) -> None:
        """Keep one."""
        self._runs.add((run.digest, run.start, run.stop), run, now)

    def all(self, now: float) -> tuple[tuple[Transfer, ...], tuple[RunReport, ...]]:
        """What is as good as measured now."""
        since = now - FRESH_AGE
        return tuple(self._transfers.since(since)), tuple(self._runs.since(since))
