"""Least costs from the start to every (cut, device), and from there to the end, for several weightings at
once.

A run of units costs what is before its stop less what is before its start, so a run that goes on needs no
arithmetic at all: values are kept less what is before the cut, and one step over a cut is "the best sender
per codec", "the best codec per receiver", "go on or start anew": ``O(U * D * K)`` in all. Where a run may
not reach back to every start, or was measured as a whole, its device is looked at start by start.

All arrays have the weightings as their last axis; the ways back are the ways of the mirrored instance, run in
the same loop, because the time goes into calls and not into arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import PARTITION, Costs, FloatArray, IntArray, Route, Run, Share
from edgemesh.planning.rounds import Windows, values_by_rounds

_FEW: Final = 60_000
"""Steps up to which all cuts are looked at together, round by round."""

Array = npt.NDArray[Any]
"""Real costs, or complex ones, which NumPy orders by the real and then by the imaginary part."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Costs of all steps under ``B`` weightings, ready for sweeping: less or plus what is before the cut."""

    before: Array
    """``[C, D, B]``."""
    fixed: Array
    """``[D, B]``; 0 for whoever may run nothing, whose ``enter`` and ``first`` are infinite."""
    leave: Array
    """``[C, D, K, B]``: from a run that ended at the cut to the broker."""
    enter: Array
    """``[C, K, D, B]``: from the broker into a run that starts at the cut."""
    first: Array
    """``[D, B]``: from the input into a run that starts at cut 0."""
    last: Array
    """``[D, B]``: from a run that ended at cut ``U`` to the output."""
    codecs: tuple[IntArray, IntArray]
    """``[D, B]`` each: for the input and for the output."""
    runs: dict[int, Array]
    """By device, ``[C, C, B]`` by stop, start: what comes to ``fixed`` where runs were measured."""
    earliest: IntArray
    """``[C, D]``, as in ``Costs``."""
    confined: tuple[int, ...]
    """As in ``Costs``; empty where values need only be lower bounds, which are cheaper without it."""

    def columns(self, chosen: Sequence[int]) -> Steps:
        """Only the ``chosen`` weightings."""
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[..., chosen] for name in _BY_WEIGHTING},
            codecs=(self.codecs[0][:, chosen], self.codecs[1][:, chosen]),
            runs={device: run[..., chosen] for device, run in self.runs.items()},
        )

    @property
    def mirrored(self) -> Steps:
        """The same instance run backwards."""
        units = len(self.before) - 1
        enter = (self.leave + self.fixed[:, None])[::-1].transpose(0, 2, 1, 3)
        leave = self.enter.transpose(0, 2, 1, 3)[::-1] - self.fixed[:, None]
        runs = {d: run.transpose(1, 0, 2)[::-1, ::-1] for d, run in self.runs.items()}
        cuts = np.arange(units + 1)
        # The latest stop of a run from a start is the last cut whose earliest start is not behind it.
        latest = np.stack(
            [np.searchsorted(column, cuts, side="right") - 1 for column in self.earliest.T], axis=1
        )
        first = self.last + self.fixed + self.before[-1]
        return Steps(
            -self.before[::-1], self.fixed, leave, enter, first, self.first - self.fixed,
            self.codecs[::-1], runs, units - latest[::-1], self.confined,
        )  # fmt: skip


_BY_WEIGHTING: Final = ("before", "fixed", "leave", "enter", "first", "last")


@dataclass(frozen=True, eq=False)
class Values:
    """Least costs, less what is before the cut."""

    running: Array
    """``[C, D, B]``: of a run that started before the cut and could end at it; infinite at cut 0."""
    arrive: Array
    """``[C, D, B]``: into a run that starts at the cut; infinite at cut ``U``."""
    broker: Array
    """``[C, K, B]``: at the broker between two runs; infinite at both ends."""

    def columns(self, chosen: Sequence[int]) -> Values:
        """Only the ``chosen`` weightings."""
        return Values(self.running[..., chosen], self.arrive[..., chosen], self.broker[..., chosen])


def weighted_steps(costs: Costs, weights: Sequence[tuple[tuple[Share, float], ...]]) -> Steps:
    """Real steps, one weighting for each sum of weighted shares in ``weights``.

    Where a device is confined, values are lower bounds: a device may follow itself.
    """

    def both(name: str) -> Array:
        return _weighted([[(getattr(share, name), by) for share, by in pairs] for pairs in weights])

    runs = {
        device: _weighted([[(share.runs[device], by) for share, by in pairs] for pairs in weights])
        for device in costs.seconds.runs
    }
    return _steps(costs, both("before"), both("fixed"), both("leave"), both("enter"), runs, ())


