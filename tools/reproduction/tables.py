"""Tables of results, for a terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence

from reproduction.results import Result
from reproduction.stored import Stored

_HEAD = (
    "network",
    "scenario",
    "objective",
    "policy",
    "jobs",
    "lost",
    "mean ms",
    "p50",
    "p95",
    "J",
    "J held",
    "KB",
    "switches",
    "simulated ms",
    "simulated J",
)


def rows(stored: Stored) -> list[tuple[str, ...]]:
    """One per run; energy is modelled."""
    return [_row(result) for result in stored.results.all]


def table_of(stored: Stored) -> str:
    """For a terminal."""
    return aligned([_HEAD, *rows(stored)])


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in body)])


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in table)


def head() -> tuple[str, ...]:
    """Of the columns of ``rows``."""
    return _HEAD


def _row(result: Result) -> tuple[str, ...]:
    run, figures = result.run, result.figures
    return (
        run.network,
        run.scenario,
        run.objective,
        run.policy,
        str(figures.jobs),
        str(figures.lost),
        f"{figures.mean * 1e3:.1f}",
        f"{figures.p50 * 1e3:.1f}",
        f"{figures.p95 * 1e3:.1f}",
        f"{figures.joules:.3f}",
        f"{figures.joules_held:.3f}",
        f"{figures.nbytes / 1e3:.0f}",
        str(figures.switches),
        *_simulated(result),
    )


def _simulated(result: Result) -> tuple[str, str]:
    """Mean latency and joules by the simulator, where it was asked."""
    if result.simulated is None:
        return "", ""
    return f"{result.simulated['mean'] * 1e3:.1f}", f"{result.simulated['joules']:.3f}"
