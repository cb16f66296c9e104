from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgemesh.errors import DecodeError
from edgemesh.model.inputs import Placement
from edgemesh.model.outputs import SHOWN_VALUES, anchor_centres, detections, overlaps, results, top_classes
from edgemesh.protocol.manifest import (
    AnchorGrid,
    ClassesOutput,
    DetectionsOutput,
    ImageInput,
    Manifest,
    Quantization,
    TensorSpec,
    Unit,
)

ONE_CELL = (AnchorGrid(1, 1, 1),)
TWO_BY_TWO = (AnchorGrid(2, 2, 1),)


def manifest(outputs: dict[str, tuple[int, ...]], **treatment: object) -> Manifest:
    inputs = (TensorSpec("input", "float32", (1, 8, 8, 3)),)
    ends = tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items())
    unit = Unit("all", 1, 1, 1, 1)
    return Manifest("m", "0" * 64, "tflite", 1, (unit,), (inputs, ends), 1, ("0" * 64,), **treatment)


def head(anchors=ONE_CELL, **changes: object) -> DetectionsOutput:
    settings = {"boxes": "b", "scores": "s", "score_activation": "none", "labels": ("face",)}
    return DetectionsOutput(anchors=anchors, **{**settings, **changes})


def found(declared: DetectionsOutput, boxes: list, scores: list, placement=Placement()) -> list[dict]:
    return detections(declared, np.array([boxes], np.float32), np.array([scores], np.float32), placement)


def test_anchors_are_cell_centres_row_by_row_repeated_per_cell():
    centres = anchor_centres((AnchorGrid(rows=1, columns=2, count=2), AnchorGrid(2, 1, 1)))

    assert centres.tolist() == [
        [0.25, 0.5], [0.25, 0.5], [0.75, 0.5], [0.75, 0.5],
        [0.5, 0.25], [0.5, 0.75],
    ]  # fmt: skip


def test_a_box_is_its_anchor_plus_the_offset_in_input_pixels():
    # Centre 0.5 + 10 / 100, 0.5 - 20 / 100; a fifth wide, two fifths high.
    (face,) = found(head(box_span=100.0), [[10, -20, 20, 40]], [[0.9]])

    assert face == {
        "label": "face", "score": 0.9, "x": 0.5, "y": 0.1, "width": 0.2, "height": 0.4, "landmarks": {},
    }  # fmt: skip


def test_landmarks_come_by_name_relative_to_the_anchor():
    (face,) = found(head(landmarks=("nose", "chin")), [[0, 0, 1, 1, 0.1, 0.2, 0, 0.4]], [[0.9]])

    assert face["landmarks"] == {"nose": [0.6, 0.7], "chin": [0.5, 0.9]}


def test_boxes_come_out_relative_to_the_photograph_and_not_to_the_bars():
    bars_above_and_below = Placement(left=0.0, top=-0.5, width=1.0, height=2.0)

    (face,) = found(head(), [[0, 0, 0.5, 0.25]], [[0.9]], bars_above_and_below)

    assert [face[k] for k in ("x", "y", "width", "height")] == [0.25, 0.25, 0.5, 0.5]


def test_what_lies_in_the_bars_is_dropped():
    bars_above_and_below = Placement(left=0.0, top=-0.5, width=1.0, height=2.0)

    assert found(head(), [[0, -0.4, 0.1, 0.1]], [[0.9]], bars_above_and_below) == []


def test_quantised_boxes_and_scores_count_as_the_real_numbers_that_they_stand_for():
    declared = head(
        box_span=100.0,
        boxes_quantization=Quantization(0.5, 10),
        scores_quantization=Quantization(1 / 256, -128),
    )

    stored = np.array([[[30, -30, 50, 90]]], np.int8), np.array([[[100]]], np.int8)

    # The box of the test above, and (100 + 128) / 256.
    (face,) = detections(declared, *stored)
    assert [face[k] for k in ("score", "x", "y", "width", "height")] == [0.89062, 0.5, 0.1, 0.2, 0.4]
    assert detections(replace(declared, min_score=0.9), *stored) == []


def test_overlapping_boxes_become_one_averaged_by_score():
    declared = head((AnchorGrid(1, 1, 3),))

    faces = found(
        declared, [[0.0, 0, 0.4, 0.4], [0.04, 0, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2]], [[0.6], [0.9], [0.7]]
    )

    # The first two: centre 0.5 + 0.04 * 0.9 / 1.5 = 0.524, left edge at 0.324; the third stands alone.
    assert [(f["score"], f["x"]) for f in faces] == [(0.9, 0.324), (0.7, 0.7)]


def test_boxes_of_different_classes_do_not_absorb_each_other():
    declared = head((AnchorGrid(1, 1, 2),), labels=("cat", "dog"))

    both = found(declared, [[0, 0, 1, 1], [0, 0, 1, 1]], [[0.9, 0.1], [0.2, 0.8]])

    assert [(f["label"], f["score"]) for f in both] == [("cat", 0.9), ("dog", 0.8)]


def test_scores_below_the_threshold_and_boxes_beyond_the_count_are_left_out():
    boxes = [[0, 0, 0.2, 0.2]] * 4

    faces = found(head(TWO_BY_TWO, max_boxes=2), boxes, [[0.6], [0.9], [0.4], [0.8]])

    assert [f["score"] for f in faces] == [0.9, 0.8]


