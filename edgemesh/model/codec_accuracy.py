"""Which codecs may carry which cut of a model, judged by what was measured of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edgemesh.protocol.accuracy import AccuracyBudget, CodecErrors
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.manifest import Manifest

_PACKED: Final = "+zstd"


def lossy_codecs() -> tuple[str, ...]:
    """Names of the codecs that change values, without their compressed forms, which change no more."""
    return tuple(codec.name for codec in CODECS.values() if not (codec.lossless or codec.compressed))


def allowed_codecs(
    manifest: Manifest, codecs: Sequence[str], accuracy: AccuracyBudget, *, lossy_crossings: int = 1
) -> npt.NDArray[np.bool_]:
    """``allowed[cut, k]``, shape ``[U + 1, K]``: whether ``codecs[k]`` may carry the cut.

    A lossless codec may anywhere but at the ends, a lossy one where its measured error and agreement are
    within the budget; what was not measured is not used. Input and output travel raw: the wire contract has
    no other place for them. ``lossy_crossings`` of one route share the budget in equal parts, so that their
    errors together stay within it (see ``route_error``). A name that is no codec is allowed nowhere.
    """
    allowed = np.zeros((manifest.unit_count + 1, len(codecs)), dtype=bool)
    for column, name in enumerate(codecs):
        codec = CODECS.get(name)
        if codec is None:
            continue
        if codec.lossless:
            allowed[:, column] = True
        else:
            allowed[:, column] = _within(manifest, name, accuracy, lossy_crossings)
        if name != "raw":
            allowed[[0, -1], column] = False
    return allowed


def route_error(manifest: Manifest, crossings: Iterable[tuple[int, str]]) -> float:
    """Bound on the relative output error of a route that sends each ``(cut, codec)``; infinite if unmeasured.

    The sum of what each loses alone: exact to first order in small errors, by the triangle inequality.
    """
    total = 0.0
    for cut, name in crossings:
        codec = CODECS.get(name)
        if codec is not None and codec.lossless:
            continue
        figures = _figures(manifest, name)
        error = figures.error[cut] if figures is not None else None
        if error is None:
            return float("inf")
        total += error
    return total


def _within(
    manifest: Manifest, name: str, accuracy: AccuracyBudget, lossy_crossings: int
) -> npt.NDArray[np.bool_]:
    """``[U + 1]``: whether the figures of a lossy codec are within the budget."""
    cuts = manifest.unit_count + 1
    figures = _figures(manifest, name)
    if figures is None:
        return np.zeros(cuts, dtype=bool)
    error = np.array([np.inf if e is None else e for e in figures.error])
    # No agreement beside an error: the outputs are no labels, and there is nothing to agree on.
    agreement = np.array([1.0 if a is None else a for a in figures.agreement])
    share = accuracy.max_error / max(lossy_crossings, 1)
    within: npt.NDArray[np.bool_] = (error <= share) & (agreement >= accuracy.min_agreement)
    return within


def _figures(manifest: Manifest, name: str) -> CodecErrors | None:
    plain = name.removesuffix(_PACKED)
    return next((each for each in manifest.codec_errors if each.codec == plain), None)
