"""The cost model applied to one given plan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgemesh.planning.instance import Instance, PlanningDevice, Requester
from edgemesh.planning.paths import Path, Run
from edgemesh.planning.plan import Crossing, Hop, Infeasible, Partition, Plan, Prediction
from edgemesh.planning.tables import (
    TICKS,
    codec_ticks,
    down_ticks,
    entering_of,
    leaving_of,
    ticks,
    up_ticks,
)
from edgemesh.planning.wording import as_bytes


def predicted_latency(
    instance: Instance, partitions: Sequence[Partition], input_codec: str = "raw"
) -> Prediction | Infeasible:
    """What the given plan takes, or the first constraint that it breaks.

    ``partitions`` cover all units in order, and neighbours are on different devices. Devices are looked up
    by id, so a plan made for one instance can be evaluated on another.
    """
    _assert_covers(instance, partitions)
    for partition in partitions:
        refusal = _refusal(instance, partition)
        if refusal is not None:
            return refusal
    runs = [(part.start, part.stop, instance.indices[part.device]) for part in partitions]
    crowded = crowded_devices(instance, runs)
    if crowded:
        device = instance.devices[crowded[0]]
        need = memory_need(instance, runs, crowded[0])
        return Infeasible(
            "memory", f"{device.id} would need {as_bytes(need)} and has {as_bytes(device.memory_limit)}"
        )
    return _prediction(instance, partitions, runs, input_codec)


def plan_of(instance: Instance, path: Path, *, proven: bool = True) -> Plan:
    """The plan of a feasible ``path``; the best codecs at both ends are added."""
    units, requester, runs = instance.unit_count, instance.requester, path.runs
    first, last = instance.devices[runs[0][2]], instance.devices[runs[-1][2]]
    input_codec = output_codec = 0
    if first is not requester:
        input_codec = int((leaving_of(instance, requester) + entering_of(instance, first))[0].argmin())
    if last is not requester:
        output_codec = int((leaving_of(instance, last) + entering_of(instance, requester))[units].argmin())
    partitions = tuple(
        Partition(start, stop, instance.devices[device].id, instance.codecs[codec])
        for (start, stop, device), codec in zip(runs, (*path.codecs, output_codec), strict=True)
    )
    prediction = predicted_latency(instance, partitions, instance.codecs[input_codec])
    assert isinstance(prediction, Prediction), prediction.reason
    return Plan(partitions, instance.codecs[input_codec], prediction, proven)


def memory_need(instance: Instance, runs: Sequence[Run], device: int) -> float:
    """Bytes that ``device`` needs for its ``runs``: all their weights and the largest peak of activations."""
    tables = instance.tables
    own = [(start, stop) for start, stop, used in runs if used == device]
    weights = sum(tables.weights[stop] - tables.weights[start] for start, stop in own)
    return float(weights + max((tables.peak[stop, start] for start, stop in own), default=0.0))


def crowded_devices(instance: Instance, runs: Sequence[Run]) -> list[int]:
    """Devices whose memory the ``runs`` exceed, by index."""
    used = sorted({device for _, _, device in runs})
    return [d for d in used if memory_need(instance, runs, d) > instance.devices[d].memory_limit]


def _assert_covers(instance: Instance, partitions: Sequence[Partition]) -> None:
    assert partitions and partitions[0].start == 0 and partitions[-1].stop == instance.unit_count
    for before, after in pairwise(partitions):
        assert before.stop == after.start and before.device != after.device, (before, after)
    assert all(partition.start < partition.stop for partition in partitions)


def _refusal(instance: Instance, partition: Partition) -> Infeasible | None:
    index = instance.indices.get(partition.device)
    if index is None:
        return Infeasible("unavailable", f"{partition.device} is gone")
    device = instance.devices[index]
    if device.unavailable:
        return Infeasible("unavailable", f"{device.id} {device.unavailable}")
    if index in instance.excluded:
        return Infeasible("excluded", f"{device.id} is excluded")
    for unit in range(partition.start, partition.stop):
        name = f"unit {unit} '{instance.unit_names[unit]}'"
        if not np.isfinite(device.seconds[unit]):
            return Infeasible("incapable", f"{device.id} cannot run {name}")
        if not instance.pinned[index, unit]:
            return Infeasible("pinned", f"{name} is pinned to other devices than {device.id}")
    return None


def _prediction(
    instance: Instance, partitions: Sequence[Partition], runs: Sequence[Run], input_codec: str
) -> Prediction | Infeasible:
    requester = instance.requester
    places = [requester, *(instance.devices[device] for _, _, device in runs), requester]
    codecs = [input_codec, *(partition.codec for partition in partitions)]
    cuts = [0, *(stop for _, stop, _ in runs)]
    crossings: list[Crossing | None] = []
    for cut, codec, (sender, receiver) in zip(cuts, codecs, pairwise(places), strict=True):
        if sender is receiver:
            crossings.append(None)
            continue
        crossing = None
        if codec in instance.codecs:
            crossing = _crossing(instance, cut, instance.codecs.index(codec), sender, receiver)
        if crossing is None or not np.isfinite(crossing.seconds):
            return Infeasible(
                "unreachable",
                f"{_name(instance, sender)} cannot send cut {cut} under codec {codec} to "
                f"{_name(instance, receiver)}",
            )
        crossings.append(crossing)
    hops = []
    for partition, arrival, (start, stop, device) in zip(partitions, crossings, runs, strict=False):
        queue = float(ticks(instance.devices[device].queue_seconds))
        run = float(instance.tables.run[stop, device, start]) - queue
        if not np.isfinite(run):
            return Infeasible(
                "incapable", f"{partition.device} cannot run units {start} to {stop - 1} in one go"
            )
        hops.append(Hop(partition, arrival, queue / TICKS, run / TICKS))
    total = sum(round(hop.seconds * TICKS) for hop in hops)
    result = crossings[-1]
    total += round(result.seconds * TICKS) if result else 0
    return Prediction(tuple(hops), result, total / TICKS)


def _crossing(
    instance: Instance,
    cut: int,
    codec: int,
    sender: PlanningDevice | Requester,
    receiver: PlanningDevice | Requester,
) -> Crossing:
    allowed = bool(instance.codec_allowed[cut, codec])
    return Crossing(
        cut=cut,
        sender=_name(instance, sender),
        receiver=_name(instance, receiver),
        codec=instance.codecs[codec],
        nbytes=int(instance.cut_bytes[cut, codec]),
        encode=float(codec_ticks(instance, sender.encode)[cut, codec]) / TICKS if allowed else float("inf"),
        up=float(up_ticks(instance, sender)[cut, codec]) / TICKS,
        broker=float(ticks(instance.broker_seconds)) / TICKS,
        down=float(down_ticks(instance, receiver)[cut, codec]) / TICKS,
        decode=float(codec_ticks(instance, receiver.decode)[cut, codec]) / TICKS,
    )


def _name(instance: Instance, place: PlanningDevice | Requester) -> str:
    return place.id if isinstance(place, PlanningDevice) else instance.origin_name
