"""The cost model of one instance as arrays of exact numbers.

A cost is a complex number. Its real part counts ticks of a nanosecond; its imaginary part breaks ties:
``PARTITION`` for each partition plus the bytes sent. Both are whole numbers below 2**53, so sums are exact,
do not depend on the order of adding, and two plans tie exactly or not at all. NumPy orders complex numbers by
real and then imaginary part, which is the order wanted: faster, then fewer partitions, then fewer bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import PARTITION, Costs

if TYPE_CHECKING:
    from edgemesh.planning.instance import Instance

CostArray = npt.NDArray[np.complex128]
FloatArray = npt.NDArray[np.float64]


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


def tables_of(instance: Instance) -> Tables:
    """Cost ``O(U^2 * D + U * D * K)``."""
    costs, count = instance.costs, len(instance.devices)
    leave = costs.seconds.leave + 1j * instance.cut_bytes[:, None, :]
    enter = costs.seconds.enter + 1j * PARTITION
    first = (leave[0, costs.requester] + enter[0, :count]).min(axis=1)
    # The requester's own side is no partition.
    last = (leave[-1, :count] + (enter[-1, costs.requester] - 1j * PARTITION)).min(axis=1)
    if costs.requester < count:
        first[costs.requester] = complex(0.0, PARTITION)
        last[costs.requester] = 0.0
    return Tables(_runs(costs), leave[:, :count], enter[:, :count], first, last, costs.peak, costs.weights)


def _runs(costs: Costs) -> FloatArray:
    count = len(costs.instance.devices)
    before, fixed = costs.seconds.before[:, :count], costs.seconds.fixed[:count]
    run: FloatArray = (before + fixed)[:, :, None] - before.T[None]
    for device, measured in costs.seconds.runs.items():
        run[:, device, :] = measured + fixed[device]
    starts = np.arange(len(before))
    for stop in range(len(before)):
        run[stop][(starts >= stop) | (starts < costs.earliest[stop][:, None])] = np.inf
    return run
