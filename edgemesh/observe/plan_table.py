"""Rows of the table that shows a plan beside what it took."""

from __future__ import annotations

from collections.abc import Sequence

from edgemesh.observe.amounts import bytes_text
from edgemesh.planning.wording import as_joules
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.manifest import Manifest, boundary_bytes

HEADING = ("device", "units", "bytes in", "ms predicted", "ms measured", "energy modelled")
PERIOD_HEADING = ("", "units", "jobs", "ms predicted", "ms measured", "energy modelled")


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
    the way of the messages. Energy is that of the whole job: what radios take is shared by two devices.
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
                "",
            )
        )
    predicted_run = sum(hop.queue + hop.run for hop in assignment.hops)
    measured_run = sum(timing.queue + timing.run + timing.code for timing in timings)
    carrying = _ms(assignment.seconds - predicted_run), _ms(max(0.0, measured - measured_run))
    rows.append(("transfers", "", "", *carrying, ""))
    in_all = f"0-{manifest.unit_count}"
    rows.append(("total", in_all, "", _ms(assignment.seconds), _ms(measured), _joules(assignment.joules)))
    return rows


def way_row(
    label: str, predicted: float | None, measured: float | None, joules: float | None
) -> tuple[str, ...]:
    """One row for a whole route; ``joules`` per job, by all devices together."""
    return (label, "", "", _ms_or_dash(predicted), _ms_or_dash(measured), _joules(joules))


def period_row(
    label: str,
    route: Sequence[Hop],
    jobs: int,
    predicted: float,
    measured: float | None,
    joules: float | None,
) -> tuple[str, ...]:
    """One row for the jobs of one time; ``measured`` is None where none ended."""
    return (label, route_text(route), str(jobs), _ms(predicted), _ms_or_dash(measured), _joules(joules))


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def _ms_or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else _ms(seconds)


def _joules(joules: float | None) -> str:
    return "-" if joules is None else as_joules(joules)
