"""The instance of a mesh that is not: links, loads and devices changed as a question says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgemesh.planning.instance import FloatArray, Instance, Link, PlanningDevice, Requester
from edgemesh.planning.wording import listed
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.what_if import AddedBoard, LinkChange, LoadChange, WhatIfRequest

BatteryEffect = Callable[[float], tuple[str, float]]
"""From a charge (0 to 1) to why the device is unavailable then (or ``""``), and its energy weight."""

_LEAST_LEFT = 0.01
"""Of a device's cores, however busy it is said to be: no time becomes infinite."""
_OFF = "is off in this question"


class ContradictionError(Exception):
    """The question cannot be put to this mesh; the text says why."""


@dataclass(frozen=True)
class Changed:
    """The mesh of the question."""

    instance: Instance
    notes: tuple[str, ...]
    """How figures were made that nobody measured, in sentences."""


def changed(
    instance: Instance,
    request: WhatIfRequest,
    macs: Sequence[int],
    battery_effect: BatteryEffect = lambda charge: ("", 1.0),
) -> Changed:
    """``instance`` with all changes of ``request``; indices of its devices stay, new ones come last.

    ``macs[u]`` multiply-accumulates of each unit. A load multiplies run, encode and decode times by
    ``1 / (1 - busy)``. Raises ContradictionError for a device that is not there, or there already.
    """
    assert len(macs) == instance.unit_count
    _check_names(instance, request)
    devices = {device.id: device for device in instance.devices}
    notes: list[str] = []
    origin = instance.origin
    for link in request.links:
        if link.device == APP_ORIGIN:
            assert isinstance(origin, Requester)
            origin = replace(origin, link=_changed_link(origin.link, link))
        else:
            devices[link.device] = replace(
                devices[link.device], link=_changed_link(devices[link.device].link, link)
            )
    for load in request.loads:
        devices[load.device], note = _loaded(devices[load.device], load)
        notes.append(note)
    for battery in request.batteries:
        unavailable, weight = battery_effect(battery.charge)
        device = devices[battery.device]
        devices[battery.device] = replace(
            device, unavailable=device.unavailable or unavailable, energy_weight=weight
        )
    for name in request.off:
        devices[name] = replace(devices[name], unavailable=_OFF)
    for board in request.added:
        devices[board.device], note = _added(board, instance, macs)
        notes.append(note)
    return Changed(replace(instance, devices=tuple(devices.values()), origin=origin), tuple(notes))


def _check_names(instance: Instance, request: WhatIfRequest) -> None:
    known = set(instance.indices)
    linked = {change.device for change in request.links}
    if isinstance(instance.origin, Requester):
        linked.discard(APP_ORIGIN)  # the gateway, whose link is all that matters here
    named = {change.device for change in request.loads} | {change.device for change in request.batteries}
    for name in sorted(linked | named | set(request.off)):
        if name not in known:
            raise ContradictionError(
                f"no device {name} in this mesh (known: {listed(sorted(known)) or 'none'})"
            )
    if instance.origin_name in request.off:
        raise ContradictionError(
            f"the inputs arise on {instance.origin_name}: with it off there is nothing to plan"
        )
    for board in request.added:
        if board.device in known or board.device == APP_ORIGIN:
            raise ContradictionError(
                f"there is a device {board.device} already: name the added one, as in  add:{board.board}=NAME"
            )
        known.add(board.device)


def _changed_link(link: Link, change: LinkChange) -> Link:
    up, down = change.direction in ("both", "up"), change.direction in ("both", "down")
    rate, delay = change.bytes_per_second, change.delay
    return Link(
        delay if up and delay is not None else link.latency_up,
        rate if up and rate is not None else link.rate_up,
        delay if down and delay is not None else link.latency_down,
        rate if down and rate is not None else link.rate_down,
    )


