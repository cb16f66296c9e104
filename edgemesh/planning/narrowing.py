"""What of an instance a better plan may use at all: some cuts and devices, numbered anew.

Two sweeps over one weighting bound every plan through a cut or a device from below. What cannot keep a limit
that a known plan sets is left out, exactly, so that all that follows is done on a small part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgemesh.planning.costs import Costs, IntArray, Route, Share
from edgemesh.planning.sweep import Steps, Values

SLACK = 1e-9
"""Relative: weighted sums are rounded, single resources are exact."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some cuts and devices of an instance, ascending."""

    costs: Costs
    cuts: IntArray
    devices: IntArray
    whole: Costs

    def share(self, share: Share) -> Share:
        """The same part of a resource of the whole."""
        if self.costs is self.whole:
            return share
        gateways = np.arange(self.whole.device_count, len(share.fixed))
        return share.at(self.cuts, np.concatenate((self.devices, gateways)))

    def place(self, device: int) -> int:
        """The number of a device here."""
        return int(np.searchsorted(self.devices, device))

    def widened(self, route: Route) -> Route:
        """A route by the numbers of the whole."""
        cuts, devices = self.cuts, self.devices
        runs = tuple((int(cuts[a]), int(cuts[b]), int(devices[d])) for a, b, d in route.runs)
        return Route(runs, route.codecs)


def all_of(costs: Costs) -> Part:
    """Nothing left out."""
    return Part(costs, np.arange(len(costs.weights)), np.arange(costs.device_count), costs)


def part_within(costs: Costs, steps: Steps, values: Values, back: Values, most: float) -> Part:
    """What plans use whose weighted sum is at most ``most``; ``values`` and ``back`` are of one weighting,
    forwards and of the mirror image."""
    most += abs(most) * SLACK
    live = (values.broker + back.broker[::-1]).min(axis=(1, 2)) <= most
    live[[0, -1]] = True
    through = (values.arrive + back.running[::-1] - steps.fixed).min(axis=(0, 2)) <= most
    if costs.requester < costs.device_count:
        through[costs.requester] = True
    if live.all() and through.all():
        return all_of(costs)
    cuts, devices = np.flatnonzero(live), np.flatnonzero(through)
    return Part(costs.at(cuts, devices), cuts, devices, costs)