def latency_steps(costs: Costs) -> Steps:
    """One complex weighting: seconds, then partitions, then bytes."""
    share = costs.seconds
    leave, enter = share.leave[..., None] + 0j, share.enter[..., None] + 0j
    leave.imag = costs.sizes[:, None, :, None]
    enter.imag = PARTITION
    runs = {device: run[..., None] + 0j for device, run in share.runs.items()}
    before, fixed = share.before[..., None] + 0j, share.fixed[:, None] + 0j
    return _steps(costs, before, fixed, leave, enter, runs, costs.confined)


def _weighted(terms: Sequence[Sequence[tuple[FloatArray, float]]]) -> Array:
    """The sums of the weighted arrays of each of ``terms``, along a new last axis."""
    sums = [reduce(np.add, [scaled(values, by) for values, by in each]) for each in terms]
    return sums[0][..., None] if len(sums) == 1 else np.stack(sums, axis=-1)


def scaled(values: FloatArray, by: float) -> FloatArray:
    """``values`` times a weight or price, which may be 0."""
    if by == 1.0:
        return values
    # 0 * inf is not a number, and what is impossible stays so whatever it weighs.
    return values * by if by else np.where(np.isfinite(values), 0.0, np.inf)


def _steps(
    costs: Costs,
    before: Array,
    fixed: Array,
    leave: Array,
    enter: Array,
    runs: dict[int, Array],
    confined: tuple[int, ...],
) -> Steps:
    count, requester = costs.device_count, costs.requester
    partition = 1j * PARTITION if np.iscomplexobj(leave) else 0.0
    ways = leave[0, requester] + enter[0, :count], leave[-1, :count] + (enter[-1, requester] - partition)
    first, last = (way.min(axis=1) for way in ways)
    codecs = ways[0].argmin(axis=1), ways[1].argmin(axis=1)
    if requester < count:
        first[requester] = partition
        last[requester] = 0.0
        codecs[0][requester] = codecs[1][requester] = 0
    fixed, before = fixed[:count], before[:, :count]
    leave = leave[:, :count] + before[:, :, None]
    enter = (enter[:, :count] + (fixed - before)[:, :, None]).transpose(0, 2, 1, 3)
    # Contiguous, because the sweep goes over them cut by cut.
    return Steps(
        before, np.where(np.isfinite(fixed.real), fixed, 0.0), leave, np.ascontiguousarray(enter),
        first + fixed, last, codecs, runs, costs.earliest, confined,
    )  # fmt: skip


def values_of(*steps: Steps, through: tuple[int, Values] | None = None) -> list[Values]:
    """Values of each of ``steps``, which belong to one instance or its mirror image.

    With ``through``, a device and the values without it, only ways that run something on that device count.
    Their values are right wherever the device is still to be left.
    """
    found = None
    if sum(each.leave.size for each in steps) <= _FEW:
        found = _by_rounds(steps, through)
    running, arrive, broker = found or _by_cuts(steps, through)
    ends = np.cumsum([0, *(s.first.shape[-1] for s in steps)])
    return [Values(running[..., a:b], arrive[..., a:b], broker[..., a:b]) for a, b in pairwise(ends)]


def _by_rounds(
    steps: Sequence[Steps], through: tuple[int, Values] | None
) -> tuple[Array, Array, Array] | None:
    leave = _joined([each.leave.transpose(2, 3, 1, 0) for each in steps], 1)
    enter = _joined([each.enter.transpose(1, 3, 2, 0) for each in steps], 1)
    first = _joined([each.first.T for each in steps], 0)
    edges, devices = steps[0].earliest.shape
    earliest = _by_row([each.earliest for each in steps], steps)
    concerned = earliest.any(axis=0)
    begun = np.arange(edges)[:, None] > np.arange(edges)
    runs: list[tuple[int, int, Array]] = []
    weighting = 0
    for each in steps:
        for column in range(each.first.shape[-1]):
            for device, run in each.runs.items():
                concerned[weighting * devices + device] = False
                possible = begun & (np.arange(edges) >= each.earliest[:, device, None])
                runs.append((weighting, device, np.where(possible, run[..., column], np.inf)))
            weighting += 1
    rows = np.flatnonzero(concerned)
    found = values_by_rounds(
        leave, enter, first, Windows(rows, earliest) if rows.size else None, runs,
        np.array(steps[0].confined, dtype=np.intp),
        None if through is None else (through[0], through[1].running[:, through[0]].T),
    )  # fmt: skip
    if found is None:
        return None
    running, arrive, broker = found
    return running.transpose(2, 1, 0), arrive.transpose(2, 1, 0), broker.transpose(2, 0, 1)


