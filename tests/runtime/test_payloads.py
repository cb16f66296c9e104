from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from edgemesh.errors import InputError
from edgemesh.protocol.manifest import ImageInput, Manifest, TensorSpec, Unit
from edgemesh.protocol.tensors import section_bytes
from edgemesh.runtime.payloads import input_tensors

TENSOR = np.arange(48, dtype=np.float32).reshape(1, 4, 4, 3)


def manifest(image: ImageInput | None = None) -> Manifest:
    ends = ((TensorSpec("input", "float32", (1, 4, 4, 3)),), (TensorSpec("out", "float32", (1, 2)),))
    return Manifest("m", "0" * 64, "tflite", 1, (Unit("all", 1, 1, 1, 1),), ends, 1, ("0" * 64,), image)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (TENSOR.tobytes(), None),
        (TENSOR.tobytes(), "application/octet-stream"),
        (npy(TENSOR), None),
        (section_bytes([TENSOR]), "application/msgpack"),
    ],
    ids=["raw", "octets", "npy", "msgpack"],
)
def test_a_tensor_arrives_the_same_in_each_form(payload, content_type):
    given = input_tensors(manifest(), payload, content_type)

    assert len(given.tensors) == 1 and np.array_equal(given.tensors[0], TENSOR)


def test_a_picture_becomes_the_tensor_and_its_placement():
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 4), (255, 255, 255)).save(out, "PNG")

    given = input_tensors(manifest(ImageInput(4, 4, fit="letterbox")), out.getvalue())

    assert given.tensors[0][0, :, 0, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    assert given.placement.height == 2.0


@pytest.mark.parametrize(
    ("payload", "content_type", "reason"),
    [
        (b"hello", "image/jpeg", "no JPEG"),
        (b"\xff\xd8\xff\xe0 and then text", None, "not a readable picture|damaged"),
        (npy(TENSOR[0]), None, r"shape \(4, 4, 3\).*\(1, 4, 4, 3\)"),
        (npy(TENSOR.astype(float)), None, "float64"),
        (section_bytes([TENSOR, TENSOR]), "application/msgpack", "2 tensors"),
        (b"\x00", "application/msgpack", "msgpack input cannot be read"),
    ],
)
def test_an_unusable_payload_is_refused_in_one_sentence(payload, content_type, reason):
    with pytest.raises(InputError, match=reason):
        input_tensors(manifest(ImageInput(4, 4)), payload, content_type)


def test_a_picture_for_a_model_without_image_input_says_what_it_takes():
    with pytest.raises(InputError, match=r"takes no pictures but input float32 \(1, 4, 4, 3\)"):
        input_tensors(manifest(), b"\xff\xd8\xff\xe0", None)
