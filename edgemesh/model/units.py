"""Where a linear list of operators is divided into units.

A cut between two operators is worth offering to the planner when no other cut has nearly the same compute
on its left and sends no more bytes: convolution, bias, activation and reshape thus fuse into one unit, while
a narrow place of the network always stays a cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import accumulate

MAX_UNITS = 200
_NOTABLE = 1000
"""Compute below one in this many parts of the whole model is not worth a cut of its own."""
_WIDEN = 1.2


def unit_borders(
    cut_bytes: Sequence[int], macs: Sequence[int], allowed: Sequence[bool], limit: int = MAX_UNITS
) -> list[int]:
    """Strictly increasing operator indices, from 0 to ``n``; unit ``i`` is ``[borders[i], borders[i + 1])``.

    ``macs[i]`` is the compute of operator ``i`` of ``n``; ``cut_bytes[c]`` is what crosses the cut before
    operator ``c`` and ``allowed[c]`` whether it may be cut there, both for ``c`` in ``0..n`` (0 and ``n``
    always are borders).

    The rule. Cuts are taken in order of bytes, of two equal ones the later first (so that an activation
    stays with the operator that made its input). A cut is left out when a border with no more bytes lies
    within the window: compute between the two of at most a thousandth of the whole. Hence every allowed cut
    that is left out has a border in its window that is no larger, and no border has another one so; a cut
    that is smaller than all others in its window is a border. When more than ``limit`` units remain, the
    window grows until they fit. Where no operator has known compute, each counts the same.

    Cost ``O(n log n)`` for each window tried.
    """
    count = len(macs)
    assert count >= 1 and limit >= 1, "a model has at least one operator and one unit"
    assert len(cut_bytes) == len(allowed) == count + 1, "one cut more than operators"
    compute = macs if any(macs) else [1] * count
    position = list(accumulate(compute, initial=0))
    inner = [cut for cut in range(1, count) if allowed[cut]]
    inner.sort(key=lambda cut: (cut_bytes[cut], -cut))
    window = position[-1] // _NOTABLE
    while True:
        borders = _borders(inner, cut_bytes, position, window)
        if len(borders) - 1 <= limit:
            return borders
        if window > position[-1]:
            # Only the smallest cut of all is left, and even two units are too many.
            return [0, count]
        window = max(window + 1, int(window * _WIDEN))


def _borders(by_bytes: list[int], cut_bytes: Sequence[int], position: list[int], window: int) -> list[int]:
    last = len(position) - 1
    kept: list[int] = []
    for cut in by_bytes:
        low = bisect_left(position, position[cut] - window)
        high = bisect_right(position, position[cut] + window) - 1
        # All kept so far are no larger, as cuts come in order of bytes.
        at = bisect_left(kept, low)
        near_kept = at < len(kept) and kept[at] <= high
        near_input = low == 0 and cut_bytes[0] <= cut_bytes[cut]
        near_output = high == last and cut_bytes[last] <= cut_bytes[cut]
        if not (near_kept or near_input or near_output):
            insort(kept, cut)
    return [0, *kept, last]