def _by_cuts(steps: Sequence[Steps], through: tuple[int, Values] | None) -> tuple[Array, Array, Array]:
    # Devices are the last axis here, for the longest inner loops.
    leave = _joined([each.leave.transpose(0, 3, 2, 1) for each in steps], 1)
    enter = _joined([each.enter.transpose(0, 3, 1, 2) for each in steps], 1)
    edges, width, codecs, devices = leave.shape
    running, arrive = (np.full((edges, width, devices), np.inf, dtype=leave.dtype) for _ in range(2))
    broker = np.full((edges, width, codecs), np.inf, dtype=leave.dtype)
    # As the rest of this module has them.
    shown = running.transpose(0, 2, 1), arrive.transpose(0, 2, 1), broker.transpose(0, 2, 1)
    if through is None:
        arrive[0] = running[1] = _joined([each.first.T for each in steps], 0)
    else:
        running[:, :, through[0]] = through[1].running[:, through[0]]
    windows, measured = _Windows(steps, leave.dtype), bool(steps[0].runs)
    narrow = bool(len(windows.places))
    if narrow:
        windows.move(running, arrive, 1)
    if measured:
        _measured(steps, *shown[:2], 1)
    confined = np.array(steps[0].confined, dtype=np.intp)
    assert not confined.size or len(steps) == 1
    left = np.empty((width, codecs, devices), leave.dtype)
    entered = np.empty_like(left)
    add, less, least = np.add, np.minimum, np.minimum.reduce
    for cut in range(1, edges - 1):
        add(running[cut][:, None], leave[cut], left)
        least(left, 2, None, broker[cut])
        add(broker[cut][:, :, None], enter[cut], entered)
        least(entered, 1, None, arrive[cut])
        if confined.size:
            for receiver in confined[
                (left[..., confined] == broker[cut][..., None]).any(axis=(0, 1))
            ].tolist():
                left[..., receiver] = np.inf
                arrive[cut, :, receiver] = (least(left, 2) + enter[cut, :, :, receiver]).min(axis=1)
                left[..., receiver] = running[cut, :, receiver, None] + leave[cut, :, :, receiver]
        less(running[cut], arrive[cut], running[cut + 1])
        if narrow:
            windows.move(running, arrive, cut + 1)
        if measured:
            _measured(steps, *shown[:2], cut + 1)
        if through is not None:
            running[cut + 1, :, through[0]] = through[1].running[cut + 1, through[0]]
    return shown


def _joined(arrays: Sequence[Array], axis: int) -> Array:
    """A contiguous copy."""
    return np.concatenate(arrays, axis=axis) if len(arrays) > 1 else arrays[0].copy(order="C")


class _Windows:
    """Running values of devices that may not reach back to every start of a run.

    The least of a window that only moves on, for all such devices at once: of the older starts the least from
    each one on is kept, of the newer ones the least of all; when a window leaves the older ones behind, the
    newer ones become the older ones (a queue of two stacks).
    """

    def __init__(self, steps: Sequence[Steps], dtype: Any) -> None:
        earliest = _by_row([each.earliest for each in steps], steps)
        concerned = earliest.any(axis=0)
        for device in steps[0].runs:
            concerned[device :: len(steps[0].first)] = False
        self.places = np.flatnonzero(concerned)
        """Rows of ``[B * D]``."""
        self._earliest = np.ascontiguousarray(earliest[:, self.places])
        count = len(self.places)
        self._numbers = np.arange(count)
        self._older = np.full((len(earliest) + 1, count), np.inf, dtype=dtype)
        self._newer = np.full(count, np.inf, dtype=dtype)
        self._border = np.zeros(count, dtype=np.intp)

    def move(self, running: Array, arrive: Array, cut: int) -> None:
        """Set the running values (``[C, B, D]``) at ``cut``."""
        rows = arrive[cut - 1].ravel()[self.places]
        np.minimum(self._newer, rows, self._newer)
        earliest = self._earliest[cut]
        behind = earliest >= self._border
        if behind.any():
            for number in np.flatnonzero(behind).tolist():
                start, place = int(earliest[number]), self.places[number]
                starts = arrive.reshape(len(arrive), -1)[start:cut, place]
                self._older[start:cut, number] = np.minimum.accumulate(starts[::-1])[::-1]
                self._newer[number] = np.inf
                self._border[number] = cut
        least = np.minimum(self._older[earliest, self._numbers], self._newer)
        running[cut].reshape(-1)[self.places] = least


