"""Assignment messages: what the mesh is told of a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from edgemesh.planning.alternatives import Alternatives
from edgemesh.planning.explanation import Idle
from edgemesh.planning.instance import Instance, Requester
from edgemesh.planning.plan import Plan, Prediction
from edgemesh.planning.prediction import predicted_latency
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import (
    Alternative,
    Assignment,
    Fallback,
    HopPrediction,
    IdleDevice,
    WattsUsed,
)
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.conditions import Condition, Conditions


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """What an assignment says beside the plan and its alternatives."""

    epoch: tuple[int, int]
    objective: str
    reason: str
    estimates_age: float
    uncertainty: float
    emulated: frozenset[str]
    binding: str
    notes: tuple[str, ...]
    changes: int
    since: float | None
    at_once: bool


def assignment_message(
    manifest: Manifest,
    origin: str,
    plan: Plan,
    others: Alternatives,
    idle: Sequence[Idle],
    instance: Instance,
    conditions: Conditions,
    told: Circumstances,
) -> Assignment:
    """What is published of ``plan``. Joules are those that devices take, without the weights of planning."""
    plain = _unweighted(instance)
    prediction = _predicted(plain, plan)
    joules = prediction.joules if conditions.watts_known else None
    return Assignment(
        *told.epoch,
        manifest.name,
        manifest.digest,
        origin,
        told.objective,
        route_of(plan),
        hop_predictions(prediction),
        prediction.result.seconds if prediction.result is not None else 0.0,
        plan.total,
        told.reason,
        fallbacks=tuple(
            Fallback(device, route_of(other), other.total)
            for device, other in others.fallbacks.items()
            if other is not None
        ),
        runners_up=tuple(
            Alternative(
                route_label(other),
                route_of(other),
                other.total,
                _predicted(plain, other).joules if conditions.watts_known else None,
            )
            for other in others.runner_ups
        ),
        idle=tuple(IdleDevice(i.device, i.text) for i in idle),
        estimates_age=told.estimates_age,
        emulated=tuple(sorted(told.emulated)),
        joules=joules,
        bound=plan.bound,
        money=prediction.money,
        bottleneck=prediction.bottleneck,
        uncertainty=told.uncertainty,
        proven=plan.proven,
        watts=_watts_used(plan, conditions.of) if conditions.watts_known else (),
        binding=told.binding,
        notes=told.notes,
        changes=told.changes,
        since=told.since,
        at_once=told.at_once,
    )


def route_of(plan: Plan) -> tuple[Hop, ...]:
    """The route that a requester stamps on its jobs."""
    return tuple(Hop(p.device, p.stop, p.codec) for p in plan.partitions)


def route_label(plan: Plan) -> str:
    """``pi-4b 0-3 > desktop 3-58``."""
    if len(plan.partitions) == 1:
        return f"all on {plan.partitions[0].device}"
    return " > ".join(f"{p.device} {p.start}-{p.stop}" for p in plan.partitions)


def hop_predictions(prediction: Prediction) -> tuple[HopPrediction, ...]:
    """One per partition; joules are those of running and of getting there."""
    return tuple(
        HopPrediction(
            hop.partition.device,
            hop.partition.start,
            hop.partition.stop,
            hop.arrival.seconds if hop.arrival is not None else 0.0,
            hop.queue,
            hop.run,
            hop.arrival.nbytes if hop.arrival is not None else 0,
            hop.joules + (hop.arrival.joules if hop.arrival is not None else 0.0),
        )
        for hop in prediction.hops
    )


def _unweighted(instance: Instance) -> Instance:
    """``instance`` with each joule counting once; itself where that is so already."""
    origin = instance.origin
    if isinstance(origin, Requester) and origin.energy_weight != 1.0:
        origin = dataclasses.replace(origin, energy_weight=1.0)
    if origin is instance.origin and all(device.energy_weight == 1.0 for device in instance.devices):
        return instance
    devices = tuple(dataclasses.replace(device, energy_weight=1.0) for device in instance.devices)
    return dataclasses.replace(instance, devices=devices, origin=origin)


def _predicted(instance: Instance, plan: Plan) -> Prediction:
    prediction = predicted_latency(instance, plan.partitions, plan.input_codec)
    return prediction if isinstance(prediction, Prediction) else plan.prediction


def _watts_used(plan: Plan, conditions: Mapping[str, Condition]) -> tuple[WattsUsed, ...]:
    return tuple(
        WattsUsed(device, condition.watts.busy, condition.watts.radio, condition.watts.source)
        for device in plan.devices
        if (condition := conditions.get(device)) is not None
    )
