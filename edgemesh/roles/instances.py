"""Planning instances and assignment messages: from what the decision node knows to a plan, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgemesh.planning.alternatives import Alternatives
from edgemesh.planning.explanation import Idle
from edgemesh.planning.instance import Instance, Pin, PlanningDevice, Requester, raw_at_both_ends
from edgemesh.planning.plan import Plan, Prediction
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Alternative, Assignment, Fallback, HopPrediction, IdleDevice
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.manifest import DTYPE_BYTES, Boundary, Manifest
from edgemesh.protocol.presence import About
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.tensors import CODECS
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.mesh_view import MeshView

GATEWAY_PARTICIPANT = "gateway-0"
"""Whose link stands for all inputs that arise on a topic."""
_NAMED = 4
"""Devices named in a sentence."""
_HELD_BYTES = {"f16": 2, "q8": 1}
_ENCODE = {"raw": 0.1e-9, "f16": 0.6e-9, "q8": 1.2e-9}
_DECODE = {"raw": 0.0, "f16": 0.4e-9, "q8": 0.8e-9}
_ZSTD_ENCODE, _ZSTD_DECODE = 3.0e-9, 1.0e-9
_ZSTD_RATIO = 0.9
"""Seconds per raw byte, seen on a 2-core x86_64 machine; float activations hardly compress."""


def planning_instance(
    manifest: Manifest,
    origin: str,
    view: MeshView,
    estimates: MeshEstimates,
    policy: Policy,
    now: float,
) -> Instance | str:
    """The instance for one (model, origin), or a sentence why there is none yet."""
    known = sorted(device for device in view.devices if view.devices[device].about is not None)
    if not known:
        return "no device has been seen yet: start one with  edgemesh device run"
    devices = tuple(_device(device, manifest, view, estimates, now) for device in known)
    if all(device.unavailable for device in devices):
        reasons = ", ".join(f"{device.id} {device.unavailable}" for device in devices[:_NAMED])
        return f"no device can run {manifest.name}: {reasons}{' and others' * (len(devices) > _NAMED)}"
    if origin != APP_ORIGIN and origin not in known:
        return f"the origin {origin} is no device of this mesh"
    codecs = tuple(dict.fromkeys(("raw", *(c for c in policy.codecs if c in CODECS))))
    sides = tuple(_codec_seconds(c, _ENCODE, _ZSTD_ENCODE) for c in codecs)
    back = tuple(_codec_seconds(c, _DECODE, _ZSTD_DECODE) for c in codecs)
    start: int | Requester
    if origin == APP_ORIGIN:
        start = Requester(estimates.link(GATEWAY_PARTICIPANT, now).link, sides, back)
    else:
        start = known.index(origin)
    missing = sorted({pin.device for pin in policy.pins} - set(known))
    if missing:
        # Leaving the pin out would send elsewhere what must not leave that device.
        return f"units are pinned to {', '.join(missing)}, which this mesh has not seen"
    pins = [
        Pin(pin.start, pin.stop, frozenset({known.index(pin.device)}))
        for pin in policy.pins
        if pin.stop <= manifest.unit_count
    ]
    if policy.keep_input and isinstance(start, int):
        pins.append(Pin(0, 1, frozenset({start})))
    return Instance(
        tuple(unit.name for unit in manifest.units),
        np.array([unit.weight_bytes for unit in manifest.units], dtype=np.float64),
        np.array([unit.peak_bytes for unit in manifest.units], dtype=np.float64),
        codecs,
        np.array([[_carried(b, codec) for codec in codecs] for b in manifest.boundaries], dtype=np.float64),
        raw_at_both_ends(manifest.unit_count, len(codecs)),
        devices,
        start,
        pins=tuple(pins),
        excluded=frozenset(i for i, device in enumerate(known) if device in policy.exclude),
    )


def may_become_plannable(manifest: Manifest, view: MeshView, estimates: MeshEstimates, now: float) -> bool:
    """Whether a device is online that could run the model and has only to fetch or measure it."""
    for device in view.devices:
        about = view.about(device)
        if about is None or manifest.format not in about.runtimes or not view.online(device, now):
            continue
        if not estimates.has_profile(device, manifest.digest):
            return True
    return False


def assignment_message(
    manifest: Manifest,
    origin: str,
    plan: Plan,
    others: Alternatives,
    idle: Sequence[Idle],
    *,
    epoch: tuple[int, int],
    objective: str,
    reason: str,
    estimates_age: float,
    emulated: frozenset[str],
) -> Assignment:
    """What the mesh is told of a plan."""
    prediction = plan.prediction
    return Assignment(
        *epoch,
        manifest.name,
        manifest.digest,
        origin,
        objective,
        route_of(plan),
        _hop_predictions(prediction),
        prediction.result.seconds if prediction.result is not None else 0.0,
        plan.total,
        reason,
        fallbacks=tuple(
            Fallback(device, route_of(other), other.total)
            for device, other in others.fallbacks.items()
            if other is not None
        ),
        runners_up=tuple(Alternative(_label(o), route_of(o), o.total) for o in others.runner_ups),
        idle=tuple(IdleDevice(i.device, i.text) for i in idle),
        estimates_age=estimates_age,
        emulated=tuple(sorted(emulated)),
    )


def route_of(plan: Plan) -> tuple[Hop, ...]:
    """The route that a requester stamps on its jobs."""
    return tuple(Hop(p.device, p.stop, p.codec) for p in plan.partitions)


def _hop_predictions(prediction: Prediction) -> tuple[HopPrediction, ...]:
    return tuple(
        HopPrediction(
            hop.partition.device,
            hop.partition.start,
            hop.partition.stop,
            hop.arrival.seconds if hop.arrival is not None else 0.0,
            hop.queue,
            hop.run,
            hop.arrival.nbytes if hop.arrival is not None else 0,
        )
        for hop in prediction.hops
    )


def _label(plan: Plan) -> str:
    if len(plan.partitions) == 1:
        return f"all on {plan.partitions[0].device}"
    return " > ".join(f"{p.device} {p.start}-{p.stop}" for p in plan.partitions)


def _device(
    device: str, manifest: Manifest, view: MeshView, estimates: MeshEstimates, now: float
) -> PlanningDevice:
    about = view.devices[device].about
    assert about is not None
    link = estimates.link(device, now).link
    unavailable = _why_unavailable(device, about, manifest, view, estimates, now)
    times = None if unavailable else estimates.unit_times(device, manifest.digest, manifest.unit_count, now)
    if times is None:
        seconds = np.full(manifest.unit_count, math.inf)
        return PlanningDevice(
            device, link, seconds, unavailable=unavailable or "measured another version of it"
        )
    return PlanningDevice(
        device,
        link,
        times.seconds,
        times.run_overhead,
        times.run_factor,
        memory_limit=float(about.memory_bytes),
        queue_seconds=estimates.queue(device),
    )


def _why_unavailable(
    device: str, about: About, manifest: Manifest, view: MeshView, estimates: MeshEstimates, now: float
) -> str:
    if not view.online(device, now):
        return "is offline"
    if manifest.format not in about.runtimes:
        return f"has no {manifest.format} runtime"
    if not view.holds(device, manifest.digest):
        return "does not hold the model (yet)"
    if not estimates.has_profile(device, manifest.digest):
        return "has not measured the model yet"
    return ""


def _carried(boundary: Boundary, codec: str) -> float:
    name = codec.removesuffix("+zstd")
    total = 0.0
    for tensor in boundary:
        lossy = tensor.dtype in ("float32", "float64")
        size = _HELD_BYTES.get(name, DTYPE_BYTES[tensor.dtype]) if lossy else DTYPE_BYTES[tensor.dtype]
        total += tensor.elements * size
    return total * (_ZSTD_RATIO if codec.endswith("+zstd") else 1.0)


def _codec_seconds(codec: str, table: dict[str, float], zstd: float) -> float:
    return table[codec.removesuffix("+zstd")] + (zstd if codec.endswith("+zstd") else 0.0)
