"""Recent transfers: the newest of each kind, kept for a decision node that has heard none of them.

Runs of units are not: of them it knows more to begin with, by profiles and by the load that devices tell of.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from edgemesh.planning.level import FRESH_AGE
from edgemesh.protocol.link import Transfer

_EACH: Final = 6
"""Of one kind: enough for a median, and for its spread."""
_KINDS: Final = 12
"""The ones not measured for longest give way."""


def sort_of(transfer: Transfer) -> tuple[object, ...]:
    """What transfers have in common that can be compared: kind, peer, and size within a factor of two."""
    return transfer.kind, transfer.peer, transfer.after_receipt is None, transfer.nbytes.bit_length()


class _Measured(NamedTuple):
    time: float
    transfer: Transfer


class RecentTransfers:
    """Of one link."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], deque[_Measured]] = OrderedDict()

    def add(self, transfer: Transfer, now: float) -> None:
        """Keep one."""
        key = sort_of(transfer)
        self._kept.setdefault(key, deque(maxlen=_EACH)).append(_Measured(now, transfer))
        self._kept.move_to_end(key)
        if len(self._kept) > _KINDS:
            self._kept.popitem(last=False)

    def link_changed(self, time: float) -> None:
        """The link is another one since ``time``: forget what was measured before."""
        for key, kept in list(self._kept.items()):
            while kept and kept[0].time < time:
                kept.popleft()
            if not kept:
                del self._kept[key]

    def fresh(self, now: float) -> list[Transfer]:
        """What is as good as measured now, in the order of measuring."""
        fresh = [one for kept in self._kept.values() for one in kept if one.time >= now - FRESH_AGE]
        return [one.transfer for one in sorted(fresh, key=lambda one: one.time)]
