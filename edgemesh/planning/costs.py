"""The cost model of one instance: seconds, joules and money of each step, as exact numbers.

Every cost is a whole number of ticks below 2**53 in a float, so sums are exact, do not depend on the order of
adding, and two plans tie exactly or not at all. The run ``[start, stop)`` on a device costs
``fixed + before[stop] - before[start]`` unless its times were measured run by run; a cut crossed between two
participants costs leaving the one plus entering the other (star model).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgemesh.planning.instance import Instance

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
Run = tuple[int, int, int]
"""Start, stop, device index."""

TICKS: Final = 1e9
"""Ticks per second, and per joule: one watt for one tick of time is one tick of energy."""
MONEY_TICKS: Final = 1e12
"""Ticks per unit of money: milliseconds of a rented machine cost some 1e-7."""
PARTITION: Final = 2.0**43
"""Tie-breaking weight of a partition: more than any route's bytes (8.8 TB); 1023 partitions stay exact."""


@dataclass(frozen=True)
class Route:
    """One plan by indices."""

    runs: tuple[Run, ...]
    codecs: tuple[int, ...]
    """Of the input, between the runs, and of the output: one more than runs; 0 where nothing is sent."""


@dataclass(frozen=True, eq=False)
class Share:
    """One resource of all steps, in ticks: ``C = U + 1`` cuts, ``P`` participants, ``K`` codecs.

    Participants are the devices by index and, when inputs arise on a topic, the gateway's side as the last.
    """

    before: FloatArray
    """``[C, P]``: of all units before a cut in one run."""
    fixed: FloatArray
    """``[P]``: of a run beside its units; infinite for whoever may run nothing."""
    leave: FloatArray
    """``[C, P, K]``: from the end of a run to the broker; infinite where the codec is not allowed or
    known."""
    enter: FloatArray
    """``[C, P, K]``: from the broker to the start of waiting; infinite where the codec is not known."""
    runs: dict[int, FloatArray]
    """By device, ``[C, C]`` by stop and start, where runs were measured; ``before`` is 0 then."""

    def at(self, cuts: IntArray, sides: IntArray | None = None) -> Share:
        """As in ``Costs.at``, by participants."""
        runs = {device: run[np.ix_(cuts, cuts)] for device, run in self.runs.items()}
        if sides is None:
            return Share(self.before[cuts], self.fixed, self.leave[cuts], self.enter[cuts], runs)
        at = np.ix_(cuts, sides)
        runs = {number: runs[device] for number, device in enumerate(sides.tolist()) if device in runs}
        return Share(self.before[at], self.fixed[sides], self.leave[at], self.enter[at], runs)

    def run(self, start: int, stop: int, device: int) -> float:
        """One run, infinite where the device may run nothing; whether these units fit is not looked at."""
        if device in self.runs:
            return float(self.runs[device][stop, start] + self.fixed[device])
        return float(self.fixed[device] + self.before[stop, device] - self.before[start, device])


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of one instance."""

    instance: Instance
    seconds: Share
    """Waiting is in ``fixed``, the broker's own time in ``enter``."""
    weights: FloatArray
    """``[C]``: bytes of weights of all units before a cut."""
    peak: FloatArray
    """``[C, C]`` by stop, start: largest peak of activations of the units in between, in bytes."""
    earliest: IntArray
    """``[C, D]``: the earliest start of a run that ends at the cut; the cut itself where there is none, and 0
    for whoever may run nothing, which ``fixed`` says."""
    confined: tuple[int, ...]
    """Devices where two runs in a row could do what one may not: too little memory for the whole model, or
    runs measured one by one. Nobody may follow itself there; elsewhere it never pays."""
    sizes: FloatArray
    """``[C, K]``: bytes of a cut under a codec."""
    limits: FloatArray
    """``[D]``: bytes of memory."""
    requester: int
    """The participant that sends the input and gets the output."""

    @property
    def device_count(self) -> int:
        """``D``."""
        return len(self.limits)

    def at(self, cuts: IntArray, devices: IntArray | None = None) -> Costs:
        """Where only some ``cuts``, the first and the last among them, may be crossed.

        With ``devices``, the requester among them if it is a device, those are left, in that order.
        """
        earliest = np.searchsorted(cuts, self.earliest[cuts])
        peak, sides, limits = self.peak[np.ix_(cuts, cuts)], None, self.limits
        requester, confined = self.requester, self.confined
        if devices is not None:
            sides = np.concatenate((devices, np.arange(len(limits), len(self.seconds.fixed))))
            earliest, limits = earliest[:, devices], limits[devices]
            place = {device: number for number, device in enumerate(sides.tolist())}
            requester = place[requester]
            confined = tuple(place[device] for device in confined if device in place)
        thin = Costs(
            self.instance, self.seconds.at(cuts, sides), self.weights[cuts], peak, earliest, confined,
            self.sizes[cuts], limits, requester,
        )  # fmt: skip
        # Cached properties may be set beforehand; what they would be made of here is the whole instance.
        for name in ("joules", "money"):
            if name in self.__dict__:
                thin.__dict__[name] = getattr(self, name).at(cuts, sides)
        return thin

    def amounts(self, shares: Sequence[Share], route: Route) -> tuple[float, ...]:
        """Ticks of each of ``shares`` for a whole plan."""
        requester, runs, codecs = self.requester, route.runs, route.codecs
        places = [requester, *(device for _, _, device in runs), requester]
        cuts = [*(start for start, _, _ in runs), runs[-1][1]]
        return tuple(
            sum(share.run(*run) for run in runs)
            + sum(
                float(share.leave[cut, sender, codec] + share.enter[cut, receiver, codec])
                for cut, sender, receiver, codec in zip(cuts, places[:-1], places[1:], codecs, strict=True)
                if sender != receiver
            )
            for share in shares
        )

    @cached_property
    def joules(self) -> Share:
        """Weighted joules above idle: busy watts while running or with a codec, radio watts on air."""
        instance = self.instance
        sides = instance.participants
        weight = _column(sides, "energy_weight")
        busy, radio = _column(sides, "busy_watts") * weight, _column(sides, "radio_watts") * weight
        return self._share(busy, radio[:, None] * airtime_ticks(instance, sides, "rate_up"),
                           radio[:, None] * airtime_ticks(instance, sides, "rate_down"))  # fmt: skip

    @cached_property
    def money(self) -> Share:
        """Money for the time of running and codecs, and for bytes in and out."""
        sides = self.instance.participants
        per_tick = _column(sides, "price_per_second") * (MONEY_TICKS / TICKS)
        moved = (_column(sides, "price_per_byte") * MONEY_TICKS)[:, None] * self.instance.cut_bytes[
            :, None, :
        ]
        return self._share(per_tick, moved, moved)

    @cached_property
    def coding(self) -> tuple[FloatArray, FloatArray]:
        """``[C, P, K]`` each: ticks of encoding and of decoding."""
        sides = self.instance.participants
        return codec_ticks(self.instance, sides, "encode"), codec_ticks(self.instance, sides, "decode")

    @property
    def _nothing(self) -> Share:
        """What costs nothing, where it is possible."""
        leave, enter, fixed = (
            np.where(np.isfinite(times), 0.0, np.inf)
            for times in (self.seconds.leave, self.seconds.enter, self.seconds.fixed)
        )
        runs = {d: np.where(np.isfinite(times), 0.0, np.inf) for d, times in self.seconds.runs.items()}
        return Share(np.zeros(self.seconds.before.shape), fixed, leave, enter, runs)

    def room(self, per_byte: FloatArray) -> Share:
        """What weights cost at a price ``per_byte`` (``[D]``) of each device's memory."""
        prices = np.zeros(len(self.seconds.fixed))
        prices[: len(per_byte)] = per_byte
        nothing = np.zeros(self.seconds.leave.shape)
        weights = self.weights[:, None] - self.weights[None, :]
        runs = {device: weights * prices[device] for device in self.seconds.runs}
        before = self.weights[:, None] * prices
        before[:, list(runs)] = 0.0
        return Share(before, np.zeros(len(prices)), nothing, nothing, runs)

    def _share(self, per_tick: FloatArray, sent: Any, received: Any) -> Share:
        """What costs ``per_tick`` (``[P]``) of computing, ``sent`` and ``received`` (``[C, P, K]``)."""
        instance, seconds = self.instance, self.seconds
        if not (per_tick.any() or np.any(sent) or np.any(received)):
            return self._nothing
        ends = [
            np.where(np.isfinite(times), np.rint(per_tick[:, None] * codec + moved), np.inf)
            for times, codec, moved in zip(
                (seconds.leave, seconds.enter), self.coding, (sent, received), strict=True
            )
        ]
        fixed, before = overhead_ticks(instance), seconds.before
        fixed = np.where(np.isfinite(seconds.fixed), np.rint(per_tick * fixed), np.inf)
        runs = {
            device: np.where(np.isfinite(times), np.rint(per_tick[device] * _finite(times)), np.inf)
            for device, times in seconds.runs.items()
        }
        return Share(np.rint(per_tick * before), fixed, ends[0], ends[1], runs)


