"""Pareto labels: partial plans, cut by cut, of which only those are kept that no other beats.

Label setting as for shortest paths with two criteria (Hansen, 1980; Irnich and Desaulniers, "Shortest path
problems with resource constraints", 2005). A label is dropped when another at the same place is no worse in
everything, and when even the cheapest way on, known from a sweep backwards, breaks a limit. What remains is a
handful, so the labels of one cut are handled as arrays.

A label's amounts are less what is before the cut on its device, so a run that goes on changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import PARTITION, Costs, FloatArray, IntArray, Route, Share
from edgemesh.planning.narrowing import SLACK
from edgemesh.planning.sweep import Steps, Values

BoolArray = npt.NDArray[np.bool_]

WIDTH: Final = 4_000
"""Labels kept at one cut: the problem contains the knapsack problem. A few dozen are usual."""
TRACKED_WIDTH: Final = 120
"""The same where memory of several runs is tracked, which compares each label with each other one."""


@dataclass(frozen=True)
class Found:
    """A complete plan."""

    route: Route
    amounts: tuple[float, ...]
    """Ticks of each resource in order, then partitions and bytes as one number."""
    load: float
    """The largest of the loads; 0 when there are none."""


@dataclass(frozen=True, eq=False)
class Limits:
    """What a plan must keep: for each weighting of a sweep, the most its weighted sum may be."""

    forward: Values
    back: tuple[Values, Values]
    """Of the mirrored steps: for plans that have seen the wanted device, and for those still to see it."""
    steps: Steps
    weights: FloatArray
    """``[B, Q]`` over the resources of the search."""
    most: FloatArray
    """``[B]``, infinite where there is no limit."""


@dataclass(eq=False)
class _Labels:
    amounts: FloatArray
    """``[n, Q + 1]``; the last breaks ties."""
    device: IntArray
    start: IntArray
    """Of the run under way."""
    number: IntArray
    """In the history."""
    used: FloatArray
    """``[n, 2 * M + 1]``: weights and peak of ended runs on tracked devices; last, 0 once it has seen the
    wanted device. The fewer the better."""

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> _Labels:
        return _Labels(
            self.amounts[chosen],
            self.device[chosen],
            self.start[chosen],
            self.number[chosen],
            self.used[chosen],
        )

    def __len__(self) -> int:
        return len(self.device)

    def and_(self, other: _Labels) -> _Labels:
        return _Labels(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values())))


class Search:
    """One search over labels. Resources are compared from the left; ``seconds`` is the one under a bound."""

    def __init__(
        self,
        costs: Costs,
        resources: Sequence[Share],
        limits: Limits,
        *,
        tracked: Sequence[int] = (),
        wanted: int | None = None,
        bounded: bool = True,
        priced: Share | None = None,
        loads: Sequence[Share] = (),
        most_load: float = np.inf,
        width: int = 0,
    ) -> None:
        """``resources`` end with the seconds. ``tracked`` are devices whose memory over all runs is kept.

        Unless ``bounded``, seconds only break ties. ``priced`` counts in the limits, as the last resource,
        and nowhere else. ``loads`` are resources too, of which a plan may have ``most_load`` each: a label
        beats another only if it is no worse in each of them. ``width`` is how many labels are kept at one
        cut.
        """
        self._costs = costs
        self._resources = (*resources, *loads) if priced is None else (*resources, *loads, priced)
        self._loads = slice(len(resources), len(resources) + len(loads))
        self._most_load = most_load
        self._compared = len(resources)
        self._limits = limits
        self._back_running = np.stack([values.running for values in limits.back])
        self._back_broker = np.stack([values.broker for values in limits.back])
        self._most = limits.most + np.abs(limits.most) * SLACK
        self._tracked = list(tracked)
        self._width = width or (TRACKED_WIDTH if self._tracked or loads else WIDTH)
        self._wanted = wanted
        self._bounded = bounded
        self._units = len(costs.weights) - 1
        devices = costs.device_count
        self._measured, self._small, self._confined = (np.zeros(devices, dtype=bool) for _ in range(3))
        self._measured[list(costs.seconds.runs)] = True
        self._confined[list(costs.confined)] = True
        self._small[list({*costs.confined, *self._tracked} - set(costs.seconds.runs))] = True
        self._history: list[tuple[IntArray, IntArray, IntArray, int]] = []
        """Parents, devices and codecs of the labels made at a cut."""
        self._made = 0
        self.complete = True
        """False once labels were dropped for their number alone."""

    # --- the search ---------------------------------------------------------------------------------------

    def run(self) -> list[Found]:
        """The plans that no other beats, seconds ascending: the last has the least of the first resource."""
        sending, receiving = self._live_steps()
        labels = self._first(receiving[0])
        for cut in np.flatnonzero(sending.any(axis=(1, 2)) & receiving.any(axis=(1, 2))):
            if 0 < cut < self._units and sending[cut][labels.device].any():
                labels = self._over(int(cut), self._fresh(labels, cut), sending[cut], receiving[cut])
        return self._ended(self._fresh(labels, self._units))

    def _live_steps(self) -> tuple[BoolArray, BoolArray]:
        """``[C, D, K]`` and ``[C, K, D]``: steps on some way that may keep all limits."""
        limits, steps = self._limits, self._limits.steps
        back_running, back_broker = limits.back[0].running[::-1], limits.back[0].broker[::-1]
        sending = (limits.forward.running[:, :, None] + steps.leave + back_broker[:, None] <= self._most).all(
            -1
        )
        through = limits.forward.broker[:, :, None] + steps.enter + (back_running - steps.fixed)[:, None]
        receiving = (through <= self._most).all(-1)
        units = self._units
        receiving[0] = (steps.first - steps.fixed + back_running[0] <= self._most).all(-1)
        assert not receiving[units].any()
        return sending, receiving

    def _first(self, open_to: BoolArray) -> _Labels:
        """Labels that are about to run at cut 0."""
        costs, devices = self._costs, np.flatnonzero(open_to.any(axis=0))
        requester, codecs = costs.requester, costs.sizes.shape[1]
        device, codec = (grid.ravel() for grid in np.meshgrid(devices, np.arange(codecs), indexing="ij"))
        amounts = np.empty((len(device), len(self._resources) + 1))
        for column, share in enumerate(self._resources):
            amounts[:, column] = share.leave[0, requester, codec] + share.enter[0, device, codec]
        amounts[:, -1] = PARTITION + costs.sizes[0, codec]
        here = device == requester
        amounts[here] = 0.0
        amounts[here, -1] = PARTITION
        keep = ~here | (codec == 0)
        device, codec, amounts = device[keep], codec[keep], amounts[keep]
        self._begin(amounts, device, 0)
        used = np.zeros((len(device), 2 * len(self._tracked) + 1))
        used[:, -1] = 0.0 if self._wanted is None else device != self._wanted
        return self._made_labels(amounts, device, 0, np.full(len(device), -1), codec, used)

    def _begin(self, amounts: FloatArray, device: IntArray, cut: int) -> None:
        for column, share in enumerate(self._resources):
            amounts[:, column] += share.fixed[device] - share.before[cut, device]

    def _made_labels(
        self,
        amounts: FloatArray,
        device: IntArray,
        cut: int,
        parent: IntArray,
        codec: IntArray,
        used: FloatArray,
    ) -> _Labels:
        possible = np.isfinite(amounts[:, 0])
        labels = _Labels(
            amounts[possible], device[possible], np.full(int(possible.sum()), cut),
            parent[possible], used[possible],
        )  # fmt: skip
        codec = codec[possible]
        self._history.append((labels.number, labels.device, codec, cut))
        labels.number = np.arange(self._made, self._made + len(labels))
        self._made += len(labels)
        return labels

    def _fresh(self, labels: _Labels, cut: int) -> _Labels:
        """Without those whose run reaches back too far to end here."""
        earliest = self._costs.earliest[cut]
        return labels[labels.start >= earliest[labels.device]] if earliest.any() else labels

    def _over(self, cut: int, labels: _Labels, sending: BoolArray, receiving: BoolArray) -> _Labels:
        """``labels`` and those that cross the cut to another device."""
        sent, codec = self._sent(cut, labels, sending)
        labels = labels[self._may_go_on(cut, labels)]
        if not len(sent):
            return labels
        best = self._undominated(sent, codec)
        pairs = receiving[codec] & (sent.device[:, None] != np.arange(receiving.shape[1]))
        # Where nobody may follow itself, the best sender may be the receiver: the others must still be there.
        chosen, device = np.nonzero(pairs & (best[:, None] | self._confined))
        if not len(chosen):
            return labels
        amounts = sent.amounts[chosen]
        for column, share in enumerate(self._resources):
            amounts[:, column] += share.enter[cut, device, codec[chosen]]
        amounts[:, -1] += PARTITION
        self._begin(amounts, device, cut)
        used = sent.used[chosen]
        used[device == self._wanted, -1] = 0.0
        keep = self._within(amounts, self._rest(cut, device, used))
        chosen, device = chosen[keep], device[keep]
        new = self._made_labels(amounts[keep], device, cut, sent.number[chosen], codec[chosen], used[keep])
        both = labels.and_(new)
        both = both[self._undominated(both, self._group(both), running=True)]
        width = self._width
        if len(both) > width:
            self.complete = False
            spent = both.amounts[:, 0] + self._resources[0].before[cut, both.device]
            both = both[spent.argsort(kind="stable")[:width]]
        return both

    def _rest(self, cut: int, device: IntArray, used: FloatArray) -> FloatArray:
        """``[n, B]``: the least that is to come for who runs on ``device`` over the cut, or starts there."""
        rest = self._back_running[(used[:, -1] > 0.0).astype(np.intp), self._units - cut, device]
        return rest - self._limits.steps.fixed[device]  # type: ignore[no-any-return]

    def _may_go_on(self, cut: int, labels: _Labels) -> BoolArray:
        """Which may still keep all limits when their run goes on over the cut."""
        within = self._within(labels.amounts, self._rest(cut, labels.device, labels.used))
        for device in self._costs.seconds.runs:
            within |= labels.device == device  # what is left of a measured run is not known
        return within

    def _sent(self, cut: int, labels: _Labels, sending: BoolArray) -> tuple[_Labels, IntArray]:
        """Labels at the broker, their run ended, with their codecs."""
        chosen, codec = np.nonzero(sending[labels.device])
        sent = labels[chosen]
        if not len(sent):
            return sent, codec
        self._end(cut, sent)
        for column, share in enumerate(self._resources):
            sent.amounts[:, column] += share.leave[cut, sent.device, codec]
        sent.amounts[:, -1] += self._costs.sizes[cut, codec]
        unseen = (sent.used[:, -1] > 0.0).astype(np.intp)
        keep = self._within(sent.amounts, self._back_broker[unseen, self._units - cut, codec])
        keep &= self._fits(sent)
        return sent[keep], codec[keep]

    def _end(self, cut: int, labels: _Labels) -> None:
        """End the runs of ``labels`` at ``cut``: amounts are whole again, memory is used."""
        for column, share in enumerate(self._resources):
            labels.amounts[:, column] += share.before[cut, labels.device]
            for device, runs in share.runs.items():
                there = labels.device == device
                labels.amounts[there, column] += runs[cut, labels.start[there]]
        costs = self._costs
        for slot, device in enumerate(self._tracked):
            there = labels.device == device
            starts = labels.start[there]
            labels.used[there, 2 * slot] += costs.weights[cut] - costs.weights[starts]
            labels.used[there, 2 * slot + 1] = np.maximum(
                labels.used[there, 2 * slot + 1], costs.peak[cut, starts]
            )
        self._forget_slack(cut, labels)

    def _forget_slack(self, cut: int, labels: _Labels) -> None:
        # Memory that even all the remaining units would not fill cannot matter any more: counted as unused,
        # more labels beat each other.
        costs = self._costs
        rest, peak = costs.weights[-1] - costs.weights[cut], costs.peak[-1, cut]
        for slot, device in enumerate(self._tracked):
            limit = costs.limits[device]
            used = labels.used[:, 2 * slot : 2 * slot + 2]
            used[used[:, 0] + rest + np.maximum(used[:, 1], peak) <= limit] = 0.0

    def _fits(self, labels: _Labels) -> BoolArray:
        fits: BoolArray = (labels.amounts[:, self._loads] <= self._most_load).all(axis=1)
        for slot, device in enumerate(self._tracked):
            used = labels.used[:, 2 * slot] + labels.used[:, 2 * slot + 1]
            fits &= used <= self._costs.limits[device]
        return fits

    def _within(self, amounts: FloatArray, rest: FloatArray) -> BoolArray:
        """Which may still keep all limits; ``rest`` is ``[n, B]``."""
        least = amounts[:, :-1] @ self._limits.weights.T + rest
        return (least <= self._most).all(axis=1)  # type: ignore[no-any-return]

    def _ended(self, labels: _Labels) -> list[Found]:
        costs, units = self._costs, self._units
        self._end(units, labels)
        labels = labels[self._fits(labels) & (labels.used[:, -1] == 0.0)]
        requester, codecs = costs.requester, costs.sizes.shape[1]
        chosen, codec = np.nonzero((labels.device[:, None] != requester) | (np.arange(codecs) == 0))
        labels = labels[chosen]
        away = labels.device != requester
        device, used = labels.device[away], codec[away]
        for column, share in enumerate(self._resources):
            labels.amounts[away, column] += (
                share.leave[units, device, used] + share.enter[units, requester, used]
            )
        labels.amounts[away, -1] += costs.sizes[units, used]
        keep = np.flatnonzero(np.isfinite(labels.amounts[:, 0]))
        keep = keep[self._within(labels.amounts[keep], np.zeros((len(keep), 1)))]
        keep = keep[self._fits(labels[keep])]
        labels, codec = labels[keep], codec[keep]
        labels.used[:] = 0.0  # no future is left in which memory could matter
        best = np.flatnonzero(self._undominated(labels, np.zeros(len(labels), dtype=np.intp)))
        best = best[np.argsort(labels.amounts[best, self._compared - 1], kind="stable")]
        return [self._found(labels, int(index), int(codec[index])) for index in best]

    # --- dominance ----------------------------------------------------------------------------------------

    def _group(self, labels: _Labels) -> IntArray:
        """Only labels of one group are compared: those on one device, and if runs were measured, of one
        start."""
        group = labels.device * (self._units + 1)
        group += np.where(self._measured[labels.device], labels.start, 0)
        return 2 * group + (labels.used[:, -1] > 0.0)

    def _undominated(self, labels: _Labels, group: IntArray, *, running: bool = False) -> BoolArray:
        """Which of ``labels`` no other of its group beats: one of equals is kept.

        While ``running`` a later start is better where memory bounds the run.
        """
        count = len(labels)
        keep = np.zeros(count, dtype=bool)
        if not count:
            return keep
        keys = (labels.amounts[:, column] for column in (-1, *reversed(range(self._compared))))
        order = np.lexsort((*keys, group))
        seconds, groups = labels.amounts[order, self._compared - 1] * self._bounded, group[order]
        # Whoever comes before is no worse in the order of resources: only fewer seconds than all of them
        # help.
        rank = np.unique(seconds, return_inverse=True)[1]
        # Each group begins below all groups before it.
        rank[1:] -= count * np.cumsum(groups[1:] != groups[:-1])
        best = np.ones(count, dtype=bool)
        best[1:] = rank[1:] < np.minimum.accumulate(rank)[:-1]
        loaded = self._loads.stop > self._loads.start
        if self._tracked or loaded or running:
            used = labels.used[order]
            used[:, -1] = np.where(self._small[labels.device[order]] & running, -labels.start[order], 0)
            if self._tracked or loaded or used[:, -1].any():
                columns = np.concatenate((used, labels.amounts[order, self._loads]), axis=1)
                best |= _pairwise_best(seconds, groups, columns, ~best)
        keep[order[best]] = True
        return keep

    # --- reading plans off --------------------------------------------------------------------------------

    def _found(self, labels: _Labels, index: int, output: int) -> Found:
        ends = np.cumsum([0, *(len(parents) for parents, *_ in self._history)])
        runs, codecs = [], [output]
        number, stop = int(labels.number[index]), self._units
        while number >= 0:
            block = int(np.searchsorted(ends, number, side="right")) - 1
            parents, devices, codec, cut = self._history[block]
            place = number - int(ends[block])
            runs.append((cut, stop, int(devices[place])))
            codecs.append(int(codec[place]))
            number, stop = int(parents[place]), cut
        route = Route(tuple(reversed(runs)), tuple(reversed(codecs)))
        amounts = labels.amounts[index].tolist()
        return Found(route, (*amounts[: self._compared], amounts[-1]), max(amounts[self._loads], default=0.0))


def _pairwise_best(seconds: FloatArray, groups: IntArray, used: FloatArray, doubtful: BoolArray) -> BoolArray:
    """Which of the ``doubtful``, beaten in resources, are not beaten in resources and memory by one
    before."""
    keep = np.zeros(len(seconds), dtype=bool)
    borders = np.flatnonzero(np.diff(groups)) + 1
    for begin, end in zip([0, *borders], [*borders, len(groups)]):
        mine = np.flatnonzero(doubtful[begin:end])
        columns = [column for column in used[begin:end].T if (column != column[0]).any()]
        if not len(mine) or not columns:
            continue
        beats = seconds[begin:end, None] <= seconds[begin:end][mine]
        beats &= np.arange(end - begin)[:, None] < mine
        for column in columns:
            beats &= column[:, None] <= column[mine]
        keep[begin:end][mine] = ~beats.any(axis=0)
    return keep
