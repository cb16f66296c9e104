"""Measures what each lossy codec at each cut does to a model's outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_UP, Context
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgemesh.errors import EdgemeshError
from edgemesh.model.agreement import same_label
from edgemesh.model.codec_accuracy import lossy_codecs
from edgemesh.model.codec_sizes import carried_bytes, is_changed
from edgemesh.node.samples import Arrays, Samples
from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.tensors import decode_tensors, section_bytes
from edgemesh.runtime.executor import OpenModel
from edgemesh.runtime.registry import runtime_for

_DIGITS: Final = Context(prec=3, rounding=ROUND_UP)
"""Figures are kept with three digits, never below what was measured: they are held against a budget."""


@dataclass(frozen=True)
class CodecFigure:
    """One codec at one cut."""

    codec: str
    bytes: int
    """Of the tensors that cross the cut, under the codec."""
    error: float | None
    """``|y - y'| / |y|``, the worst over samples and outputs; None where there is no such number."""
    largest: float | None
    """Largest absolute difference of any output value."""
    agreement: float | None
    """Share of samples whose best label stayed; None for outputs that are no labels."""
    reason: str | None
    """Why there is no error."""


@dataclass(frozen=True)
class CutFigures:
    """All lossy codecs at the cut before unit ``cut``."""

    cut: int
    raw_bytes: int
    codecs: tuple[CodecFigure, ...]


@dataclass(frozen=True)
class CodecCheck:
    """The figures of every cut between two units, or why there are none."""

    model: str
    digest: str
    units: int
    samples: int
    inputs: str
    cuts: tuple[CutFigures, ...]
    refused: str | None

    @property
    def codec_errors(self) -> tuple[CodecErrors, ...]:
        """As the manifest keeps them: nothing at both ends, which travel raw."""
        found = []
        for place, codec in enumerate(lossy_codecs()):
            column = [cut.codecs[place] for cut in self.cuts]
            if column:
                found.append(
                    CodecErrors(
                        codec,
                        (None, *(figure.error for figure in column), None),
                        (None, *(figure.largest for figure in column), None),
                        (None, *(figure.agreement for figure in column), None),
                        self.samples,
                        self.inputs,
                    )
                )
        return tuple(found)


def check_codecs(
    path: Path,
    manifest: Manifest,
    samples: Samples,
    threads: int = 1,
    watch: Callable[[int], None] = lambda cut: None,
) -> CodecCheck:
    """Run ``[0, c)`` once per sample for every cut ``c`` between units, and ``[c, U)`` once per codec on it.

    What crosses the cut is encoded and decoded as between two devices. ``watch`` is told each cut. Raises
    MissingExtraError.
    """
    cuts: list[CutFigures] = []
    refused = None
    try:
        opened = runtime_for(manifest.format).open(path, manifest, threads)
        whole = opened.load(0, manifest.unit_count)
        wanted = [whole.run(inputs) for inputs in samples.inputs]
        del whole
        for cut in range(1, manifest.unit_count):
            watch(cut)
            cuts.append(_cut_figures(opened, manifest, cut, samples, wanted))
    except EdgemeshError as error:
        if error.code == "missing-extra":
            raise
        refused = str(error)
    return CodecCheck(
        manifest.name,
        manifest.digest,
        manifest.unit_count,
        len(samples.inputs),
        samples.described,
        tuple(cuts) if refused is None else (),
        refused,
    )


def _cut_figures(
    opened: OpenModel, manifest: Manifest, cut: int, samples: Samples, wanted: list[Arrays]
) -> CutFigures:
    boundary = manifest.boundaries[cut]
    reason = ""
    try:
        before = opened.load(0, cut)
        alive = [before.run(inputs) for inputs in samples.inputs]
        del before  # or the weights are in memory twice
        after = opened.load(cut, manifest.unit_count)
    except EdgemeshError as error:
        reason = str(error)

    def figure(codec: str) -> CodecFigure:
        if reason:
            return _unmeasured(manifest, cut, codec, reason)
        if not is_changed(boundary, codec):
            return compared(manifest, cut, codec, wanted, wanted)  # integers and masks pass as they are
        try:
            found = [after.run(decode_tensors(section_bytes(tensors, codec))) for tensors in alive]
        except EdgemeshError as error:
            return _unmeasured(manifest, cut, codec, str(error))
        return compared(manifest, cut, codec, found, wanted)

    figures = tuple(figure(codec) for codec in lossy_codecs())
    return CutFigures(cut, carried_bytes(boundary, "raw"), figures)


def _unmeasured(manifest: Manifest, cut: int, codec: str, reason: str) -> CodecFigure:
    return CodecFigure(codec, carried_bytes(manifest.boundaries[cut], codec), None, None, None, reason)


def compared(
    manifest: Manifest, cut: int, codec: str, found: list[Arrays], wanted: list[Arrays]
) -> CodecFigure:
    """The figure of one codec at one cut from the outputs of each sample with it, and without."""
    error = largest = 0.0
    for outputs, whole in zip(found, wanted, strict=True):
        for array, reference, spec in zip(outputs, whole, manifest.boundaries[-1], strict=True):
            difference, norm, most = _distances(array, reference)
            if not math.isfinite(most):
                reason = f"output {spec.name} is not finite where it is without the codec"
                return _unmeasured(manifest, cut, codec, reason)
            share = 0.0 if not difference else difference / norm if norm else math.inf
            if not math.isfinite(share):
                reason = f"output {spec.name} is all but zero without the codec: no error relative to that"
                return _unmeasured(manifest, cut, codec, reason)
            error = max(error, share)
            largest = max(largest, most)
    verdicts = [same_label(manifest, outputs, whole) for outputs, whole in zip(found, wanted, strict=True)]
    agreement = None if None in verdicts else sum(map(bool, verdicts)) / len(verdicts)
    nbytes = carried_bytes(manifest.boundaries[cut], codec)
    return CodecFigure(codec, nbytes, _rounded(error), _rounded(largest), agreement, None)


def _distances(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """2-norms of the difference and of ``wanted``, and the largest absolute difference.

    A value that is the same infinity, or no number, on both sides does not count.
    """
    kind = np.complex128 if wanted.dtype.kind == "c" else np.float64
    a, b = found.astype(kind).reshape(-1), wanted.astype(kind).reshape(-1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    a, b = np.where(same & ~np.isfinite(b), 0.0, a), np.where(same & ~np.isfinite(b), 0.0, b)
    away = np.abs(a - b)
    return float(np.linalg.norm(away)), float(np.linalg.norm(b)), float(away.max(initial=0.0))


def _rounded(value: float) -> float:
    return float(_DIGITS.create_decimal_from_float(value))