def bound_ticks(seconds: float) -> float:
    """The most whole ticks within ``seconds``; a bound that was made by multiplying is taken as meant."""
    return math.floor(seconds * TICKS + 1e-3)


def ticks(seconds: Any) -> Any:
    """Whole ticks of ``seconds`` (scalar or array); infinite stays infinite."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * TICKS)


def costs_of(instance: Instance) -> Costs:
    """Cost ``O(U * D * K)``, and ``O(U^2)`` for each device that cannot hold the whole model."""
    sides, count = instance.participants, len(instance.devices)
    weights = np.concatenate(([0.0], np.cumsum(instance.weight_bytes)))
    peak = _peaks(instance.peak_bytes)
    links = [side.link for side in sides]
    sizes = instance.cut_bytes[:, None, :]
    up = ticks(_column(links, "latency_up")[:, None] + sizes / _column(links, "rate_up")[:, None])
    down = ticks(_column(links, "latency_down")[:, None] + sizes / _column(links, "rate_down")[:, None])
    coding = codec_ticks(instance, sides, "encode"), codec_ticks(instance, sides, "decode")
    leave = up + coding[0]
    enter = down + (coding[1] + ticks(instance.broker_seconds))
    leave[:, ~_known(instance, sides, "encode")] = np.inf
    enter[:, ~_known(instance, sides, "decode")] = np.inf
    leave.transpose(0, 2, 1)[~instance.codec_allowed] = np.inf
    may_run = instance.may_run
    before = np.zeros((instance.unit_count + 1, len(sides)))
    seconds = np.where(may_run, np.array([device.seconds for device in instance.devices]), 0.0)
    factors = _column(instance.devices, "run_factor")
    before[1:, :count] = ticks(np.cumsum(seconds * factors[:, None], axis=1)).T
    fixed = overhead_ticks(instance)
    fixed[:count] += ticks(_column(instance.devices, "queue_seconds"))
    fixed[:count][~may_run.any(axis=1)] = np.inf
    fixed[count:] = np.inf
    runs = {}
    for index, device in enumerate(instance.devices):
        if device.runs is not None:
            runs[index] = ticks(device.runs).T
            before[:, index] = 0.0
    earliest, small = _earliest(instance, weights, peak)
    share = Share(before, fixed, leave, enter, runs)
    requester = instance.origin if isinstance(instance.origin, int) else count
    costs = Costs(
        instance, share, weights, peak, earliest, tuple(sorted({*small, *runs})), instance.cut_bytes,
        _column(instance.devices, "memory_limit"), requester,
    )  # fmt: skip
    costs.__dict__["coding"] = coding  # a cached property, at hand already
    return costs


def overhead_ticks(instance: Instance) -> FloatArray:
    """``[P]``: of one run beside its units, waiting left aside."""
    overhead = np.zeros(len(instance.participants))
    overhead[: len(instance.devices)] = ticks(
        [0.0 if device.runs is not None else device.run_overhead for device in instance.devices]
    )
    return overhead


def airtime_ticks(instance: Instance, sides: Any, rate: str) -> FloatArray:
    """``[C, P, K]``: how long each cut keeps a link's direction busy."""
    rates = _column([side.link for side in sides], rate)
    return ticks(instance.cut_bytes[:, None, :] / rates[:, None])  # type: ignore[no-any-return]


