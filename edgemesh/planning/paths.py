"""Shortest paths over (cut, device) whose edges are runs of units.

A cut crossed between two devices costs leaving the one plus entering the other (star model), so the best
sender is found once per cut and not once per receiver. Neighbouring runs are on different devices: the best
sender is therefore kept together with the best one on another device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemesh.planning.tables import CostArray, Tables

IntArray = npt.NDArray[np.intp]
Run = tuple[int, int, int]
"""Start, stop, device index."""


@dataclass(frozen=True, eq=False)
class Ways:
    """Best ways from the start to every (device, cut), memory across several runs left aside."""

    arrive: CostArray
    """``[D, U + 1]``: the cut's tensors are on the device, not run yet; infinite at cut ``U``."""
    end: CostArray
    """``[D, U + 1]``: the device has just finished a run at the cut; infinite at cut 0."""
    start: IntArray
    """``[D, U + 1]``: where that run started."""
    codec: IntArray
    """``[D, U + 1]``: how the arrival was encoded."""
    best: IntArray
    """``[U + 1, K]``: the cheapest device to leave from, by codec."""
    other: IntArray
    """``[U + 1, K]``: the next cheapest, for arrivals on the cheapest itself."""


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
    start, codec = (np.zeros((devices, edges), dtype=np.intp) for _ in range(2))
    best, other = (np.zeros((edges, codecs), dtype=np.intp) for _ in range(2))
    if through is None:
        arrive[:, 0] = tables.first
    for cut in range(1, edges):
        ended = arrive[:, :cut] + tables.run[cut, :, :cut]
        start[:, cut] = chosen = ended.argmin(axis=1)
        end[:, cut] = ended[all_devices, chosen]
        if through is not None:
            end[through[0], cut] = through[1].end[through[0], cut]
        if cut == edges - 1:
            break
        left = end[:, cut, None] + tables.leave[cut]
        best[cut] = first = left.argmin(axis=0)
        entered = left[first, all_codecs] + tables.enter[cut]
        left[first, all_codecs] = np.inf
        other[cut] = second = left.argmin(axis=0)
        entered[first, all_codecs] = left[second, all_codecs] + tables.enter[cut, first, all_codecs]
        codec[:, cut] = chosen = entered.argmin(axis=1)
        arrive[:, cut] = entered[all_devices, chosen]
    return Ways(arrive, end, start, codec, best, other)


def best_path(tables: Tables) -> Path | None:
    """The path of least cost, memory across several runs left aside; None when there is none."""
    ways = ways_from_start(tables)
    totals = ways.end[:, -1] + tables.last
    device = int(totals.argmin())
    return path_to_end(ways, device, tables.run.shape[0] - 1) if np.isfinite(totals[device].real) else None


def best_path_using(device: int, ways: Ways, back: Ways) -> Path | None:
    """The path of least cost with a run on ``device``; None when there is none.

    ``ways`` and ``back`` are the ways through the tables and through the mirrored tables: a path uses a
    device exactly if it arrives there at some cut and goes on from there.
    """
    totals = ways.arrive[device] + back.end[device, ::-1]
    cut = int(totals.argmin())
    if not np.isfinite(totals[cut].real):
        return None
    before, after = path_to_arrival(ways, device, cut), path_from(back, device, cut)
    return Path((*before.runs, *after.runs), (*before.codecs, *after.codecs))


def cost_of(tables: Tables, path: Path) -> complex:
    """Cost of ``path`` with the best codecs at both ends."""
    runs = path.runs
    cost = complex(tables.first[runs[0][2]] + tables.last[runs[-1][2]])
    cost += sum(float(tables.run[stop, device, start]) for start, stop, device in runs)
    for (_, cut, sender), (_, _, receiver), codec in zip(runs, runs[1:], path.codecs, strict=False):
        cost += complex(tables.leave[cut, sender, codec] + tables.enter[cut, receiver, codec])
    return cost


def path_to_arrival(ways: Ways, device: int, cut: int) -> Path:
    """The runs before the tensors of ``cut`` arrive on ``device``, and the codecs up to that arrival."""
    runs: list[Run] = []
    codecs: list[int] = []
    while cut > 0:
        codec = int(ways.codec[device, cut])
        codecs.append(codec)
        device = int((ways.other if ways.best[cut, codec] == device else ways.best)[cut, codec])
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
