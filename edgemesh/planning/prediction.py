"""The cost model applied to one given plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgemesh.planning.costs import MONEY_TICKS, TICKS, Costs, FloatArray, Route, Run, Share, ticks
from edgemesh.planning.instance import Instance
from edgemesh.planning.paths import Path
from edgemesh.planning.plan import Crossing, Hop, Infeasible, Partition, Plan, Prediction
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
    """The plan of a feasible ``path``; the codecs of least latency at both ends are added."""
    units, requester, costs = instance.unit_count, instance.costs.requester, instance.costs.seconds
    first, last = path.runs[0][2], path.runs[-1][2]
    input_codec = output_codec = 0
    if first != requester:
        input_codec = _quickest(costs.leave[0, requester] + costs.enter[0, first], instance.cut_bytes[0])
    if last != requester:
        output_codec = _quickest(
            costs.leave[units, last] + costs.enter[units, requester], instance.cut_bytes[units]
        )
    return plan_of_route(instance, Route(path.runs, (input_codec, *path.codecs, output_codec)), proven=proven)


def plan_of_route(
    instance: Instance, route: Route, *, proven: bool = True, bound: float | None = None
) -> Plan:
    """The plan of a feasible ``route``."""
    input_codec, *codecs = (instance.codecs[codec] for codec in route.codecs)
    partitions = tuple(
        Partition(start, stop, instance.devices[device].id, codec)
        for (start, stop, device), codec in zip(route.runs, codecs, strict=True)
    )
    prediction = predicted_latency(instance, partitions, input_codec)
    assert isinstance(prediction, Prediction), prediction.reason
    return Plan(partitions, input_codec, prediction, proven, bound)


def route_of_plan(instance: Instance, plan: Plan) -> Route:
    """``plan`` by the indices of ``instance``, for which it is feasible."""
    runs = tuple((part.start, part.stop, instance.indices[part.device]) for part in plan.partitions)
    codecs = (plan.input_codec, *(part.codec for part in plan.partitions))
    return Route(runs, tuple(instance.codecs.index(codec) for codec in codecs))


def _quickest(seconds: FloatArray, nbytes: FloatArray) -> int:
    return int(np.lexsort((nbytes, seconds))[0])


def memory_need(instance: Instance, runs: Sequence[Run], device: int) -> float:
    """Bytes that ``device`` needs for its ``runs``: all their weights and the largest peak of activations."""
    costs = instance.costs
    own = [(start, stop) for start, stop, used in runs if used == device]
    weights = sum(float(costs.weights[stop] - costs.weights[start]) for start, stop in own)
    return weights + max((float(costs.peak[stop, start]) for start, stop in own), default=0.0)


def crowded_devices(instance: Instance, runs: Sequence[Run]) -> list[int]:
    """Devices whose memory the ``runs`` exceed, by index."""
    used = sorted({device for _, _, device in runs})
    return [d for d in used if memory_need(instance, runs, d) > instance.devices[d].memory_limit]


def can_hold(instance: Instance, route: Route) -> bool:
    """Whether a route of possible steps is a plan: it fits all memories, and no device follows itself."""
    alone = all(one[2] != other[2] for one, other in pairwise(route.runs))
    return alone and not crowded_devices(instance, route.runs)


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
    units = slice(partition.start, partition.stop)
    able, free = np.isfinite(device.seconds[units]), instance.pinned[index, units]
    if not (able & free).all():
        unit = partition.start + int((able & free).argmin())
        name = f"unit {unit} '{instance.unit_names[unit]}'"
        if not np.isfinite(device.seconds[unit]):
            return Infeasible("incapable", f"{device.id} cannot run {name}")
        return Infeasible("pinned", f"{name} is pinned to other devices than {device.id}")
    return None


def _prediction(
    instance: Instance, partitions: Sequence[Partition], runs: Sequence[Run], input_codec: str
) -> Prediction | Infeasible:
    costs = instance.costs
    places = [costs.requester, *(device for _, _, device in runs), costs.requester]
    codecs = [input_codec, *(partition.codec for partition in partitions)]
    cuts = [0, *(stop for _, stop, _ in runs)]
    loads: defaultdict[tuple[str, int], float] = defaultdict(float)
    crossings: list[Crossing | None] = []
    for cut, codec, (sender, receiver) in zip(cuts, codecs, pairwise(places), strict=True):
        if sender == receiver:
            crossings.append(None)
            continue
        if codec not in instance.codecs or not _passable(
            costs, cut, instance.codecs.index(codec), sender, receiver
        ):
            return Infeasible(
                "unreachable",
                f"{_name(instance, sender)} cannot send cut {cut} under codec {codec} to "
                f"{_name(instance, receiver)}",
            )
        crossings.append(_crossing(instance, cut, instance.codecs.index(codec), sender, receiver, loads))
    hops = []
    for partition, arrival, (start, stop, device) in zip(partitions, crossings, runs, strict=False):
        queue = float(ticks(instance.devices[device].queue_seconds))
        run = costs.seconds.run(start, stop, device) - queue
        if not np.isfinite(run):
            return Infeasible(
                "incapable", f"{partition.device} cannot run units {start} to {stop - 1} in one go"
            )
        loads["computing", device] += run
        joules = costs.joules.run(start, stop, device) / TICKS
        money = costs.money.run(start, stop, device) / MONEY_TICKS
        hops.append(Hop(partition, arrival, queue / TICKS, run / TICKS, joules, money))
    steps: list[Hop | Crossing] = [*hops, *(crossing for crossing in crossings if crossing is not None)]
    return Prediction(
        tuple(hops),
        crossings[-1],
        (sum(round(hop.seconds * TICKS) for hop in hops) + _ticks_of(crossings[-1])) / TICKS,
        sum(round(step.joules * TICKS) for step in steps) / TICKS,
        sum(round(step.money * MONEY_TICKS) for step in steps) / MONEY_TICKS,
        max(loads.values()) / TICKS,
    )


def _ticks_of(result: Crossing | None) -> int:
    return round(result.seconds * TICKS) if result is not None else 0


def _passable(costs: Costs, cut: int, codec: int, sender: int, receiver: int) -> bool:
    seconds = costs.seconds
    return bool(np.isfinite(seconds.leave[cut, sender, codec] + seconds.enter[cut, receiver, codec]))


def _crossing(
    instance: Instance,
    cut: int,
    codec: int,
    sender: int,
    receiver: int,
    loads: defaultdict[tuple[str, int], float],
) -> Crossing:
    costs, (one, other) = instance.costs, (instance.participants[sender], instance.participants[receiver])
    raw, nbytes = float(instance.cut_bytes[cut, 0]), float(instance.cut_bytes[cut, codec])
    encode = float(ticks(raw * one.encode[codec])) if one.encode else 0.0
    decode = float(ticks(raw * other.decode[codec])) if other.decode else 0.0
    loads["computing", sender] += encode
    loads["computing", receiver] += decode
    loads["sending", sender] += float(ticks(nbytes / one.link.rate_up))
    loads["receiving", receiver] += float(ticks(nbytes / other.link.rate_down))
    return Crossing(
        cut=cut,
        sender=_name(instance, sender),
        receiver=_name(instance, receiver),
        codec=instance.codecs[codec],
        nbytes=int(nbytes),
        encode=encode / TICKS,
        up=float(ticks(one.link.latency_up + nbytes / one.link.rate_up)) / TICKS,
        broker=float(ticks(instance.broker_seconds)) / TICKS,
        down=float(ticks(other.link.latency_down + nbytes / other.link.rate_down)) / TICKS,
        decode=decode / TICKS,
        joules=_both_ends(costs.joules, cut, codec, sender, receiver) / TICKS,
        money=_both_ends(costs.money, cut, codec, sender, receiver) / MONEY_TICKS,
        latency_up=one.link.latency_up,
        latency_down=other.link.latency_down,
    )


def _both_ends(share: Share, cut: int, codec: int, sender: int, receiver: int) -> float:
    return float(share.leave[cut, sender, codec] + share.enter[cut, receiver, codec])


def _name(instance: Instance, participant: int) -> str:
    return instance.devices[participant].id if participant < len(instance.devices) else instance.origin_name
