"""The true figures of a testbed, for the planner that makes fixed plans and for the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from edgemesh.device.boards import Board, Figure, load_board
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile
from edgemesh.simulation.plans import Case
from edgemesh.simulation.scenario import Scenario
from edgemesh.simulation.unit_tables import use_unit_table

_FAR_CLOCK = 1e18
"""Takes away what the simulator adds to each operator: here the measured shares have it in them."""


def stretched(board: Board, slower: float) -> Board:
    """The board as the testbed emulates it: units and messages take ``slower`` times as long."""

    def changed(key: str, value: float) -> float:
        if key.startswith("speed.") or key.endswith("bytes_per_second"):
            return value / slower
        if key.startswith("link.") and "delay" in key:
            return value * slower
        return _FAR_CLOCK if key == "hardware.clock_hz" else value

    figures: dict[str, Figure] = {
        key: replace(figure, value=changed(key, figure.value)) for key, figure in board.figures.items()
    }
    return replace(board, figures=figures)


def measured_table(manifest: Manifest, profiles: Sequence[Profile]) -> Manifest:
    """The model with its operations dealt out as its time is: each unit's share is that of the profiles.

    The boards of a testbed all emulate from what this machine measured, so they agree on the shares.
    """
    total = sum(unit.macs for unit in manifest.units)
    shares = [
        median(profile.seconds[unit] / sum(profile.seconds) for profile in profiles)
        for unit in range(manifest.unit_count)
    ]
    whole = sum(shares)
    units = tuple(
        replace(unit, macs=round(total * share / whole), operators=max(1, unit.operators))
        for unit, share in zip(manifest.units, shares, strict=True)
    )
    return replace(manifest, units=units)


def case(scenario: Scenario, table: Manifest, slower: float) -> Case:
    """``scenario`` with the model of ``table`` on stretched boards, for plans and for the simulator."""
    use_unit_table(table)
    boards: Mapping[str, Board] = {
        device.name: stretched(load_board(device.board), slower) for device in scenario.devices
    }
    return Case(scenario, table.name, boards)
