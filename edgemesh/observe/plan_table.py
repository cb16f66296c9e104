"""Rows of the table that shows a plan beside what it took."""

from __future__ import annotations

from collections.abc import Sequence

from edgemesh.observe.amounts import bytes_text
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.manifest import Manifest, boundary_bytes

HEADING = ("device", "units", "bytes in", "ms predicted", "ms measured")


def partition_texts(route: Sequence[Hop]) -> list[str]:
    """``pi-4b 0-3`` for each partition of a route."""
    starts = (0, *(hop.stop for hop in route))
    return [f"{hop.device} {start}-{hop.stop}" for hop, start in zip(route, starts)]


def route_text(route: Sequence[Hop]) -> str:
    """``pi-4b 0-3 > desktop 3-58``."""
    return " > ".join(partition_texts(route))


def hop_rows(
    manifest: Manifest, assignment: Assignment, timings: Sequence[Timing], measured: float
) -> list[tuple[str, ...]]:
    """One row per partition (running it), then all transfers together, then the total.

    Only durations cross machines, so single transfers cannot be told apart: what no device accounts for is
    the way of the messages.
    """
    rows: list[tuple[str, ...]] = []
    for hop, timing in zip(assignment.hops, timings):
        carried = bytes_text(boundary_bytes(manifest.boundaries[hop.start])) if hop.transfer else "-"
        mark = " (emulated)" if hop.device in assignment.emulated else ""
        rows.append(
            (
                f"{hop.device}{mark}",
                f"{hop.start}-{hop.stop}",
                carried,
                _ms(hop.queue + hop.run),
                _ms(timing.queue + timing.run + timing.code),
            )
        )
    predicted_run = sum(hop.queue + hop.run for hop in assignment.hops)
    measured_run = sum(timing.queue + timing.run + timing.code for timing in timings)
    rows.append(
        ("transfers", "", "", _ms(assignment.seconds - predicted_run), _ms(max(0.0, measured - measured_run)))
    )
    rows.append(("total", f"0-{manifest.unit_count}", "", _ms(assignment.seconds), _ms(measured)))
    return rows


def way_row(label: str, predicted: float | None, measured: float) -> tuple[str, ...]:
    """One row for a whole route."""
    return (label, "", "", "-" if predicted is None else _ms(predicted), _ms(measured))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"
