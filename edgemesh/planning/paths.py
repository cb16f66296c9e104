"""Shortest paths over (cut, device) whose edges are runs of units.

A cut crossed between two devices costs leaving the one plus entering the other (star model), so the best
sender is found once per cut and not once per receiver. Neighbouring runs are on different devices: the best
sender is therefore kept together with the best one on another device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemesh.planning.prediction import Run
from edgemesh.planning.tables import CostArray, Tables

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Ways:
    """Best ways from the start to every (device, cut), memory across several runs left aside."""

    arrive: CostArray
    """``[D, U + 1]``: the cut's tensors are on the device, not run yet; infinite at cut ``U``."""
    end: CostArray
    """``[D, U + 1]``: the device has just finished a run at the cut; infinite at cut 0."""
    start: IntArray
    """``[D, U + 1]``: where that run started."""
    sender: IntArray
    """``[D, U + 1]``: whom the arrival comes from."""
    codec: IntArray
    """``[D, U + 1]``: how the arrival was encoded."""


@dataclass(frozen=True)
class Path:
    """Consecutive runs and the codecs between them: one fewer."""

    runs: tuple[Run, ...]
    codecs: tuple[int, ...]


def ways_from_start(tables: Tables, *, through: tuple[int, Ways] | None = None) -> Ways:
    """Ways of least cost; ``O(U^2 * D + U * D * K)``.

    With ``through``, a device and the ways without it, only ways that run something on that device count.
    Their costs are right at every place from which the device is still to be left; a path cannot be read off.
    """
    edges, devices, codecs = tables.leave.shape
    all_devices, all_codecs = np.arange(devices), np.arange(codecs)
    arrive = np.full((devices, edges), np.inf, dtype=np.complex128)
    end = arrive.copy()
    start, sender, codec = (np.zeros((devices, edges), dtype=np.intp) for _ in range(3))
    if through is None:
        arrive[:, 0] = tables.first
    for cut in range(1, edges):
        ended = arrive[:, :cut] + tables.run[cut, :, :cut]
        start[:, cut] = best = ended.argmin(axis=1)
        end[:, cut] = ended[all_devices, best]
        if through is not None:
            end[through[0], cut] = through[1].end[through[0], cut]
        if cut == edges - 1:
            break
        left = end[:, cut, None] + tables.leave[cut]
        best = left.argmin(axis=0)
        cheapest = left[best, all_codecs]
        left[best, all_codecs] = np.inf
        other = left.argmin(axis=0)
        entered = cheapest + tables.enter[cut]
        entered[best, all_codecs] = left[other, all_codecs] + tables.enter[cut, best, all_codecs]
        codec[:, cut] = chosen = entered.argmin(axis=1)
        arrive[:, cut] = entered[all_devices, chosen]
        sender[:, cut] = np.where(best[chosen] == all_devices, other[chosen], best[chosen])
    return Ways(arrive, end, start, sender, codec)


def path_to_arrival(ways: Ways, device: int, cut: int) -> Path:
    """The runs before the tensors of ``cut`` arrive on ``device``, and the codecs up to that arrival."""
    runs: list[Run] = []
    codecs: list[int] = []
    while cut > 0:
        codecs.append(int(ways.codec[device, cut]))
        device = int(ways.sender[device, cut])
        start = int(ways.start[device, cut])
        runs.append((start, cut, device))
        cut = start
    return Path(tuple(reversed(runs)), tuple(reversed(codecs)))


def path_to_end(ways: Ways, device: int, cut: int) -> Path:
    """The runs up to and including the one on ``device`` that ends at ``cut``."""
    start = int(ways.start[device, cut])
    before = path_to_arrival(ways, device, start)
    return Path((*before.runs, (start, cut, device)), before.codecs)


def path_from(mirrored: Ways, device: int, cut: int) -> Path:
    """The runs from ``cut`` on, the first on ``device``, read off the ways through the mirrored tables."""
    units = mirrored.end.shape[1] - 1
    path = path_to_end(mirrored, device, units - cut)
    runs = tuple((units - stop, units - start, used) for start, stop, used in reversed(path.runs))
    return Path(runs, tuple(reversed(path.codecs)))


def joined(before: Path, after: Path) -> Path:
    """A path to an arrival and the path from there."""
    return Path((*before.runs, *after.runs), (*before.codecs, *after.codecs))