def test_sigmoid_scores_are_clipped_before_the_exponential():
    with np.errstate(all="raise"):
        (face,) = found(head(score_activation="sigmoid"), [[0, 0, 1, 1]], [[3.0e38]])

    assert face["score"] == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_detection(bad):
    boxes = [[0, 0, 0.2, 0.2], [bad, 0, 0.2, 0.2], [0, 0, 0.2, 0.2], [0, 0, bad, 0.2]]

    faces = found(head(TWO_BY_TWO), boxes, [[0.9], [0.9], [math.nan], [0.9]])

    assert len(faces) == 1


def test_a_box_turned_inside_out_is_no_detection():
    assert found(head(), [[0, 0, -0.5, 0.5]], [[0.9]]) == []


@given(
    hnp.arrays(np.float32, (1, 8, 8), elements=st.floats(width=32)),
    hnp.arrays(np.float32, (1, 8, 2), elements=st.floats(width=32)),
    st.sampled_from(["none", "sigmoid"]),
)
def test_any_tensor_gives_json_with_boxes_inside_the_photograph(boxes, scores, activation):
    declared = head((AnchorGrid(2, 2, 2),), score_activation=activation, min_score=0.0, landmarks=("a", "b"))

    faces = detections(declared, boxes, scores)

    json.dumps(faces, allow_nan=False)
    for face in faces:
        assert face["x"] >= 0 and face["x"] + face["width"] <= 1 + 1e-5
        assert face["y"] >= 0 and face["y"] + face["height"] <= 1 + 1e-5
    assert [f["score"] for f in faces] == sorted((f["score"] for f in faces), reverse=True)


def test_overlap_is_intersection_over_union():
    box = np.array([[0.0, 0.0], [2.0, 2.0]])
    others = np.array([[[0, 0], [2, 2]], [[1, 0], [3, 2]], [[2, 2], [3, 3]]], float)

    assert overlaps(box, others).tolist() == pytest.approx([1.0, 1 / 3, 0.0])


def test_top_classes_come_best_first_with_label_or_number():
    declared = ClassesOutput("logits", top_k=2, labels=("cat", "dog"))

    best = top_classes(declared, np.array([[0.1, 0.2, 0.7]], np.float32))

    assert best == [
        {"index": 2, "label": "2", "score": 0.7},
        {"index": 1, "label": "dog", "score": 0.2},
    ]


def test_softmax_of_huge_logits_stays_finite():
    best = top_classes(
        ClassesOutput("l", top_k=2, activation="softmax"), np.array([3e38, 3e38, 0], np.float32)
    )

    assert [b["score"] for b in best] == [0.5, 0.5]


def test_sigmoid_scores_each_class_alone():
    best = top_classes(ClassesOutput("l", activation="sigmoid"), np.array([0.0, 1000.0], np.float32))

    assert [b["score"] for b in best] == [1.0, 0.5]


def test_scores_that_are_no_number_are_never_among_the_best():
    best = top_classes(
        ClassesOutput("l", activation="softmax"), np.array([math.nan, 1.0, math.inf], np.float32)
    )

    assert [b["index"] for b in best] == [1] and best[0]["score"] == 1.0
    assert top_classes(ClassesOutput("l"), np.array([math.nan], np.float32)) == []


def test_undeclared_outputs_come_as_tensors_with_values_while_they_are_few():
    plain = results(
        manifest({"few": (1, 2), "many": (1, SHOWN_VALUES + 1)}),
        [np.array([[1.5, math.nan]], np.float32), np.zeros((1, SHOWN_VALUES + 1), np.float32)],
    )

    assert plain == {
        "tensors": [
            {"name": "few", "dtype": "float32", "shape": [1, 2], "values": [1.5, None]},
            {"name": "many", "dtype": "float32", "shape": [1, SHOWN_VALUES + 1]},
        ]
    }


def test_declared_outputs_are_found_by_name():
    declared = manifest(
        {"s": (1, 1, 1), "b": (1, 1, 4), "logits": (1, 3)},
        detections=head(),
        classes=ClassesOutput("logits", 1),
    )

    plain = results(
        declared,
        [np.full((1, 1, 1), 0.9, np.float32), np.ones((1, 1, 4), np.float32), np.eye(1, 3, dtype=np.float32)],
    )

    assert set(plain) == {"classes", "detections"} and plain["classes"][0]["index"] == 0


def test_outputs_that_contradict_the_manifest_are_refused():
    with pytest.raises(DecodeError, match="outputs of model m"):
        results(manifest({"x": (1, 2)}), [np.zeros((1, 3), np.float32)])


@pytest.mark.parametrize(
    ("outputs", "treatment", "reason"),
    [
        ({"x": (1, 2)}, {"classes": ClassesOutput("y")}, "no real-valued output 'y'"),
        ({"b": (1, 3, 4), "s": (1, 1, 1)}, {"detections": head()}, r"boxes .* not \(1, 1, 4 or more\)"),
        ({"b": (1, 1, 4), "s": (1, 1)}, {"detections": head()}, "scores"),
        ({"b": (1, 1, 5), "s": (1, 1, 1)}, {"detections": head(landmarks=("a",))}, "6 or more"),
        ({"x": (1, 2)}, {"image": ImageInput(9, 8)}, r"one input of shape \(1, 8, 9, 3\)"),
    ],
)
def test_a_manifest_whose_treatment_does_not_fit_its_tensors_is_refused(outputs, treatment, reason):
    with pytest.raises(DecodeError, match=reason):
        manifest(outputs, **treatment)
