"""Two outputs agree when a person would read the same label, or see the same object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemesh.model.agreement import same_label
from edgemesh.protocol.manifest import (
    AnchorGrid,
    ClassesOutput,
    DetectionsOutput,
    Manifest,
    TensorSpec,
    Unit,
)


def model(outputs: dict[str, tuple[int, ...]], **treatment: Any) -> Manifest:
    ends = tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items())
    inputs = (TensorSpec("input", "float32", (4,)),)
    unit = Unit("all", 1, 1, 1, 1)
    return Manifest("m", "0" * 64, "tflite", 1, (unit,), (inputs, ends), 1, ("0" * 64,), **treatment)


def row(*values: float) -> np.ndarray[Any, Any]:
    return np.array([values], np.float32)


CLASSIFIER = model({"scores": (1, 3), "features": (1, 3)}, classes=ClassesOutput("scores"))


def test_a_classifier_agrees_by_its_strongest_class_alone() -> None:
    wanted = [row(0.1, 0.7, 0.2), row(9.0, 0.0, 0.0)]

    assert same_label(CLASSIFIER, [row(0.3, 0.4, 0.3), row(0.0, 0.0, 9.0)], wanted) is True
    assert same_label(CLASSIFIER, [row(0.5, 0.4, 0.1), row(9.0, 0.0, 0.0)], wanted) is False


def test_of_equally_strong_classes_each_is_right() -> None:
    features = row(0.0, 0.0, 0.0)
    tied = [row(0.5, 0.5, 0.0), features]

    assert same_label(CLASSIFIER, [row(0.4, 0.5, 0.0), features], tied) is True
    assert same_label(CLASSIFIER, [row(0.0, 0.1, 0.5), features], tied) is False
    assert same_label(CLASSIFIER, [row(np.nan, 0.5, 0.0), features], tied) is True


def test_without_a_declaration_a_single_row_is_taken_for_labels() -> None:
    undeclared = model({"scores": (1, 3), "map": (2, 2)})
    picture = np.zeros((2, 2), np.float32)

    assert same_label(undeclared, [row(1, 0, 0), picture], [row(2, 0, 1), picture]) is True
    assert same_label(undeclared, [row(1, 0, 0), picture], [row(0, 2, 1), picture]) is False


@pytest.mark.parametrize("shape", [(2, 2), (1, 1), (1, 3, 1), ()])
def test_outputs_that_are_no_labels_neither_agree_nor_differ(shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.float32)

    assert same_label(model({"map": shape}), [array], [array]) is None


DETECTOR = model(
    {"boxes": (1, 2, 4), "scores": (1, 2, 2)},
    detections=DetectionsOutput(
        "boxes", "scores", (AnchorGrid(1, 2, 1),), score_activation="none", labels=("cat", "dog")
    ),
)
BOXES = np.array([[[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.4]]], np.float32)


def scores(left: tuple[float, float], right: tuple[float, float]) -> np.ndarray[Any, Any]:
    return np.array([[left, right]], np.float32)


@pytest.mark.parametrize(
    "left, right, shift, agrees",
    [
        ((0.9, 0.0), (0.0, 0.0), 0.0, True),
        ((0.9, 0.0), (0.0, 0.0), 0.05, True),  # moved by an eighth of its width
        ((0.9, 0.0), (0.0, 0.0), 0.3, False),  # elsewhere
        ((0.0, 0.9), (0.0, 0.0), 0.0, False),  # a dog now
        ((0.4, 0.0), (0.0, 0.0), 0.0, False),  # no longer seen
        ((0.0, 0.0), (0.9, 0.0), 0.0, False),  # another object
    ],
)
def test_a_detector_agrees_when_its_strongest_object_is_found_again(
    left: tuple[float, float], right: tuple[float, float], shift: float, agrees: bool
) -> None:
    moved = BOXES + np.array([shift, 0, 0, 0], np.float32)
    wanted = [BOXES, scores((0.9, 0.0), (0.0, 0.0))]

    assert same_label(DETECTOR, [moved, scores(left, right)], wanted) is agrees


def test_which_of_two_clear_objects_comes_first_does_not_matter() -> None:
    first = [BOXES, scores((0.91, 0.0), (0.90, 0.0))]
    second = [BOXES, scores((0.90, 0.0), (0.91, 0.0))]

    assert same_label(DETECTOR, second, first) is True


def test_seeing_nothing_twice_is_agreement() -> None:
    nothing = [BOXES, scores((0.1, 0.0), (0.2, 0.0))]

    assert same_label(DETECTOR, nothing, nothing) is True
    assert same_label(DETECTOR, [BOXES, scores((0.9, 0.0), (0.0, 0.0))], nothing) is False
