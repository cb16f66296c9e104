"""What ``edgemesh model check`` prints: tables for people, maps for ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgemesh.cli.output import table_text
from edgemesh.observe.amounts import bytes_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgemesh.node.codec_check import CodecCheck, CodecFigure
    from edgemesh.node.model_check import ModelCheck
    from edgemesh.protocol.accuracy import AccuracyBudget

    Allowed = npt.NDArray[np.bool_]


def check_plain(found: ModelCheck) -> dict[str, Any]:
    """Every key of each cut is there, whatever its value: the form is a contract."""
    return {
        "model": found.model,
        "digest": found.digest,
        "units": found.units,
        "cuts": [
            {"cut": c.cut, "bytes": c.bytes, "verdict": c.verdict, "error": c.error, "reason": c.reason}
            for c in found.cuts
        ],
        "refused": found.refused,
    }


def check_text(found: ModelCheck) -> str:
    """One row per cut, and a count of the verdicts."""
    if found.refused is not None:
        return f"{found.model}: refused: {found.refused}"
    rows = [
        (str(c.cut), bytes_text(c.bytes), c.verdict, _figure_text(c.error), c.reason or "")
        for c in found.cuts
    ]
    counts = {
        verdict: sum(c.verdict == verdict for c in found.cuts) for verdict in ("exact", "close", "refused")
    }
    summary = (
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to cut"
    )
    table = table_text(("cut", "bytes", "verdict", "error", "reason"), rows) + "\n" if rows else ""
    return f"{table}{found.model}: {found.units} units, {len(found.cuts)} cuts: {summary}"


def codecs_plain(found: CodecCheck, budget: AccuracyBudget, allowed: Allowed) -> dict[str, Any]:
    """``allowed[cut, codec]``, the codecs in the order of the figures."""
    return {
        "model": found.model,
        "digest": found.digest,
        "units": found.units,
        "samples": found.samples,
        "inputs": found.inputs,
        "budget": {"max_error": budget.max_error, "min_agreement": budget.min_agreement},
        "cuts": [
            {
                "cut": c.cut,
                "bytes": c.raw_bytes,
                "codecs": [
                    {
                        "codec": figure.codec,
                        "bytes": figure.bytes,
                        "error": figure.error,
                        "largest": figure.largest,
                        "agreement": figure.agreement,
                        "allowed": bool(allowed[c.cut, place]),
                        "reason": figure.reason,
                    }
                    for place, figure in enumerate(c.codecs)
                ],
            }
            for c in found.cuts
        ],
        "refused": found.refused,
    }


def codecs_text(found: CodecCheck, budget: AccuracyBudget, allowed: Allowed) -> str:
    """One row per cut with a group of columns per codec, and how many cuts each codec may carry."""
    if found.refused is not None:
        return f"{found.model}: refused: {found.refused}"
    if not found.cuts:
        return f"{found.model}: one unit, nothing to cut"
    names = [figure.codec for figure in found.cuts[0].codecs]
    heading = ["cut", "raw"]
    for name in names:
        heading += [name, "error", "largest", "agree"]
    rows = []
    for c in found.cuts:
        within = [name for place, name in enumerate(names) if allowed[c.cut, place]]
        row = [str(c.cut), bytes_text(c.raw_bytes)]
        for figure in c.codecs:
            row += _cells(figure)
        rows.append((*row, " ".join(within) or "none"))
    counts = ", ".join(f"{name} at {int(allowed[:, place].sum())}" for place, name in enumerate(names))
    lines = [
        table_text((*heading, "within the budget"), rows),
        *_reasons(found),
        f"{found.model}: {len(found.cuts)} cuts, measured on {found.inputs}",
        f"budget: error at most {budget.max_error:g}, the same best label for "
        f"{budget.min_agreement:.0%} of the samples; within it: {counts} cuts",
    ]
    return "\n".join(lines)


def _cells(figure: CodecFigure) -> list[str]:
    agreement = "-" if figure.agreement is None else f"{figure.agreement:.0%}"
    return [bytes_text(figure.bytes), _figure_text(figure.error), _figure_text(figure.largest), agreement]


def _reasons(found: CodecCheck) -> list[str]:
    return [
        f"cut {cut.cut}, {figure.codec}: {figure.reason}"
        for cut in found.cuts
        for figure in cut.codecs
        if figure.reason is not None
    ]


def _figure_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
