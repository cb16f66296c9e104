"""The true figures of a scenario as planning instances: what an all-knowing planner would plan with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgemesh.device.boards import Board
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, Link, Pin, PlanningDevice, raw_at_both_ends
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Policy
from edgemesh.roles.conditions import energy_weight
from edgemesh.simulation.board_machine import link_in, start_link, unit_seconds
from edgemesh.simulation.links import PACKET_BYTES
from edgemesh.simulation.machine import CODE_SECONDS
from edgemesh.simulation.scenario import DeviceState, Scenario
from edgemesh.simulation.sections import section_bytes

HEADER_BYTES = 420
"""Of an activation's header as the roles write it, with a route of two partitions."""


def goal_of(policy: Policy) -> Goal:
    """The goal that a policy sets; what it leaves open is the planner's default."""
    goal = Goal()
    return Goal(
        policy.objective or goal.objective,
        policy.bound_factor or goal.bound_factor,
        policy.bound_seconds,
        policy.in_flight or goal.in_flight,
    )


def true_instance(
    scenario: Scenario,
    boards: Mapping[str, Board],
    states: Mapping[str, DeviceState],
    manifest: Manifest,
    origin: str,
    waiting: Mapping[str, float] = {},
) -> Instance:
    """The instance for ``manifest`` with inputs on ``origin`` while the devices are as in ``states``.

    ``boards`` by device; ``waiting[device]`` seconds that a job waits there for jobs of other streams.
    """
    names = sorted(states)
    policy = scenario.policy
    devices = tuple(
        _device(scenario, name, boards[name], states[name], manifest, waiting.get(name, 0.0))
        for name in names
    )
    units = manifest.unit_count
    sizes = [[float(section_bytes(b) + HEADER_BYTES + PACKET_BYTES)] for b in manifest.boundaries]
    start = names.index(origin)
    pins = (Pin(0, 1, frozenset({start})),) if policy.keep_input else ()
    return Instance(
        tuple(unit.name for unit in manifest.units),
        np.array([unit.weight_bytes for unit in manifest.units], dtype=np.float64),
        np.array([unit.peak_bytes for unit in manifest.units], dtype=np.float64),
        ("raw",),
        np.array(sizes),
        raw_at_both_ends(units, 1),
        devices,
        start,
        pins=pins,
        excluded=frozenset(i for i, name in enumerate(names) if name in policy.exclude),
    )


def _device(
    scenario: Scenario, name: str, board: Board, state: DeviceState, manifest: Manifest, waiting: float
) -> PlanningDevice:
    policy = scenario.policy
    spec = next(device for device in scenario.devices if device.name == name)
    link = link_in(state, start_link(spec, board))
    floor = policy.battery_floor or 0.0
    unavailable = ""
    if not state.present:
        unavailable = "is away"
    elif state.battery is not None and state.battery < floor:
        unavailable = "is below the battery floor"
    price = next((price for price in policy.prices if price.device == name), None)
    return PlanningDevice(
        name,
        Link(link.latency, link.rate_up, link.latency, link.rate_down),
        unit_seconds(manifest, board) * state.slowdown,
        run_overhead=CODE_SECONDS,
        memory_limit=float(board.memory_bytes),
        queue_seconds=waiting,
        unavailable=unavailable,
        # As in BoardSpeed.effort.
        busy_watts=((board.busy_watts or 0.0) - (board.idle_watts or 0.0)) / state.slowdown,
        radio_watts=board.radio_watts or 0.0,
        energy_weight=energy_weight(policy, on_battery=state.battery is not None),
        price_per_second=price.per_second if price is not None else 0.0,
        price_per_byte=price.per_gigabyte / 1e9 if price is not None else 0.0,
    )


def mean_instance(instances: list[tuple[float, Instance]]) -> Instance:
    """One instance whose plans cost what they cost on average over ``instances``, each with its weight.

    All are of one model and origin and list the same devices. Times of runs and seconds per byte are
    averaged; a device that is away in one of them is away: a plan kept throughout cannot use it. So the best
    plan of this instance is the best that never changes.
    """
    total = sum(weight for weight, _ in instances)
    shares = [(weight / total, instance) for weight, instance in instances]
    first = instances[0][1]
    devices = []
    for index, device in enumerate(first.devices):
        same = [(share, instance.devices[index]) for share, instance in shares]
        seconds = np.sum([share * d.seconds for share, d in same], axis=0)
        # Joules are averaged, not watts: those of a slow phase count for longer.
        joules = sum(share * d.busy_watts * float(d.seconds.sum()) for share, d in same)
        devices.append(
            replace(
                device,
                link=Link(
                    sum(share * d.link.latency_up for share, d in same),
                    1.0 / sum(share / d.link.rate_up for share, d in same),
                    sum(share * d.link.latency_down for share, d in same),
                    1.0 / sum(share / d.link.rate_down for share, d in same),
                ),
                seconds=seconds,
                run_overhead=sum(share * d.run_overhead for share, d in same),
                queue_seconds=sum(share * d.queue_seconds for share, d in same),
                busy_watts=joules / float(np.sum(seconds)),
                unavailable=next((d.unavailable for _, d in same if d.unavailable), ""),
            )
        )
    return replace(first, devices=tuple(devices))