def _by_row(of_each: Sequence[IntArray], steps: Sequence[Steps]) -> IntArray:
    """``[C, B * D]`` of ``[C, D]`` of each of ``steps``: the same for all its weightings."""
    return np.concatenate(
        [np.tile(one, (1, each.first.shape[-1])) for one, each in zip(of_each, steps, strict=True)], axis=1
    )


def _measured(steps: Sequence[Steps], running: Array, arrive: Array, cut: int) -> None:
    """Set the running values of devices whose runs were measured one by one."""
    width = steps[0].first.shape[-1]
    for part, each in enumerate(steps):
        columns = slice(part * width, (part + 1) * width)
        for device, runs in each.runs.items():
            earliest = int(each.earliest[cut, device])
            starts = arrive[earliest:cut, device, columns] + runs[cut, earliest:cut]
            running[cut, device, columns] = starts.min(axis=0) if len(starts) else np.inf


def best_end(steps: Steps, values: Values, weighting: int = 0) -> tuple[int, Any]:
    """The device on which the best way ends, and the cost of that way (maybe infinite)."""
    totals = values.running[-1, :, weighting] + (steps.before[-1] + steps.last)[:, weighting]
    device = int(totals.argmin())
    return device, totals[device]


def route_of(steps: Steps, values: Values, device: int, weighting: int = 0) -> Route:
    """The way of least cost whose last run is on ``device``."""
    runs, codecs = _trace(steps, values, device, len(steps.before) - 1, weighting)
    return Route(tuple(runs), (*codecs, int(steps.codecs[1][device, weighting])))


def route_through(
    steps: Steps, mirrored: Steps, ways: tuple[Values, Values], device: int, weighting: int = 0
) -> Route | None:
    """The way of least cost with a run on ``device``; None when there is none.

    ``ways`` are the values of ``steps`` and of ``mirrored``. Neighbouring runs may be on one device where the
    values are lower bounds only.
    """
    values, back = ways
    totals = values.arrive[:, device, weighting] + back.running[::-1, device, weighting]
    cut = int(totals.argmin())
    if not np.isfinite(totals[cut]):
        return None
    runs, codecs = _arrival(steps, values, device, cut, weighting)
    units = len(steps.before) - 1
    after, codecs_after = _trace(mirrored, back, device, units - cut, weighting)
    runs += [(units - stop, units - start, used) for start, stop, used in reversed(after)]
    return Route(tuple(runs), (*codecs, *reversed(codecs_after)))


def _trace(
    steps: Steps, values: Values, device: int, cut: int, weighting: int
) -> tuple[list[Run], list[int]]:
    """The runs up to and including the one on ``device`` that ends at ``cut``, and the codecs before each."""
    start = _start(steps, values, device, cut, weighting)
    runs, codecs = _arrival(steps, values, device, start, weighting)
    return [*runs, (start, cut, device)], codecs


def _arrival(
    steps: Steps, values: Values, device: int, cut: int, weighting: int
) -> tuple[list[Run], list[int]]:
    """The runs before a run on ``device`` starts at ``cut``, and the codecs up to that arrival."""
    runs: list[Run] = []
    codecs: list[int] = []
    while cut > 0:
        left = values.running[cut, :, None, weighting] + steps.leave[cut, :, :, weighting]
        left = left + steps.enter[cut, :, device, weighting]
        others = left.copy()
        others[device] = np.inf
        # Where values are lower bounds only, the device itself may be the only one to come from.
        chosen = int(others.argmin())
        chosen = chosen if np.isfinite(others.flat[chosen]) else int(left.argmin())
        device, codec = divmod(chosen, left.shape[1])
        start = _start(steps, values, device, cut, weighting)
        codecs.append(codec)
        runs.append((start, cut, device))
        cut = start
    codecs.append(int(steps.codecs[0][device, weighting]))
    return runs[::-1], codecs[::-1]


def _start(steps: Steps, values: Values, device: int, cut: int, weighting: int) -> int:
    """Where the best run on ``device`` that ends at ``cut`` starts."""
    earliest = int(steps.earliest[cut, device])
    starts = values.arrive[earliest:cut, device, weighting]
    if device in steps.runs:
        starts = starts + steps.runs[device][cut, earliest:cut, weighting]
    return earliest + int(starts.argmin())
