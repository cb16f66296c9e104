"""What is assumed of pictures and outputs of quantised models, and what wins over it.

Found by a reader: the pictures of an 8-bit model were all zeros and ones, and its scores whole numbers.
"""

from __future__ import annotations

import io
from array import array
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from edgemesh.cli.treatment_options import TreatmentFlags
from edgemesh.errors import SettingsError
from edgemesh.model.outputs import results
from edgemesh.node.model_import import ImportOptions, Treatment, import_model, manifest_of
from edgemesh.node.treatment import read_treatment
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import ClassesOutput, Manifest, Quantization
from edgemesh.runtime.payloads import input_tensors
from tests.tflite_models import ModelBuilder

NO_FLAGS: dict[str, Any] = {
    "file": None, "extent": None, "mean": None, "scale": None, "fit": None, "labels": None, "top_k": None,
}  # fmt: skip
STEP = float(np.float32(1 / 255))
ORANGE = (255, 64, 0)


def quantised(scale: float, zero_point: int) -> dict[str, Any]:
    table = {"scale": memoryview(array("f", [scale])), "zero_point": memoryview(array("q", [zero_point]))}
    return {"quantization": table}


def pooled(path: Path, dtype: str, **fields: Any) -> Path:
    """A model from a picture of 4 x 4 pixels to the mean of each colour, both ends of one kind."""
    builder = ModelBuilder()
    picture = builder.tensor((1, 4, 4, 3), dtype=dtype, **fields)
    colours = builder.tensor((1, 1, 1, 3), dtype=dtype, **fields)
    window = {"padding": 1, "stride_w": 4, "stride_h": 4, "filter_width": 4, "filter_height": 4}
    builder.operator("AVERAGE_POOL_2D", [picture], [colours], ("Pool2DOptions", window))
    builder.ends([picture], [colours])
    path.write_bytes(builder.content())
    return path


def by_flags(path: Path, **flags: Any) -> Manifest:
    given = TreatmentFlags(**{**NO_FLAGS, "extent": (4, 4), "top_k": 3, **flags})
    return given.applied(manifest_of(path, "colours", "tflite", Treatment()), path)


def by_file(path: Path, text: str) -> Manifest:
    file = path.with_suffix(".toml")
    file.write_text(text)
    options = ImportOptions(treatment=read_treatment(file))
    return import_model(str(path), "colours", path.parent / "made", options)[1]


def pixel(manifest: Manifest) -> list[float]:
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), ORANGE).save(out, "PNG")
    (tensor,) = input_tensors(manifest, out.getvalue()).tensors
    return tensor[0, 0, 0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("dtype", "fields", "wanted"),
    [
        ("uint8", quantised(1 / 255, 0), [255, 64, 0]),
        ("uint8", quantised(1 / 128, 128), [255, 64, 0]),
        ("uint8", {}, [255, 64, 0]),
        ("int8", quantised(1 / 255, -128), [127, -64, -128]),
        ("int8", quantised(2 / 255, 0), [127, -64, -128]),
        ("int16", quantised(1 / 32767, 0), [32767, 8224, 0]),
        ("int32", {}, [255, 64, 0]),
        ("float32", {}, pytest.approx([1.0, 64 / 255, 0.0])),
        ("float32", quantised(1 / 255, 0), pytest.approx([1.0, 64 / 255, 0.0])),
    ],
)
def test_a_picture_is_what_an_input_of_its_type_takes(
    dtype: str, fields: dict[str, Any], wanted: object, tmp_path: Path
) -> None:
    path = pooled(tmp_path / "m.tflite", dtype, **fields)

    assert pixel(by_flags(path)) == wanted
    assert pixel(by_file(path, "[image]\nwidth = 4\nheight = 4\n")) == wanted


