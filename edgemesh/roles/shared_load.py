"""Shared load: what the assignments of other models and origins leave of the devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from edgemesh.planning.holdings import Holding, holding
from edgemesh.planning.plan import Plan
from edgemesh.planning.queueing import mean_wait
from edgemesh.roles.instances import OtherWork
from edgemesh.roles.switching import InForce

Key = tuple[str, str]


def other_work(
    key: Key, digest: str, in_force: Mapping[Key, InForce], demand: Mapping[Key, float]
) -> OtherWork:
    """What plans other than that of ``key`` (content ``digest``) take; ``demand`` in jobs per second."""
    held: dict[Holding, float] = {}
    plans = []
    for other, entry in in_force.items():
        if other == key:
            continue
        plans.append((entry.plan, demand.get(other, 0.0)))
        if entry.manifest.digest == digest:
            continue  # the same content for another origin mostly shares what is loaded: it counts once
        for device, nbytes in entry.memory.items():
            held[holding(entry.plan, device, entry.manifest.digest)] = nbytes
    memory: defaultdict[str, float] = defaultdict(float)
    for there, nbytes in held.items():
        memory[there.device] += nbytes
    return OtherWork(memory, waiting_seconds(plans))


def waiting_seconds(plans: Iterable[tuple[Plan, float]]) -> dict[str, float]:
    """Mean seconds that a job finds the devices occupied by jobs of ``plans``, each with jobs per second."""
    load: defaultdict[str, float] = defaultdict(float)
    squares: defaultdict[str, float] = defaultdict(float)
    for plan, rate in plans:
        for hop in plan.prediction.hops:
            load[hop.partition.device] += rate * hop.run
            squares[hop.partition.device] += rate * hop.run**2
    return {device: mean_wait(busy, squares[device]) for device, busy in load.items()}
