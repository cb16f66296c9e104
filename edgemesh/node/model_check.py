"""Runs a model cut at every place and compares the outputs with those of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgemesh.errors import EdgemeshError
from edgemesh.protocol.manifest import Manifest, boundary_bytes
from edgemesh.protocol.tensors import decode_tensors, section_bytes
from edgemesh.runtime.executor import OpenModel
from edgemesh.runtime.registry import runtime_for

Arrays = list[np.ndarray[Any, Any]]
Verdict = Literal["exact", "close", "refused"]

CLOSE = 1e-3
"""Largest difference that is still close, as a share of the largest output of that tensor."""


@dataclass(frozen=True)
class CutCheck:
    """What the model does when it is cut before unit ``cut``."""

    cut: int
    bytes: int
    """Of the tensors that cross the cut, under codec ``raw``."""
    verdict: Verdict
    error: float | None
    """Largest absolute difference of any output; None where there was nothing to compare."""
    reason: str | None


@dataclass(frozen=True)
class ModelCheck:
    """The verdict on every cut between two units, or why there is none on the whole."""

    model: str
    digest: str
    units: int
    cuts: tuple[CutCheck, ...]
    refused: str | None

    @property
    def holds(self) -> bool:
        """Whether every cut is exact or close."""
        return self.refused is None and all(cut.verdict != "refused" for cut in self.cuts)


def check_model(
    path: Path,
    manifest: Manifest,
    inputs: Sequence[np.ndarray[Any, Any]],
    threads: int = 1,
    watch: Callable[[int], None] = lambda cut: None,
) -> ModelCheck:
    """Run ``[0, c)`` then ``[c, U)`` for every cut ``c`` from 1 to ``U - 1`` and compare with ``[0, U)``.

    What crosses the cut is encoded and decoded as between two devices. ``watch`` is told each cut. Raises
    MissingExtraError.
    """
    units = manifest.unit_count
    try:
        opened = runtime_for(manifest.format).open(path, manifest, threads)
        whole = opened.load(0, units)
        wanted = whole.run(inputs)
        if not _same_bits(wanted, whole.run(inputs)):
            reason = (
                "the whole model gives other outputs each time it runs, so no cut can be compared with it"
            )
            return ModelCheck(manifest.name, manifest.digest, units, (), reason)
    except EdgemeshError as error:
        if error.code == "missing-extra":
            raise
        return ModelCheck(manifest.name, manifest.digest, units, (), str(error))
    cuts = []
    for cut in range(1, units):
        watch(cut)
        cuts.append(_checked_cut(opened, manifest, cut, inputs, wanted))
    return ModelCheck(manifest.name, manifest.digest, units, tuple(cuts), None)


def _checked_cut(
    opened: OpenModel, manifest: Manifest, cut: int, inputs: Sequence[np.ndarray[Any, Any]], wanted: Arrays
) -> CutCheck:
    crossing = boundary_bytes(manifest.boundaries[cut])
    try:
        alive = opened.load(0, cut).run(inputs)
        received = decode_tensors(section_bytes(alive))
        found = opened.load(cut, manifest.unit_count).run(received)
    except EdgemeshError as error:
        return CutCheck(cut, crossing, "refused", None, str(error))
    if _same_bits(found, wanted):
        return CutCheck(cut, crossing, "exact", 0.0, None)
    largest, reason = _difference(found, wanted, manifest)
    return CutCheck(cut, crossing, "close" if reason is None else "refused", largest, reason)


def _same_bits(found: Arrays, wanted: Arrays) -> bool:
    return len(found) == len(wanted) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(found, wanted)
    )


def _difference(found: Arrays, wanted: Arrays, manifest: Manifest) -> tuple[float | None, str | None]:
    """``(largest absolute difference, why that is too much or None)``."""
    worst = 0.0
    for array, whole, spec in zip(found, wanted, manifest.boundaries[-1]):
        if array.dtype != whole.dtype or array.shape != whole.shape:
            kinds = f"{array.dtype}{list(array.shape)} instead of {whole.dtype}{list(whole.shape)}"
            return None, f"output {spec.name} is {kinds}"
        kind = np.complex128 if whole.dtype.kind == "c" else np.float64
        a, b = array.astype(kind), whole.astype(kind)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        away = np.where(same, 0.0, np.abs(np.where(same, 0.0, a) - np.where(same, 0.0, b)))
        if not np.isfinite(away).all():
            return None, f"output {spec.name} has infinities or NaN where the whole model has none"
        largest = float(away.max(initial=0.0))
        worst = max(worst, largest)
        allowed = CLOSE * float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
        if largest > allowed:
            return worst, f"output {spec.name} differs by {largest:.3g}, more than {allowed:.3g}"
    return worst, None