def test_what_a_person_gives_wins_over_what_is_assumed(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", "int8", **quantised(1 / 255, -128))
    table = "[image]\nwidth = 4\nheight = 4\n"

    assert pixel(by_flags(path, mean=(0.0,))) == pixel(by_file(path, f"{table}mean = [0]")) == [127, 64, 0]
    for manifest in (by_flags(path, scale=(0.5,)), by_file(path, f"{table}scale = [0.5]")):
        assert pixel(manifest) == [64, -32, -64]
    # Even what makes no sense.
    assert pixel(by_file(path, f"{table}mean = [0]\nscale = [0.00392156862745098]")) == [1, 0, 0]


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_scores_of_a_quantised_output_are_those_of_the_real_numbers(activation: Any, tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", "int8", **quantised(1 / 255, -128))
    table = f'[classes]\ntensor = "any"\nactivation = "{activation}"\ntop_k = 3\n'
    stored = np.array([127, -64, -128], np.int8).reshape(1, 1, 1, 3)
    real = (np.array([[255, 64, 0]]) * STEP).astype(np.float64)
    plain = Treatment(classes=ClassesOutput("any", top_k=3, activation=activation))
    as_floats = manifest_of(pooled(tmp_path / "f.tflite", "float64"), "colours", "tflite", plain)

    found = results(by_file(path, table), [stored])
    wanted = results(as_floats, [real.reshape(1, 1, 1, 3)])

    assert found == wanted
    if activation == "none":
        assert found == results(by_flags(path), [stored])
        assert [each["score"] for each in found["classes"]] == [1.0, 0.25098, 0.0]


def test_the_quantisation_travels_with_the_manifest_and_may_be_given(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", "int8", **quantised(1 / 255, -128))
    own = by_file(path, '[classes]\ntensor = "x"\n[classes.quantization]\nscale = 1\n')

    assert own.classes is not None and own.classes.quantization == Quantization(1.0, 0)
    read = decode_json(Manifest, encode_json(by_flags(path)))
    assert read.classes is not None and read.classes.quantization == Quantization(STEP, -128)


def test_outputs_that_nobody_declared_stay_as_they_are(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", "uint8", **quantised(1 / 255, 0))
    manifest = manifest_of(path, "colours", "tflite", Treatment())

    plain = results(manifest, [np.array([255, 64, 0], np.uint8).reshape(1, 1, 1, 3)])

    assert plain["tensors"][0]["values"] == [255, 64, 0]
    assert b"quantization" not in encode_json(manifest)


def test_what_a_converter_left_at_a_float_is_no_quantisation(tmp_path: Path) -> None:
    path = pooled(tmp_path / "m.tflite", "float32", **quantised(1 / 255, 0))

    assert b"quantization" not in encode_json(by_flags(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[image]\nwidth = 8\nheight = 8\nmeans = [127.5]", "image.means is not known; image has channels, "),
        ("[detection]\n", "detection is not known; it has classes, detections, image, "),
        (
            "[detections]\nboxes = 'b'\nscores = 's'\nanchors = [{rows = 1, columns = 1, count = 1},"
            "{rows = 1, columns = 1, counts = 1}]",
            "detections.anchors[1].counts is not known; detections.anchors[1] has columns, count, rows",
        ),
    ],
)
def test_a_mistyped_key_is_an_error(text: str, said: str, tmp_path: Path) -> None:
    """Found by a reader: the model was added without what they had written."""
    file = tmp_path / "treatment.toml"
    file.write_text(text)

    with pytest.raises(SettingsError) as refused:
        read_treatment(file)

    assert str(refused.value).startswith(f"{file}: {said}")


def test_an_entry_of_the_zoo_is_a_treatment_file() -> None:
    """As the README says."""
    with resources.as_file(resources.files("edgemesh.zoo") / "face.toml") as file:
        assert read_treatment(file).detections is not None


def test_lists_in_lists_without_end_are_refused(tmp_path: Path) -> None:
    """Found by a reader: Python's TOML reader has no error of its own for them."""
    file = tmp_path / "deep.toml"
    file.write_text("a = " + "[" * 2000 + "]" * 2000)

    with pytest.raises(SettingsError, match=r"deep\.toml"):
        read_treatment(file)


def test_a_key_as_long_as_the_file_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text("k" * 3000 + " = 1")

    with pytest.raises(SettingsError) as refused:
        read_treatment(file)

    assert len(str(refused.value)) < 600 + len(str(file))
