"""The cost model of one instance as arrays of exact numbers.

A cost is a complex number. Its real part counts ticks of a nanosecond; its imaginary part breaks ties:
``PARTITION`` for each partition plus the bytes sent. Both are whole numbers below 2**53, so sums are exact,
do not depend on the order of adding, and two plans tie exactly or not at all. NumPy orders complex numbers by
real and then imaginary part, which is the order wanted: faster, then fewer partitions, then fewer bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgemesh.planning.instance import Instance, PlanningDevice, Requester

CostArray = npt.NDArray[np.complex128]
FloatArray = npt.NDArray[np.float64]

TICKS = 1e9
"""Ticks per second."""
PARTITION = 2.0**43
"""Tie-breaking weight of a partition: more than any route's bytes (8.8 TB); 1023 partitions stay exact."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Costs of one instance: ``D`` devices, ``U`` units, ``K`` codecs."""

    run: FloatArray
    """``[U + 1, D, U + 1]`` by stop, device, start: ticks to wait and run; infinite where impossible."""
    leave: CostArray
    """``[U + 1, D, K]``: from the end of a run to the broker, encoding included; counts the bytes."""
    enter: CostArray
    """``[U + 1, D, K]``: from the broker to the start of waiting, decoding included; counts a partition."""
    first: CostArray
    """``[D]``: from the origin to a first run; counts its partition."""
    last: CostArray
    """``[D]``: from a last run back to the origin."""
    peak: FloatArray
    """``[U + 1, U + 1]`` by stop, start: largest peak of activations of the units in between, in bytes."""
    weights: FloatArray
    """``[U + 1]``: bytes of weights of all units before a cut."""

    @property
    def mirrored(self) -> Tables:
        """The same instance run backwards: its ways from the start are this one's ways to the end."""
        return Tables(
            run=np.ascontiguousarray(self.run.transpose(2, 1, 0)[::-1, :, ::-1]),
            leave=self.enter[::-1],
            enter=self.leave[::-1],
            first=self.last,
            last=self.first,
            peak=self.peak,
            weights=self.weights,
        )


def ticks(seconds: Any) -> Any:
    """Whole ticks of ``seconds`` (scalar or array); infinite stays infinite."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * TICKS)


def tables_of(instance: Instance) -> Tables:
    """Cost ``O(U^2 * D + U * D * K)``."""
    peak = _peaks(instance.peak_bytes)
    weights = np.concatenate(([0.0], np.cumsum(instance.weight_bytes)))
    leave = np.stack([leaving_of(instance, device) for device in instance.devices], axis=1)
    enter = np.stack([entering_of(instance, device) for device in instance.devices], axis=1)
    units = instance.unit_count
    first = (leaving_of(instance, instance.requester)[0] + enter[0]).min(axis=1)
    last = (leave[units] + entering_of(instance, instance.requester)[units]).min(axis=1)
    last.imag -= PARTITION  # the requester's own side is no partition
    if isinstance(instance.origin, int):
        first[instance.origin] = complex(0.0, PARTITION)
        last[instance.origin] = 0.0
    return Tables(_runs(instance, peak, weights), leave, enter, first, last, peak, weights)


def leaving_of(instance: Instance, sender: PlanningDevice | Requester) -> CostArray:
    """``[U + 1, K]``: what sending each cut under each codec costs ``sender``, as in ``Tables.leave``."""
    cost = np.zeros(instance.cut_bytes.shape, dtype=np.complex128)
    cost.real = codec_ticks(instance, sender.encode) + up_ticks(instance, sender)
    cost.real[~instance.codec_allowed] = np.inf
    cost.imag = instance.cut_bytes
    return cost


def entering_of(instance: Instance, receiver: PlanningDevice | Requester) -> CostArray:
    """``[U + 1, K]``: what receiving each cut under each codec costs ``receiver``, as in ``Tables.enter``."""
    cost = np.zeros(instance.cut_bytes.shape, dtype=np.complex128)
    cost.real = codec_ticks(instance, receiver.decode) + down_ticks(instance, receiver)
    cost.real += ticks(instance.broker_seconds)
    cost.imag = PARTITION
    return cost


def up_ticks(instance: Instance, sender: PlanningDevice | Requester) -> FloatArray:
    """``[U + 1, K]``: from ``sender`` to the broker."""
    link = sender.link
    return ticks(link.latency_up + instance.cut_bytes / link.rate_up)  # type: ignore[no-any-return]


def down_ticks(instance: Instance, receiver: PlanningDevice | Requester) -> FloatArray:
    """``[U + 1, K]``: from the broker to ``receiver``."""
    link = receiver.link
    return ticks(link.latency_down + instance.cut_bytes / link.rate_down)  # type: ignore[no-any-return]


def codec_ticks(instance: Instance, seconds_per_byte: tuple[float, ...]) -> FloatArray:
    """``[U + 1, K]``: encoding or decoding each cut's raw bytes."""
    per_byte = np.array(seconds_per_byte or (0.0,) * len(instance.codecs))
    known = np.isfinite(per_byte)
    # An empty tensor under a codec the device lacks would be 0 * inf: not a number.
    cost: FloatArray = ticks(instance.cut_bytes[:, :1] * np.where(known, per_byte, 0.0))
    cost[:, ~known] = np.inf
    return cost


def _runs(instance: Instance, peak: FloatArray, weights: FloatArray) -> FloatArray:
    may_run = instance.may_run
    seconds = np.where(may_run, np.array([device.seconds for device in instance.devices]), 0.0)
    factors = np.array([device.run_factor for device in instance.devices])
    edges = instance.unit_count + 1
    before = np.zeros((edges, len(instance.devices)))
    before[1:] = ticks(np.cumsum(seconds * factors[:, None], axis=1)).T
    fixed = ticks([device.run_overhead for device in instance.devices])
    run: FloatArray = (before + fixed)[:, :, None] - before.T[None]
    for index, device in enumerate(instance.devices):
        if device.runs is not None:
            run[:, index, :] = ticks(device.runs).T
    queue = ticks([device.queue_seconds for device in instance.devices])
    if queue.any():
        run += queue[:, None]
    if not may_run.all():
        refused = np.zeros(before.shape)
        refused[1:] = np.cumsum(~may_run, axis=1).T
        np.copyto(run, np.inf, where=refused[:, :, None] != refused.T[None])
    for index, device in enumerate(instance.devices):
        if device.memory_limit < weights[-1] + peak[-1, 0]:
            need = weights[:, None] - weights[None, :] + peak
            run[:, index, :][need > device.memory_limit] = np.inf
    for stop in range(edges):
        run[stop, :, stop:] = np.inf
    return run


def _peaks(peak_bytes: FloatArray) -> FloatArray:
    edges = len(peak_bytes) + 1
    peak = np.zeros((edges, edges))
    for stop in range(1, edges):
        np.maximum(peak[stop - 1, :stop], peak_bytes[stop - 1], out=peak[stop, :stop])
    return peak
