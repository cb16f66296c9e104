"""Whether two outputs of one model for one input say the same, to a person who reads labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgemesh.model.outputs import detections, overlaps
from edgemesh.protocol.manifest import DetectionsOutput, Manifest

Array = np.ndarray[Any, Any]

SAME_BOX: Final = 0.5
"""Intersection over union from which two boxes are of the same object (PASCAL VOC, Everingham 2010)."""


def same_label(manifest: Manifest, found: Sequence[Array], wanted: Sequence[Array]) -> bool | None:
    """Whether the best label of ``found`` is that of ``wanted``; None where the outputs are no labels.

    With declared classes, the strongest class; with declared detections, the strongest object: of the same
    class and place. Without either, the largest value of each output that is one row of at least two numbers.
    """
    verdicts: list[bool] = []
    names = [spec.name for spec in manifest.boundaries[-1]]
    if manifest.classes is not None:
        index = names.index(manifest.classes.tensor)
        verdicts.append(_same_peak(found[index], wanted[index]))
    if manifest.detections is not None:
        declared = manifest.detections
        boxes, scores = names.index(declared.boxes), names.index(declared.scores)
        verdicts.append(
            _same_object(declared, (found[boxes], found[scores]), (wanted[boxes], wanted[scores]))
        )
    if not verdicts:
        verdicts = [_same_peak(a, b) for a, b in zip(found, wanted, strict=True) if _is_row(b)]
    return all(verdicts) if verdicts else None


def _is_row(array: Array) -> bool:
    return array.ndim > 0 and array.size == array.shape[-1] >= 2 and array.dtype.kind in "fiu"


def _same_peak(found: Array, wanted: Array) -> bool:
    a, b = (np.nan_to_num(x.reshape(-1).astype(np.float64), nan=-np.inf) for x in (found, wanted))
    # Quantised outputs tie: any of the strongest is right.
    return bool(b[a.argmax()] == b.max())


def _same_object(declared: DetectionsOutput, found: tuple[Array, Array], wanted: tuple[Array, Array]) -> bool:
    """Whether the strongest object of each side is also among the other's, or neither has any.

    Not whether the two strongest are one: of two faces as clear as each other either may come first.
    """
    a, b = detections(declared, *found), detections(declared, *wanted)
    if not a or not b:
        return not a and not b
    return _is_among(a[0], b) and _is_among(b[0], a)


def _is_among(item: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    same = np.array([item["label"] == other["label"] for other in others])
    share = overlaps(_corners(item), np.stack([_corners(other) for other in others]))
    return bool((same & (share >= SAME_BOX)).any())


def _corners(item: dict[str, Any]) -> Array:
    low = np.array([item["x"], item["y"]])
    return np.stack([low, low + np.array([item["width"], item["height"]])])
