"""Planning instances: what the decision node knows of the mesh, as the planner takes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgemesh.model.codec_accuracy import allowed_codecs
from edgemesh.model.codec_sizes import carried_bytes
from edgemesh.planning.instance import FloatArray, Instance, Pin, PlanningDevice, Requester
from edgemesh.planning.plan import Infeasible
from edgemesh.planning.unit_time_estimate import UnitTimes
from edgemesh.planning.wording import listed
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.manifest import Boundary, Manifest
from edgemesh.protocol.presence import About
from edgemesh.protocol.requests import Policy
from edgemesh.roles.codec_costs import codec_costs
from edgemesh.roles.conditions import Condition
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.mesh_view import MeshView

GATEWAY_PARTICIPANT = "gateway-0"
"""Whose link stands for all inputs that arise on a topic."""
_ZSTD_RATIO = 0.9
"""Float activations hardly compress."""


@dataclass(frozen=True)
class OtherWork:
    """What the assignments of other models and origins leave of the devices."""

    memory_bytes: Mapping[str, float] = field(default_factory=dict)
    """Taken by what they have loaded, by device."""
    waiting: Mapping[str, float] = field(default_factory=dict)
    """Seconds that a job is likely to wait for theirs, by device."""


@dataclass(frozen=True, eq=False)
class _Static:
    """What an instance takes from the manifest and the policy alone."""

    manifest: Manifest
    codecs: tuple[str, ...]
    unit_names: tuple[str, ...]
    weight_bytes: FloatArray
    peak_bytes: FloatArray
    cut_bytes: FloatArray


class StaticParts:
    """Arrays of manifests, made once: rounds of planning come every other second."""

    def __init__(self) -> None:
        self._known: dict[str, _Static] = {}

    def of(self, manifest: Manifest, codecs: tuple[str, ...]) -> _Static:
        """Arrays for ``manifest`` and ``codecs``."""
        known = self._known.get(manifest.name)
        if known is not None and known.manifest is manifest and known.codecs == codecs:
            return known
        made = self._known[manifest.name] = _Static(
            manifest,
            codecs,
            tuple(unit.name for unit in manifest.units),
            np.array([unit.weight_bytes for unit in manifest.units], dtype=np.float64),
            np.array([unit.peak_bytes for unit in manifest.units], dtype=np.float64),
            np.array([[_carried(b, codec) for codec in codecs] for b in manifest.boundaries], np.float64),
        )
        return made

    def forget(self, model: str) -> None:
        """The model is gone."""
        self._known.pop(model, None)


def planning_instance(
    manifest: Manifest,
    origin: str,
    view: MeshView,
    estimates: MeshEstimates,
    policy: Policy,
    now: float,
    *,
    conditions: Mapping[str, Condition] | None = None,
    others: OtherWork | None = None,
    static: StaticParts | None = None,
    lossy_crossings: int = 1,
) -> Instance | Infeasible:
    """The instance for one (model, origin), or why there is none yet.

    ``conditions`` by device say what its resources and the policy make of it, ``others`` what other
    assignments leave of it. ``lossy_crossings`` of one route share the accuracy budget.
    """
    known = sorted(device for device in view.devices if view.devices[device].about is not None)
    if not known:
        return Infeasible("unavailable", "no device has been seen yet: start one with  edgemesh device run")
    codecs = tuple(dict.fromkeys(("raw", *(c for c in policy.codecs if c in CODECS))))
    limits = conditions or {}
    taken = others or OtherWork()
    devices = tuple(
        _device(device, manifest, view, estimates, limits.get(device, Condition()), taken, codecs, now)
        for device in known
    )
    if all(device.unavailable for device in devices):
        reasons = listed(f"{device.id} {device.unavailable}" for device in devices)
        return Infeasible("unavailable", f"no device can run {manifest.name}: {reasons}")
    if origin != APP_ORIGIN and origin not in known:
        return Infeasible("unavailable", f"the origin {origin} is no device of this mesh")
    pins = _pins(manifest, policy, known)
    if isinstance(pins, Infeasible):
        return pins
    start: int | Requester
    if origin == APP_ORIGIN:
        costs = codec_costs((), codecs)
        start = Requester(estimates.link(GATEWAY_PARTICIPANT, now).link, costs.encode, costs.decode)
    else:
        start = known.index(origin)
        if policy.keep_input:
            pins.append(Pin(0, 1, frozenset({start})))
    parts = (static or StaticParts()).of(manifest, codecs)
    return Instance(
        parts.unit_names,
        parts.weight_bytes,
        parts.peak_bytes,
        codecs,
        parts.cut_bytes,
        allowed_codecs(manifest, codecs, policy.accuracy, lossy_crossings=lossy_crossings),
        devices,
        start,
        pins=tuple(pins),
        excluded=frozenset(i for i, device in enumerate(known) if device in policy.exclude),
    )


def may_become_plannable(
    manifest: Manifest, policy: Policy, view: MeshView, estimates: MeshEstimates, now: float
) -> bool:
    """Whether a device that could run the model is about to come back, or has only to fetch or measure it.

    One that is offline, or silent before the broker says so, did not say goodbye. After a restart of the
    broker all are that, until they have connected again; where it lost its store, all that a policy names for
    some units may be on their way.
    """
    seen = {device for device, known in view.devices.items() if known.about is not None}
    pinned = (policy.devices_of(pin) for pin in policy.pins if not pin.never)
    if any(named and seen.isdisjoint(named) for named in pinned):
        return True
    for device, known in view.devices.items():
        about = known.about
        if about is None or manifest.format not in about.runtimes:
            continue
        if known.state == "stopped":
            continue
        # One that has just started tells of itself before it has looked at what it holds.
        can_run = view.holds(device, manifest.digest) and estimates.has_profile(device, manifest.digest)
        if not view.online(device, now) or not can_run:
            return True
    return False


def _pins(manifest: Manifest, policy: Policy, known: Sequence[str]) -> list[Pin] | Infeasible:
    """Pins by index, cut to the units that there are. Leaving out one that names nobody known would send
    elsewhere what must not leave that device."""
    pins = []
    for pin in policy.pins:
        if pin.start >= manifest.unit_count:
            continue
        units = f"units {pin.start}-{min(pin.stop, manifest.unit_count)}"
        named = policy.devices_of(pin)
        if pin.zone is not None and not named:
            return Infeasible(
                "pinned",
                f"{units} are pinned to the zone {pin.zone}, which has no devices: name some, or lift it",
            )
        here = {index for index, device in enumerate(known) if device in named}
        if pin.never:
            here = set(range(len(known))) - here
        if not here:
            whom = listed(sorted(named))
            if pin.never:
                text = f"{units} may not run on {whom}, and there is no other device: add one, or lift that"
                return Infeasible("pinned", text)
            return Infeasible("pinned", f"units are pinned to {whom}, which this mesh has not seen")
        pins.append(Pin(pin.start, min(pin.stop, manifest.unit_count), frozenset(here)))
    return pins


def _device(
    device: str,
    manifest: Manifest,
    view: MeshView,
    estimates: MeshEstimates,
    condition: Condition,
    others: OtherWork,
    codecs: tuple[str, ...],
    now: float,
) -> PlanningDevice:
    about = view.devices[device].about
    assert about is not None
    link = estimates.link(device, now).link
    costs = codec_costs(about.codecs, codecs)
    unavailable = _why_unavailable(device, about, manifest, view, estimates, now) or condition.unavailable
    times = estimates.unit_times(device, manifest.digest, manifest.unit_count, now)
    if times is None and not unavailable:
        unavailable = "measured another version of it"
    return PlanningDevice(
        device,
        link,
        np.full(manifest.unit_count, math.inf) if times is None else times.seconds,
        0.0 if times is None else times.run_overhead,
        1.0 if times is None else times.run_factor,
        None if times is None else times.runs,
        memory_limit=max(0.0, about.memory_bytes - others.memory_bytes.get(device, 0.0)),
        # The queue that a device tells of holds the jobs of all: what others are likely to add is in it.
        queue_seconds=max(estimates.queue(device, now), others.waiting.get(device, 0.0)),
        encode=costs.encode,
        decode=costs.decode,
        unavailable=unavailable,
        busy_watts=condition.watts.busy / _shared(device, times, estimates),
        radio_watts=condition.watts.radio,
        energy_weight=condition.energy_weight,
        price_per_second=condition.price_per_second,
        price_per_byte=condition.price_per_byte,
    )


def _shared(device: str, times: UnitTimes | None, estimates: MeshEstimates) -> float:
    """By how much a run draws less because it takes longer: at least 1.

    Where others keep the processor busy it draws its watts anyway, and a lower clock draws less: the joules
    of a run stay about the same. A device that is slow for no such reason has a wrong profile, and draws all.
    """
    if times is None or estimates.slowdown(device) <= 1.0:
        return 1.0
    return max(1.0, times.correction)


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
    return carried_bytes(boundary, codec) * (_ZSTD_RATIO if CODECS[codec].compressed else 1.0)
