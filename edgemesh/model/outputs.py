"""Outputs of a model as plain values: top classes, detections on the photograph, or plain tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from edgemesh.errors import DecodeError
from edgemesh.model.inputs import WHOLE, Placement
from edgemesh.model.quantization import real_values
from edgemesh.protocol.manifest import AnchorGrid, ClassesOutput, DetectionsOutput, Manifest

Array = np.ndarray[Any, Any]

SHOWN_VALUES: Final = 4096
"""A tensor of more elements is named in a result without its values: a result is JSON for people and apps."""
CANDIDATES: Final = 1024
"""Boxes that enter the suppression; a face wakes about five anchors, so this is some 200 objects."""


def results(
    manifest: Manifest, outputs: Sequence[Array], placement: Placement = WHOLE
) -> dict[str, list[dict[str, Any]]]:
    """JSON-able results of a job whose last boundary is ``outputs``.

    With declared treatment ``{"classes": [...]}`` (see ``top_classes``) and ``{"detections": [...]}`` (see
    ``detections``), otherwise ``{"tensors": [...]}`` (see ``plain_tensor``). Raises DecodeError when the
    arrays are not what the manifest says.
    """
    named = _named(manifest, outputs)
    found: dict[str, list[dict[str, Any]]] = {}
    if manifest.classes is not None:
        found["classes"] = top_classes(manifest.classes, named[manifest.classes.tensor])
    if manifest.detections is not None:
        boxes, scores = named[manifest.detections.boxes], named[manifest.detections.scores]
        found["detections"] = detections(manifest.detections, boxes, scores, placement)
    return found or {"tensors": [plain_tensor(name, array) for name, array in named.items()]}


def _named(manifest: Manifest, outputs: Sequence[Array]) -> dict[str, Array]:
    boundary = manifest.boundaries[-1]
    found = [(array.shape, array.dtype.name) for array in outputs]
    wanted = [(spec.shape, spec.dtype) for spec in boundary]
    if found != wanted:
        raise DecodeError(f"outputs of model {manifest.name} are {found[:4]}, its manifest says {wanted[:4]}")
    return {spec.name: array for spec, array in zip(boundary, outputs)}


def top_classes(declared: ClassesOutput, scores: Array) -> list[dict[str, Any]]:
    """The strongest classes, best first: ``{"index", "label", "score"}``; one that is no number is out."""
    values = real_values(scores.reshape(-1), declared.quantization)
    values = np.where(np.isfinite(values), values, -np.inf)
    order = np.argsort(-values, kind="stable")[: declared.top_k]
    order = order[np.isfinite(values[order])]
    if declared.activation == "softmax" and order.size:
        values = np.exp(values - values[order[0]])
        values /= values.sum()
    elif declared.activation == "sigmoid":
        values = _sigmoid(values)
    return [
        {"index": int(i), "label": _label(declared.labels, int(i)), "score": _rounded(values[i], 5)}
        for i in order
    ]


def detections(
    declared: DetectionsOutput, boxes: Array, scores: Array, placement: Placement = WHOLE
) -> list[dict[str, Any]]:
    """Objects on the photograph, strongest first.

    Each is ``{"label", "score", "x", "y", "width", "height", "landmarks": {name: [x, y]}}`` in fractions of
    the photograph, ``x`` and ``y`` its left upper corner. Boxes are held to the photograph; a landmark may
    lie just outside it.
    """
    strength, kind = _strengths(declared, scores[0])
    anchors = np.flatnonzero(strength >= declared.min_score)
    anchors = anchors[np.argsort(-strength[anchors], kind="stable")[:CANDIDATES]]
    corners, marks = _decoded(declared, boxes[0], anchors)
    sound = np.isfinite(corners).all(axis=(1, 2)) & np.isfinite(marks).all(axis=(1, 2))
    sound &= (corners[:, 1] > corners[:, 0]).all(axis=1)
    points = np.concatenate([corners, marks], axis=1)[sound]
    strength, kind = strength[anchors][sound], kind[anchors][sound]
    found: list[dict[str, Any]] = []
    for first, merged in _averaged(points, strength, kind, declared.max_overlap):
        shown = placement.to_photograph(merged)
        low, high = shown[:2].clip(0.0, 1.0)
        if (high <= low).any():
            continue  # it lies in the bars of the letterbox
        found.append(
            {
                "label": _label(declared.labels, int(kind[first])),
                "score": _rounded(strength[first], 5),
                "x": _rounded(low[0], 6),
                "y": _rounded(low[1], 6),
                "width": _rounded(high[0] - low[0], 6),
                "height": _rounded(high[1] - low[1], 6),
                "landmarks": {
                    name: [_rounded(x, 6), _rounded(y, 6)]
                    for name, (x, y) in zip(declared.landmarks, shown[2:])
                },
            }
        )
        if len(found) == declared.max_boxes:
            break
    return found


def _strengths(declared: DetectionsOutput, scores: Array) -> tuple[Array, Array]:
    """Score ``[anchors]`` of the best class of each anchor, and that class."""
    real = real_values(scores, declared.scores_quantization).astype(np.float32)
    raw = np.nan_to_num(real, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    kind = raw.argmax(axis=1)
    best = raw[np.arange(len(raw)), kind]
    if declared.score_activation == "sigmoid":
        # Clipped as MediaPipe does (score_clipping_thresh), so that exp stays finite.
        return _sigmoid(best.clip(-declared.score_clip, declared.score_clip)), kind
    return np.where(np.isfinite(best), best, -np.inf), kind


def _decoded(declared: DetectionsOutput, boxes: Array, chosen: Array) -> tuple[Array, Array]:
    """Corners ``[n, 2, 2]`` and landmarks ``[n, L, 2]`` of the chosen anchors, in fractions of the input."""
    centres = anchor_centres(declared.anchors)[chosen]
    values = real_values(boxes[chosen], declared.boxes_quantization) / declared.box_span
    middle, half = centres + values[:, 0:2], values[:, 2:4] / 2.0
    count = len(declared.landmarks)
    marks = values[:, 4 : 4 + 2 * count].reshape(len(chosen), count, 2) + centres[:, None, :]
    with np.errstate(invalid="ignore"):  # what is no number is dropped by the caller
        return np.stack([middle - half, middle + half], axis=1), marks


@lru_cache(maxsize=16)
def anchor_centres(grids: tuple[AnchorGrid, ...]) -> Array:
    """Centres ``[anchors, 2]`` (x, y) in fractions of the input: grid by grid, row by row, cell by cell."""
    parts = []
    for grid in grids:
        x = (np.arange(grid.columns) + 0.5) / grid.columns
        y = (np.arange(grid.rows) + 0.5) / grid.rows
        cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        parts.append(np.repeat(cells, grid.count, axis=0))
    centres = np.concatenate(parts) if parts else np.zeros((0, 2))
    centres.flags.writeable = False
    return centres


def _averaged(points: Array, strength: Array, kind: Array, max_overlap: float) -> Iterator[tuple[int, Array]]:
    """Yield ``(index of the strongest, points averaged over its group)`` of each object, strongest first.

    Points ``[n, 2 + L, 2]`` come in order of falling strength. Weighted suppression as in BlazeFace
    (Bazarevsky et al. 2019, arXiv 1907.05047): boxes of one class that overlap the strongest are averaged
    with it by score and do not vanish, which steadies boxes and landmarks from frame to frame.
    """
    left = np.arange(len(points))
    while left.size:
        first = left[0]
        same = (kind[left] == kind[first]) & (overlaps(points[first, :2], points[left, :2]) > max_overlap)
        same[0] = True
        group = left[same]
        # Every group of scores that are all 0 (a threshold of 0) still needs a mean.
        weight = np.maximum(strength[group], 1e-9)
        yield int(first), np.average(points[group], axis=0, weights=weight)
        left = left[~same]


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box (corners ``[2, 2]``) with each of ``others`` (``[n, 2, 2]``)."""
    low, high = np.maximum(box[0], others[:, 0]), np.minimum(box[1], others[:, 1])
    shared = (high - low).clip(0.0).prod(axis=1)
    union = (box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def plain_tensor(name: str, array: Array) -> dict[str, Any]:
    """``{"name", "dtype", "shape", "values"}``: values flat in C order, None where JSON has no number.

    Without ``values`` when there are more than ``SHOWN_VALUES``; complex numbers as [real, imaginary].
    """
    plain: dict[str, Any] = {"name": name, "dtype": array.dtype.name, "shape": [int(n) for n in array.shape]}
    if array.size <= SHOWN_VALUES:
        flat = array.reshape(-1)
        if flat.dtype.kind == "c":
            plain["values"] = [[_finite(value.real), _finite(value.imag)] for value in flat.tolist()]
        else:
            plain["values"] = [_finite(value) for value in flat.tolist()]
    return plain


def _finite(value: Any) -> Any:
    return value if math.isfinite(value) else None


def _sigmoid(values: Array) -> Array:
    # The clip keeps exp in range; beyond it the result is 0 or 1 in single precision anyway.
    return np.asarray(1.0 / (1.0 + np.exp(-values.clip(-500.0, 500.0).astype(np.float64))))


def _label(labels: tuple[str, ...], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)


def _rounded(value: Any, digits: int) -> float:
    return round(float(value), digits)
