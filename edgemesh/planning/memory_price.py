"""Prices of memory: what a byte of weights must cost on a crowded device for a path to leave it alone.

Lagrangian relaxation of the memory limits: with a price per byte on a device, the cheapest path minus the
price of the whole memory is a lower bound of every path that fits. The price at which the cheapest path
just fits gives the best bound; without it a search cannot see that a device will be full later on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgemesh.planning.instance import FloatArray, Instance
from edgemesh.planning.paths import Path, best_path, best_path_using, cost_of, ways_from_start
from edgemesh.planning.prediction import crowded_devices, memory_need
from edgemesh.planning.tables import Tables

ROUNDS: Final = 2
"""Prices of several devices depend on each other; a third round hardly moves them."""
DOUBLINGS: Final = 30
HALVINGS: Final = 7


@dataclass(frozen=True, eq=False)
class Prices:
    """Ticks per byte of weights, ``[D]``, and the best path within memory met on the way, if any."""

    per_byte: FloatArray
    path: Path | None


def memory_prices(instance: Instance, tracked: list[int], wanted: int | None) -> Prices:
    """Prices for the ``tracked`` devices by bisection, one device after the other.

    Any prices give a valid bound, so their precision is a matter of speed alone.
    """
    trial = _Trial(instance, wanted)
    per_byte = np.zeros(len(instance.devices))
    for _ in range(ROUNDS if len(tracked) > 1 else 1):
        for device in tracked:
            per_byte[device] = _best_price(trial, per_byte, device)
    return Prices(per_byte, trial.path)


def priced(tables: Tables, per_byte: FloatArray) -> Tables:
    """``tables`` whose runs also pay for their weights."""
    weights = tables.weights[:, None] - tables.weights[None, :]
    return dataclasses.replace(tables, run=tables.run + per_byte[None, :, None] * weights[:, None, :])


class _Trial:
    """Tries prices and remembers the best path that fits."""

    def __init__(self, instance: Instance, wanted: int | None) -> None:
        self._instance = instance
        self._wanted = wanted
        self._cost = complex(np.inf, 0.0)
        self.path: Path | None = None

    def excess(self, per_byte: FloatArray, device: int) -> float:
        """Bytes by which the cheapest path at these prices overfills ``device``; negative when it fits."""
        tables = self._instance.tables
        with_prices = priced(tables, per_byte)
        if self._wanted is None:
            path = best_path(with_prices)
        else:
            back = ways_from_start(with_prices.mirrored)
            path = best_path_using(self._wanted, ways_from_start(with_prices), back)
        assert path is not None, "prices are finite and change no path's feasibility"
        if not crowded_devices(self._instance, path.runs):
            cost = cost_of(tables, path)
            if (cost.real, cost.imag) < (self._cost.real, self._cost.imag):
                self._cost, self.path = cost, path
        need = memory_need(self._instance, path.runs, device)
        return need - self._instance.devices[device].memory_limit


def _best_price(trial: _Trial, per_byte: FloatArray, device: int) -> float:
    """The lowest price of ``device`` found at which the cheapest path leaves its memory alone."""

    def excess(price: float) -> float:
        prices = per_byte.copy()
        prices[device] = price
        return trial.excess(prices, device)

    low, high = 0.0, 1e-3
    if excess(low) <= 0.0:
        return low
    for _ in range(DOUBLINGS):
        if excess(high) <= 0.0:
            break
        low, high = high, high * 4.0
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if excess(middle) <= 0.0:
            high = middle
        else:
            low = middle
    return high