def codec_ticks(instance: Instance, sides: Any, way: str) -> FloatArray:
    """``[C, P, K]``: encoding or decoding (``way``) each cut's raw bytes; 0 under a codec that is not
    known."""
    per_byte = _per_byte(instance, sides, way)
    # An empty tensor under a codec that is not known would be 0 * inf: not a number.
    return ticks(instance.cut_bytes[:, None, :1] * _finite(per_byte))  # type: ignore[no-any-return]


def _known(instance: Instance, sides: Any, way: str) -> npt.NDArray[np.bool_]:
    return np.isfinite(_per_byte(instance, sides, way))


def _per_byte(instance: Instance, sides: Any, way: str) -> FloatArray:
    nothing = (0.0,) * len(instance.codecs)
    return np.array([getattr(side, way) or nothing for side in sides])


def _finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, 0.0)


def _column(items: Any, name: str) -> FloatArray:
    return np.array([getattr(item, name, 0.0) for item in items], dtype=np.float64)


def _earliest(instance: Instance, weights: FloatArray, peak: FloatArray) -> tuple[IntArray, list[int]]:
    """``Costs.earliest``, and the devices that cannot hold the whole model."""
    may_run = instance.may_run
    units = instance.unit_count
    earliest = np.zeros((units + 1, len(instance.devices)), dtype=np.intp)
    if not may_run.all():
        after = np.where(may_run, 0, np.arange(1, units + 1))
        after[~may_run.any(axis=1)] = 0
        earliest[1:] = np.maximum.accumulate(after, axis=1).T
    limits = _column(instance.devices, "memory_limit")
    small = np.flatnonzero((limits < weights[-1] + peak[-1, 0]) & may_run.any(axis=1))
    if small.size:
        # Needs fall with the start, so the starts that need too much are the first ones: bisection.
        stop = np.arange(units + 1)[:, None]
        low = np.zeros((units + 1, len(small)), dtype=np.intp)
        high = np.repeat(stop, len(small), axis=1)
        while (low < high).any():
            middle = (low + high) // 2
            too_much = weights[stop] - weights[middle] + peak[stop, middle] > limits[small]
            too_much &= low < high
            low = np.where(too_much, middle + 1, low)
            high = np.where(too_much, high, middle)
        earliest[:, small] = np.maximum(earliest[:, small], low)
    return earliest, small.tolist()


def _peaks(peak_bytes: FloatArray) -> FloatArray:
    """``[C, C]`` by stop, start."""
    edges = len(peak_bytes) + 1
    grown = np.zeros((edges, edges))
    grown[1:, :-1] = np.where(np.tri(edges - 1, dtype=bool), peak_bytes[:, None], 0.0)
    result: FloatArray = np.maximum.accumulate(grown, axis=0)
    return result
