"""Holdings: what devices have loaded for plans, each counted once.

A device loads a range of units of one content once, for however many origins. Two ranges share nothing, even
where they overlap: each is an interpreter of its own with its own copy of the weights.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import NamedTuple

from edgemesh.planning.instance import Instance, Pin
from edgemesh.planning.plan import Plan


class Holding(NamedTuple):
    """All that one plan has loaded on one device."""

    device: str
    content: str
    ranges: tuple[tuple[int, int], ...]
    """Of units, as start and stop, in order."""


def holding(plan: Plan, device: str, content: str) -> Holding:
    """What ``plan`` for ``content`` has loaded on ``device``."""
    ranges = tuple((part.start, part.stop) for part in plan.partitions if part.device == device)
    return Holding(device, content, ranges)


def confined_to(instance: Instance, there: Holding) -> Instance:
    """``instance`` where the device of ``there`` runs just what it has loaded."""
    device = instance.indices[there.device]
    others = frozenset(range(len(instance.devices))) - {device}
    pins = [Pin(start, stop, frozenset({device})) for start, stop in there.ranges]
    edges = [0, *(edge for each in there.ranges for edge in each), instance.unit_count]
    pins += [Pin(start, stop, others) for start, stop in list(pairwise(edges))[::2] if start < stop]
    return dataclasses.replace(instance, pins=(*instance.pins, *pins))
