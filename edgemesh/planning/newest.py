"""Newest: a table that never refuses a newcomer, for names that come and go over weeks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Newest(OrderedDict[K, V], Generic[K, V]):
    """At most so many entries; the one that was fed longest ago makes room for a new one."""

    def __init__(self, most: int, make: Callable[[], V]) -> None:
        """``make`` gives the entry of a new key."""
        super().__init__()
        self._most = most
        self._make = make

    def fed(self, key: K) -> V:
        """The entry of ``key``, made where there is none, which takes something in now."""
        if key not in self:
            self[key] = self._make()
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
        return self[key]
