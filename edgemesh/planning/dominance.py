"""Which of many labels no other beats."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

_TOGETHER: Final = 300_000
"""Comparisons of labels by pairs that are made at once."""


def best_in_order(seconds: FloatArray, groups: IntArray, used: FloatArray) -> tuple[BoolArray, int]:
    """Which labels, ordered by group and within it best first, none before them in their group beats; and how
    many comparisons that took."""
    count = len(seconds)
    borders = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    columns = [column for column in used.T if (column[1:] != column[:-1]).any()]
    if count * count <= _TOGETHER // (1 + len(columns)):
        beats = (groups[:, None] == groups) & (seconds[:, None] <= seconds)
        for column in columns:
            beats &= column[:, None] <= column
        numbers = np.arange(count)
        beats &= numbers[:, None] < numbers
        return ~beats.any(axis=0), count * count * (2 + len(columns))
    rank = np.unique(seconds, return_inverse=True)[1]
    # Each group begins below all groups before it.
    rank[1:] -= count * np.cumsum(groups[1:] != groups[:-1])
    best = np.ones(count, dtype=bool)
    best[1:] = rank[1:] < np.minimum.accumulate(rank)[:-1]
    work = count
    if columns:
        for begin, end in zip([0, *borders], [*borders, count]):
            own, doubtful = [column[begin:end] for column in columns], ~best[begin:end]
            work += (end - begin) * int(doubtful.sum()) * (2 + len(own))
            best[begin:end] |= _pairwise_best(seconds[begin:end], own, doubtful)
    return best, work


def _pairwise_best(seconds: FloatArray, used: list[FloatArray], doubtful: BoolArray) -> BoolArray:
    """Which of the ``doubtful``, beaten in resources, are not beaten in resources and in all of ``used`` by
    one before."""
    keep = np.zeros(len(seconds), dtype=bool)
    columns = [column for column in used if (column != column[0]).any()]
    if not columns:
        return keep
    mine = np.flatnonzero(doubtful)
    for begin in range(0, len(mine), step := max(1, _TOGETHER // len(seconds))):
        some = mine[begin : begin + step]
        beats = seconds[:, None] <= seconds[some]
        beats &= np.arange(len(seconds))[:, None] < some
        for column in columns:
            beats &= column[:, None] <= column[some]
        keep[some] = ~beats.any(axis=0)
    return keep
