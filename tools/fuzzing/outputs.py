"""Outputs of a model, rendered for people and apps: tensors that another device sent."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from edgemesh.node.rendering import rendered
from edgemesh.protocol.manifest import (
    AnchorGrid,
    ClassesOutput,
    DetectionsOutput,
    Manifest,
    Quantization,
    TensorSpec,
    Unit,
)
from edgemesh.protocol.tensors import section_bytes
from edgemesh.roles.actions import JobEnded
from fuzzing.target import Target

_BOXES, _SCORES = (1, 4, 8), (1, 4, 1)


def output_targets() -> list[Target]:
    """The one there is."""
    return [Target("outputs", _outputs, _sections)]


def _outputs(payload: bytes) -> object:
    """The first byte chooses the model. What is no number must not get into the JSON."""
    manifests = _manifests()
    manifest = manifests[payload[0] % len(manifests)] if payload else manifests[0]
    text = rendered(JobEnded("job", "model", 0.5, section=payload[1:]), manifest, None)
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> object:
    raise AssertionError(f"a result holds {name}")


@cache
def _manifests() -> tuple[Manifest, ...]:
    """Scores and boxes as floats and as 8 bits, and tensors that nobody treats."""
    boxes = DetectionsOutput(
        "boxes", "scores", anchors=(AnchorGrid(2, 2, 1),), labels=("face",), landmarks=("right", "left")
    )
    classes = ClassesOutput("scores", top_k=3, activation="softmax", labels=("cat",))
    ends = TensorSpec("boxes", "float32", _BOXES), TensorSpec("scores", "float32", _SCORES)
    eighths = TensorSpec("scores", "uint8", _SCORES)
    quantised = ClassesOutput("scores", activation="sigmoid", quantization=Quantization(0.125, 3))
    return (
        _manifest(ends, detections=boxes, classes=classes),
        _manifest((eighths,), classes=quantised),
        _manifest((TensorSpec("any", "complex64", (2, 2)), TensorSpec("half", "float16", ()))),
    )


def _manifest(outputs: tuple[TensorSpec, ...], **treatment: Any) -> Manifest:
    inputs = (TensorSpec("input", "float32", (1, 8, 8, 3)),)
    unit, digest = Unit("all", 1, 1, 1, 1), "0" * 64
    return Manifest("model", digest, "tflite", 1, (unit,), (inputs, outputs), 1, (digest,), **treatment)


def _sections() -> list[bytes]:
    """One for each model, under the codecs that keep what is no number and one that cannot."""
    seeds = []
    for number, manifest in enumerate(_manifests()):
        arrays = [np.ones(spec.shape, spec.dtype) for spec in manifest.boundaries[-1]]
        seeds += [bytes([number]) + section_bytes(arrays, codec) for codec in ("raw", "f16")]
    return seeds
