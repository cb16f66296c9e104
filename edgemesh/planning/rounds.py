"""Least costs over all cuts at once, one more run per round: for few devices, where calls cost more than
arithmetic.

A sweep cut by cut makes some six NumPy calls per cut. Here each round lets every plan grow by one run, over
all cuts together (Bellman and Ford, with runs for edges); it ends when nothing gets better, after as many
rounds as the longest best way has runs: three to eight on real instances. Arrays have the cuts as their last
axis, so reductions over devices and codecs are over whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROUNDS: Final = 24
"""Beyond it the sweep cut by cut is the quicker one."""


class Windows:
    """Least values over a window of starts that ends before each cut, for all rows at once: the least of two
    overlapping stretches of a power of two (a sparse table)."""

    def __init__(self, rows: npt.NDArray[np.intp], earliest: npt.NDArray[np.intp]) -> None:
        """``earliest`` is ``[C, R]`` by cut and row of ``[R, C]`` values; only ``rows`` are looked at."""
        self.rows = rows
        edges = len(earliest)
        begin = earliest[:, self.rows].T
        length = np.arange(edges) - begin
        self._empty = length <= 0
        level = np.frexp(np.maximum(length, 1).astype(np.float64))[1] - 1
        self._levels = int(level.max()) + 1
        number = np.arange(len(self.rows))[:, None]
        shape = self._levels, len(self.rows), edges
        begin = np.minimum(begin, edges - 1)
        second = np.maximum(np.arange(edges) - (1 << level), 0)
        self._one, self._other = (np.ravel_multi_index((level, number, at), shape) for at in (begin, second))
        self._table: Array = np.empty(shape)

    def least(self, values: Array) -> Array:
        """``[rows, C]`` of ``values``, ``[R, C]``."""
        if self._table.dtype != values.dtype:
            self._table = np.empty(self._table.shape, values.dtype)
        table = self._table
        table[0] = values[self.rows]
        for level in range(1, self._levels):
            step = 1 << (level - 1)
            np.minimum(table[level - 1, :, :-step], table[level - 1, :, step:], table[level, :, :-step])
            table[level, :, -step:] = table[level - 1, :, -step:]
        flat = table.ravel()
        least = np.minimum(flat[self._one], flat[self._other])
        least[self._empty] = np.inf
        return least


def values_by_rounds(
    leave: Array,
    enter: Array,
    first: Array,
    windows: Windows | None,
    runs: Sequence[tuple[int, int, Array]],
    confined: npt.NDArray[np.intp],
    given: tuple[int, Array] | None,
) -> tuple[Array, Array, Array] | None:
    """``running``, ``arrive`` (``[B, D, C]``) and ``broker`` (``[K, B, C]``) as in ``sweep.Values``.

    ``leave`` and ``enter`` are ``[K, B, D, C]``, ``first`` ``[B, D]``; ``windows`` over rows ``B * D``;
    ``runs`` weightings, devices and ``[C, C]`` by stop and start, infinite where impossible; ``given`` a
    device and its ``[B, C]`` running values: ways count only through it. None when ``ROUNDS`` are not enough.
    """
    codecs, width, devices, edges = leave.shape
    leave[..., [0, -1]] = np.inf
    running, arrive, moved = (np.full((width, devices, edges), np.inf, dtype=leave.dtype) for _ in range(3))
    broker = np.empty((codecs, width, edges), dtype=leave.dtype)
    work = np.empty_like(leave)
    if given is None:
        arrive[..., 0] = first
    for _ in range(ROUNDS):
        np.minimum.accumulate(arrive[..., :-1], axis=-1, out=moved[..., 1:])
        flat = arrive.reshape(width * devices, edges)
        if windows is not None:
            moved.reshape(flat.shape)[windows.rows] = windows.least(flat)
        for weighting, device, run in runs:
            moved[weighting, device] = (arrive[weighting, device] + run).min(axis=1)
        if given is not None:
            moved[:, given[0]] = given[1]
        if (moved == running).all():
            return running, arrive, broker
        running, moved = moved, running
        np.add(running, leave, work)
        np.minimum.reduce(work, axis=2, out=broker)
        if confined.size:
            least = _least_of_others(work, broker, confined)
        np.add(broker[:, :, None], enter, work)
        if confined.size:
            work[:, :, confined] = least + enter[:, :, confined]
        np.minimum.reduce(work, axis=0, out=arrive)
        arrive[..., 0] = first if given is None else np.inf
    return None


def _least_of_others(left: Array, least: Array, devices: npt.NDArray[np.intp]) -> Array:
    """``[K, B, n, C]``: as ``least`` over all but each of ``devices``, which must not send to itself."""
    best = left.argmin(axis=2)
    without = left.copy()
    np.put_along_axis(without, best[:, :, None], np.inf, axis=2)
    second = without.min(axis=2)
    own = best[:, :, None] == devices[:, None]
    return np.where(own, second[:, :, None], least[:, :, None])
