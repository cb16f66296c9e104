"""Pareto labels: partial plans, run by run, of which only those are kept that no other beats.

Label setting as for shortest paths with two criteria (Hansen, 1980; Irnich and Desaulniers, "Shortest path
problems with resource constraints", 2005). A label is dropped when another at the same place is no worse in
everything, and when even the cheapest way on, known from a sweep backwards, breaks a limit. Labels of as many
runs are handled together as arrays, over all cuts: plans have few runs, and calls cost more than arithmetic.

A label's amounts are less what is before the cut on its device, so a run that goes on changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgemesh.planning.costs import PARTITION, Costs, FloatArray, IntArray, Route, Share
from edgemesh.planning.dominance import BoolArray, best_in_order
from edgemesh.planning.label_arrays import Labels, Sent
from edgemesh.planning.narrowing import SLACK
from edgemesh.planning.sweep import Steps, Values

WIDTH: Final = 4_000
"""Labels that grow by one run together: the problem contains the knapsack problem, so the work needs a bound.
Those that bid fair to be best go on, and the answer is not proven then. Some hundred are usual."""
TRACKED_WIDTH: Final = 800
"""The same where memory of several runs is tracked, which compares each label with each other one."""
WORK: Final = 100_000_000
"""Comparisons and steps of labels in one search, some 1 to 4 ns each: again the answer is not proven
beyond."""
_COMPARED: Final = 4
"""Times as many labels are compared with each other before those that grow are chosen."""
_A_LABEL: Final = 200
"""What handling one label counts in ``WORK``."""


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
        self._history: list[tuple[IntArray, IntArray, IntArray, IntArray]] = []
        """Parents, devices, codecs and starts of the labels of as many runs."""
        self._made = self._work = 0
        self.complete = True
        """False once labels were dropped for their number alone."""

    # --- the search ---------------------------------------------------------------------------------------

    def run(self) -> list[Found]:
        """The plans that no other beats, seconds ascending: the last has the least of the first resource."""
        sending, receiving = self._live_steps()
        self._open = np.flatnonzero(sending.any(axis=(1, 2)) & receiving.any(axis=(1, 2)))
        labels = all_labels = self._first(receiving[0])
        sent, ended = self._none_sent(labels), self._ended(labels)
        while len(labels):
            if self._work > WORK:
                self.complete = False
                break
            labels, sent = self._on(labels, sent, sending, receiving)
            labels = self._likeliest(labels, _COMPARED * self._width)
            both = all_labels.and_(labels)
            kept = self._undominated(both, self._group(both), running=True)
            labels, all_labels = both[len(all_labels) + np.flatnonzero(kept[len(all_labels) :])], both[kept]
            labels = self._likeliest(labels, self._width)
            if len(labels):
                ended = ended.and_(self._ended(labels))
        ended = self._best_ended(ended)
        return [self._found(ended, index) for index in range(len(ended))]

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

    def _first(self, open_to: BoolArray) -> Labels:
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
        cut = np.zeros(len(device), dtype=np.intp)
        return self._made_labels(amounts, device, cut, np.full(len(device), -1), codec, used)

    def _begin(self, amounts: FloatArray, device: IntArray, cut: IntArray | int) -> None:
        for column, share in enumerate(self._resources):
            amounts[:, column] += share.fixed[device] - share.before[cut, device]

    def _made_labels(
        self,
        amounts: FloatArray,
        device: IntArray,
        cut: IntArray,
        parent: IntArray,
        codec: IntArray,
        used: FloatArray,
    ) -> Labels:
        possible = np.isfinite(amounts[:, 0])
        labels = Labels(amounts[possible], device[possible], cut[possible], parent[possible], used[possible])
        self._history.append((labels.number, labels.device, codec[possible], labels.start))
        labels.number = np.arange(self._made, self._made + len(labels))
        self._made += len(labels)
        return labels

    def _on(
        self, labels: Labels, known: Sent, sending: BoolArray, receiving: BoolArray
    ) -> tuple[Labels, Sent]:
        """Labels of one more run, and what was sent so far."""
        new = self._sent(labels, sending)
        both = known.and_(new)
        best = self._undominated(both.labels, both.place)
        # Where nobody may follow itself, the best sender may be the receiver: the others must still be there.
        sent, best_new = new.labels, best[len(known.labels) :]
        pairs = receiving[new.cut, new.codec] & (sent.device[:, None] != np.arange(receiving.shape[2]))
        chosen, device = np.nonzero(pairs & (best_new[:, None] | self._confined))
        cut, codec = new.cut[chosen], new.codec[chosen]
        amounts = sent.amounts[chosen]
        for column, share in enumerate(self._resources):
            amounts[:, column] += share.enter[cut, device, codec]
        amounts[:, -1] += PARTITION
        self._begin(amounts, device, cut)
        used = sent.used[chosen]
        used[device == self._wanted, -1] = 0.0
        keep = self._within(amounts, self._rest(cut, device, used))
        made = self._made_labels(
            amounts[keep], device[keep], cut[keep], sent.number[chosen[keep]], codec[keep], used[keep]
        )
        return made, both[best]

    def _rest(self, cut: IntArray, device: IntArray, used: FloatArray) -> FloatArray:
        """``[n, B]``: the least that is to come for who runs on ``device`` over the cut, or starts there."""
        rest = self._back_running[(used[:, -1] > 0.0).astype(np.intp), self._units - cut, device]
        return rest - self._limits.steps.fixed[device]  # type: ignore[no-any-return]

    def _none_sent(self, labels: Labels) -> Sent:
        nothing = np.zeros(0, dtype=np.intp)
        return Sent(labels[nothing], nothing, nothing, nothing)

    def _sent(self, labels: Labels, sending: BoolArray) -> Sent:
        """Labels at the broker, their run ended, with their codecs."""
        cuts = self._open
        earliest = self._costs.earliest[cuts[:, None], labels.device].T
        may_stop = (cuts > labels.start[:, None]) & (earliest <= labels.start[:, None])
        self._work += may_stop.size * sending.shape[2]
        leaving = sending[cuts[:, None], labels.device].transpose(1, 0, 2)
        chosen, cut, codec = np.nonzero(leaving & may_stop[:, :, None])
        cut = cuts[cut]
        if len(chosen) > (most := _COMPARED * _A_LABEL * self._width):
            self.complete = False
            chosen, cut, codec = chosen[:most], cut[:most], codec[:most]
        sent = labels[chosen]
        self._work += _A_LABEL * len(sent)
        self._end(cut, sent)
        for column, share in enumerate(self._resources):
            sent.amounts[:, column] += share.leave[cut, sent.device, codec]
        sent.amounts[:, -1] += self._costs.sizes[cut, codec]
        unseen = (sent.used[:, -1] > 0.0).astype(np.intp)
        rest = self._back_broker[unseen, self._units - cut, codec]
        keep = np.flatnonzero(self._within(sent.amounts, rest) & self._fits(sent))
        if len(keep) > (most := _COMPARED * self._width):
            self.complete = False
            near = self._nearness(sent.amounts[keep], rest[keep])
            keep = np.sort(keep[near.argsort(kind="stable")[:most]])
        place = 2 * (cut * sending.shape[2] + codec) + unseen
        return Sent(sent, cut, codec, place)[keep]

    def _likeliest(self, labels: Labels, width: int) -> Labels:
        """At most ``width``: those whose bounds are farthest from the limits."""
        if len(labels) <= width:
            return labels
        self.complete = False
        near = self._nearness(labels.amounts, self._rest(labels.start, labels.device, labels.used))
        return labels[np.sort(near.argsort(kind="stable")[:width])]

    def _nearness(self, amounts: FloatArray, rest: FloatArray) -> FloatArray:
        """Of how much of the nearest limit a label's best plan takes."""
        limited = np.isfinite(self._most) & (self._most > 0.0)
        least = amounts[:, :-1] @ self._limits.weights.T + rest
        near: FloatArray = (least[:, limited] / self._most[limited]).max(axis=1, initial=0.0)
        return near

    def _end(self, cut: IntArray, labels: Labels) -> None:
        """End the run of each of ``labels`` at its ``cut``: amounts are whole again, memory is used."""
        for column, share in enumerate(self._resources):
            labels.amounts[:, column] += share.before[cut, labels.device]
            for device, runs in share.runs.items():
                there = labels.device == device
                labels.amounts[there, column] += runs[cut[there], labels.start[there]]
        costs = self._costs
        for slot, device in enumerate(self._tracked):
            there = labels.device == device
            starts = labels.start[there]
            labels.used[there, 2 * slot] += costs.weights[cut[there]] - costs.weights[starts]
            labels.used[there, 2 * slot + 1] = np.maximum(
                labels.used[there, 2 * slot + 1], costs.peak[cut[there], starts]
            )
        self._forget_slack(cut, labels)

    def _forget_slack(self, cut: IntArray, labels: Labels) -> None:
        # Memory that even all the remaining units would not fill cannot matter any more: counted as unused,
        # more labels beat each other.
        costs = self._costs
        rest, peak = costs.weights[-1] - costs.weights[cut], costs.peak[-1, cut]
        for slot, device in enumerate(self._tracked):
            limit = costs.limits[device]
            used = labels.used[:, 2 * slot : 2 * slot + 2]
            used[used[:, 0] + rest + np.maximum(used[:, 1], peak) <= limit] = 0.0

    def _fits(self, labels: Labels) -> BoolArray:
        fits: BoolArray = (labels.amounts[:, self._loads] <= self._most_load).all(axis=1)
        for slot, device in enumerate(self._tracked):
            used = labels.used[:, 2 * slot] + labels.used[:, 2 * slot + 1]
            fits &= used <= self._costs.limits[device]
        return fits

    def _within(self, amounts: FloatArray, rest: FloatArray) -> BoolArray:
        """Which may still keep all limits; ``rest`` is ``[n, B]``."""
        least = amounts[:, :-1] @ self._limits.weights.T + rest
        return (least <= self._most).all(axis=1)  # type: ignore[no-any-return]

    def _ended(self, labels: Labels) -> Labels:
        """``labels`` run to the end, their output with the requester; ``start`` is its codec then."""
        costs, units = self._costs, self._units
        labels = labels[labels.start >= costs.earliest[units, labels.device]]
        self._end(np.full(len(labels), units), labels)
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
        labels.start = codec
        labels.used[:] = 0.0  # no future is left in which memory could matter
        labels = labels[np.isfinite(labels.amounts).all(axis=1)]
        return labels[self._within(labels.amounts, np.zeros((len(labels), 1))) & self._fits(labels)]

    def _best_ended(self, labels: Labels) -> Labels:
        best = np.flatnonzero(self._undominated(labels, np.zeros(len(labels), dtype=np.intp)))
        return labels[best[np.argsort(labels.amounts[best, self._compared - 1], kind="stable")]]

    # --- dominance ----------------------------------------------------------------------------------------

    def _group(self, labels: Labels) -> IntArray:
        """Only labels of one group are compared: those on one device, and of one start if runs were measured
        or memory bounds the run, else in one stretch of units that the device may run."""
        alone = (self._measured | self._small)[labels.device]
        stretch = self._costs.earliest[labels.start + 1, labels.device]
        group = labels.device * (self._units + 1) + np.where(alone, labels.start, stretch)
        result: IntArray = 2 * group + (labels.used[:, -1] > 0.0)
        return result

    def _undominated(self, labels: Labels, group: IntArray, *, running: bool = False) -> BoolArray:
        """Which of ``labels`` no other of its group beats: one of equals is kept.

        While ``running`` an earlier start is better: its run can stop at more cuts.
        """
        count = len(labels)
        keep = np.zeros(count, dtype=bool)
        if not count:
            return keep
        keys = (labels.amounts[:, column] for column in (-1, *reversed(range(self._compared))))
        order = np.lexsort((*keys, group))
        # Whoever comes before is no worse in the order of resources: only fewer seconds than all of them
        # help, or more memory, a load, an earlier start.
        seconds, groups = labels.amounts[order, self._compared - 1] * self._bounded, group[order]
        used = [labels.used[order, :-1], labels.amounts[order, self._loads]]
        if running:
            used.append(labels.start[order, None].astype(np.float64))
        keep[order], work = best_in_order(seconds, groups, np.concatenate(used, axis=1))
        self._work += work
        return keep

    # --- reading plans off --------------------------------------------------------------------------------

    def _found(self, labels: Labels, index: int) -> Found:
        ends = np.cumsum([0, *(len(parents) for parents, *_ in self._history)])
        runs, codecs = [], [int(labels.start[index])]
        number, stop = int(labels.number[index]), self._units
        while number >= 0:
            block = int(np.searchsorted(ends, number, side="right")) - 1
            parents, devices, codec, cuts = self._history[block]
            place = number - int(ends[block])
            cut = int(cuts[place])
            runs.append((cut, stop, int(devices[place])))
            codecs.append(int(codec[place]))
            number, stop = int(parents[place]), cut
        route = Route(tuple(reversed(runs)), tuple(reversed(codecs)))
        amounts = labels.amounts[index].tolist()
        return Found(route, (*amounts[: self._compared], amounts[-1]), max(amounts[self._loads], default=0.0))