def _loaded(device: PlanningDevice, load: LoadChange) -> tuple[PlanningDevice, str]:
    slower = 1.0 / max(1.0 - load.busy, _LEAST_LEFT)
    slowed = replace(
        device,
        run_overhead=device.run_overhead * slower,
        run_factor=device.run_factor * slower,
        runs=None if device.runs is None else device.runs * slower,
        encode=tuple(seconds * slower for seconds in device.encode),
        decode=tuple(seconds * slower for seconds in device.decode),
    )
    return slowed, (
        f"{device.id} with {load.busy:.0%} of its cores taken by others: its times are multiplied by "
        f"{slower:.3g}, on top of what is measured now"
    )


# --- a device that is not there -------------------------------------------------------------------------


def _added(board: AddedBoard, instance: Instance, macs: Sequence[int]) -> tuple[PlanningDevice, str]:
    device, note = _timed(board, instance, np.asarray(macs, dtype=np.float64))
    link = Link(board.delay, board.up_bytes_per_second, board.delay, board.down_bytes_per_second)
    watts = max(board.busy_watts - board.idle_watts, 0.0)
    # The codec code of a device that nobody runs: that of the slowest measured one, per codec.
    encode, decode = _slowest(instance, "encode"), _slowest(instance, "decode")
    return (
        replace(
            device,
            link=link,
            memory_limit=float(board.memory_bytes),
            encode=encode,
            decode=decode,
            busy_watts=watts,
            radio_watts=board.radio_watts,
        ),
        note,
    )


def _timed(board: AddedBoard, instance: Instance, macs: FloatArray) -> tuple[PlanningDevice, str]:
    """Times from a measured device by the boards' speeds; where no board is known, from the speed alone.

    A unit's share of the whole is that on a measured device: units without multiply-accumulates (pooling,
    resizing) keep a time, which ``macs / speed`` per unit would lose. Of several measured devices the one
    whose board is nearest in speed counts: what differs between boards other than speed differs least.
    """
    bare = PlanningDevice(board.device, Link(0.0, math.inf, 0.0, math.inf), macs)
    measured = {d.id: d for d in instance.devices if not d.unavailable and np.isfinite(d.seconds).all()}
    ratios = {ratio.device: ratio.factor for ratio in board.faster_than if ratio.device in measured}
    if ratios:
        nearest = min(sorted(ratios), key=lambda name: abs(math.log(ratios[name])))
        return _like(measured[nearest], bare, 1.0 / ratios[nearest]), (
            f"{board.device} ({board.board}): times measured on {nearest}, whose board is "
            f"{_times(ratios[nearest])} by the boards' figures"
        )
    whole = float(macs.sum()) / board.macs_per_second
    for name in sorted(measured):
        took = _whole_seconds(measured[name])
        if whole > 0.0 and took > 0.0:
            return _like(measured[name], bare, whole / took), (
                f"{board.device} ({board.board}): multiply-accumulates over the board's speed, spread over "
                f"the units as measured on {name}"
            )
    return replace(bare, seconds=macs / board.macs_per_second), (
        f"{board.device} ({board.board}): multiply-accumulates over the board's speed; units without any "
        "count as free"
    )


def _like(measured: PlanningDevice, bare: PlanningDevice, scale: float) -> PlanningDevice:
    return replace(
        bare,
        seconds=measured.seconds,
        run_overhead=measured.run_overhead * scale,
        run_factor=measured.run_factor * scale,
        runs=None if measured.runs is None else measured.runs * scale,
    )


def _whole_seconds(device: PlanningDevice) -> float:
    if device.runs is not None:
        return float(device.runs[0, -1])
    return device.run_overhead + device.run_factor * float(device.seconds.sum())


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times slower" if ratio >= 1.0 else f"{1.0 / ratio:.3g} times faster"


def _slowest(instance: Instance, what: str) -> tuple[float, ...]:
    """Per codec the longest finite time; infinite for a codec that no device has."""
    columns = [getattr(device, what) for device in instance.devices if getattr(device, what)]
    return tuple(
        max((seconds for seconds in codec if math.isfinite(seconds)), default=math.inf)
        for codec in zip(*columns, strict=True)
    )
