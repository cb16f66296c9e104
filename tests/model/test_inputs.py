from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import DecodeError, InputError
from edgemesh.model.inputs import (
    Placement,
    fitted,
    matching_tensors,
    npy_array,
    pixel_tensor,
    raw_tensors,
    recognise,
)
from edgemesh.protocol.manifest import ImageInput, TensorSpec

sides = st.integers(1, 100_000)
inputs = st.builds(
    ImageInput,
    width=st.integers(1, 512),
    height=st.integers(1, 512),
    fit=st.sampled_from(["letterbox", "crop", "stretch"]),
    crop_fraction=st.floats(0.01, 1.0),
)


def npy(array: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def _on_the_input(placement: Placement, points: np.ndarray) -> np.ndarray:
    return (points - (placement.left, placement.top)) / (placement.width, placement.height)


@given(inputs, sides, sides, st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_point_goes_to_the_photograph_and_back(image, width, height, point):
    placement = fitted(image, width, height).placement

    there = placement.to_photograph(np.array([point]))

    # A bar may make the input 100,000 times wider than the picture: the error grows with it.
    assert np.allclose(_on_the_input(placement, there), [point], atol=1e-6)


@given(inputs, sides, sides)
def test_every_fit_draws_inside_the_input_from_inside_the_photograph(image, width, height):
    fit = fitted(image, width, height)

    left, top, right, bottom = fit.source
    assert 0.0 <= left < right <= width and 0.0 <= top < bottom <= height
    for size, offset, goal in zip(fit.size, fit.offset, (image.width, image.height)):
        assert size >= 1 and offset >= 0 and offset + size <= goal


def test_letterbox_puts_a_wide_photograph_between_bars_above_and_below():
    fit = fitted(ImageInput(width=100, height=100, fit="letterbox"), 400, 200)

    assert fit.size == (100, 50) and fit.offset == (0, 25)
    # The input's upper edge lies half a photograph above it: 25 of 50 drawn rows.
    assert fit.placement == Placement(left=0.0, top=-0.5, width=1.0, height=2.0)


def test_crop_takes_the_centre_of_a_wide_photograph():
    fit = fitted(ImageInput(width=100, height=100, fit="crop"), 400, 200)

    assert fit.source == (100.0, 0.0, 300.0, 200.0) and fit.size == (100, 100)
    assert fit.placement == Placement(left=0.25, top=0.0, width=0.5, height=1.0)


def test_crop_fraction_leaves_a_margin_on_the_shorter_side():
    fit = fitted(ImageInput(width=100, height=100, fit="crop", crop_fraction=0.5), 400, 200)

    assert fit.source == (150.0, 50.0, 250.0, 150.0)


def test_stretch_takes_the_whole_photograph():
    fit = fitted(ImageInput(width=100, height=100), 400, 200)

    assert fit.source == (0.0, 0.0, 400.0, 200.0) and fit.placement == Placement()


def test_pixels_become_floats_by_mean_and_scale_per_channel():
    image = ImageInput(width=1, height=1, mean=(0.0, 100.0, 200.0), scale=(1.0, 0.5, 0.25))

    tensor = pixel_tensor(np.array([[[10, 110, 220]]], np.uint8), image, "float32")

    assert tensor.dtype == np.float32 and tensor.tolist() == [[[[10.0, 5.0, 5.0]]]]


def test_channel_order_and_layout_are_as_declared():
    image = ImageInput(width=2, height=1, channels="bgr", layout="nchw", scale=(1.0,))

    tensor = pixel_tensor(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), image, "float32")

    assert tensor.tolist() == [[[[3.0, 6.0]], [[2.0, 5.0]], [[1.0, 4.0]]]]


def test_gray_pixels_become_one_channel():
    image = ImageInput(width=2, height=1, channels="gray", scale=(1.0,))

    assert pixel_tensor(np.array([[7, 9]], np.uint8), image, "float32").tolist() == [[[[7.0], [9.0]]]]


@pytest.mark.parametrize(
    ("dtype", "mean", "wanted"), [("uint8", 0.0, [0, 128, 255]), ("int8", 128.0, [-128, 0, 127])]
)
def test_a_quantised_input_takes_rounded_pixels(dtype, mean, wanted):
    image = ImageInput(width=3, height=1, channels="gray", mean=(mean,), scale=(1.0,))

    tensor = pixel_tensor(np.array([[0, 128, 255]], np.uint8), image, dtype)

    assert tensor.dtype == np.dtype(dtype) and tensor.ravel().tolist() == wanted


def test_a_quantised_input_rounds_and_is_held_to_its_range():
    image = ImageInput(width=3, height=1, channels="gray", mean=(0.0,), scale=(1.3,))

    assert pixel_tensor(np.array([[1, 2, 255]], np.uint8), image, "uint8").ravel().tolist() == [1, 3, 255]


def test_mean_must_fit_the_channels():
    with pytest.raises(DecodeError, match="mean has 2 entries for 3 channels"):
        ImageInput(width=1, height=1, mean=(0.0, 1.0))


JPEG, RAW = b"\xff\xd8\xff\xe0" + b"\0" * 28, 32


@pytest.mark.parametrize(
    ("payload", "content_type", "kind"),
    [
        (JPEG, None, "image"),
        (JPEG + b"more", "application/octet-stream", "image"),
        (JPEG, "application/octet-stream", "raw"),
        (b"\x89PNG\r\n\x1a\n", None, "image"),
        (b"RIFF\x0a\x0a\0\0WEBPVP8 ", "image/webp", "image"),
        (b"GIF89a", "image/gif", "image"),
        (b"BM\x10\0\0\0\0\0\0\0", None, "image"),
        (b"\x93NUMPY\1\0", None, "npy"),
        (b"\x91\x01", "application/msgpack; v=1", "msgpack"),
        (b"\0" * RAW, None, "raw"),
    ],
)
def test_payloads_are_recognised_by_declared_type_or_first_bytes(payload, content_type, kind):
    assert recognise(payload, content_type, RAW) == kind


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [(b"", None), (b"hello", None), (b"t" * 31, "image/jpeg"), (b"\0" * 31, None)],
)
def test_what_is_nothing_known_is_refused_with_what_would_do(payload, content_type):
    with pytest.raises(InputError, match="send one of these"):
        recognise(payload, content_type, RAW)


@pytest.mark.parametrize("content_type", ["text/plain", "image/jpeg"])
def test_raw_bytes_under_another_name_are_refused_for_their_name(content_type):
    """Found by a reader: 768 bytes were said not to be the 768 bytes of a raw tensor."""
    with pytest.raises(InputError, match=f"declared as {content_type}, which it is not"):
        recognise(b"\0" * RAW, content_type, RAW)


def test_raw_bytes_are_split_in_the_order_of_the_boundary():
    boundary = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int8", (3,)))

    a, b = raw_tensors(np.array([1.5, 2.5], "<f4").tobytes() + b"\x01\x02\xff", boundary)

    assert a.tolist() == [[1.5, 2.5]] and b.tolist() == [1, 2, -1]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "|u1", "|b1", "<i8", "<c8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_npy_file_gives_the_array_that_was_saved(dtype, order, version):
    array = np.asarray(np.arange(6).reshape(2, 3).astype(dtype), order=order)

    read = npy_array(npy(array, version=version))

    assert read.dtype == array.dtype.newbyteorder("<") and np.array_equal(read, array)


def test_an_npy_scalar_has_no_axes():
    assert npy_array(npy(np.array(3.5))).shape == ()


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]),
        np.array(["text"]),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype="c16"),
    ],
)
def test_an_npy_file_of_anything_but_plain_numbers_is_refused(array):
    with pytest.raises(InputError, match="does not hold plain numbers"):
        npy_array(npy(array, allow_pickle=True))


@given(st.data())
def test_a_damaged_npy_file_is_an_array_or_an_input_error(data):
    whole = bytearray(npy(np.arange(4, dtype="<f4")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])

    with contextlib.suppress(InputError):
        assert npy_array(cut).nbytes <= len(cut)


@pytest.mark.parametrize(
    "shape", [b"(0, 2, 24 3), }", b"(0, 999999999999, 999999999999), }", b"(0, ), }", b"(,), }"]
)
def test_an_npy_header_with_a_strange_shape_is_refused(shape):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + shape
    payload = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header

    with pytest.raises(InputError, match="npy file"):
        npy_array(payload)


def test_an_npy_header_cannot_claim_more_than_the_payload_holds():
    payload = npy(np.zeros(4, "<f4")).replace(b"(4,), }         ", b"(99999999999,), }")[:144]

    with pytest.raises(InputError, match="truncated or damaged"):
        npy_array(payload)


def test_a_wrong_shape_is_refused_with_found_and_wanted():
    spec = TensorSpec("input", "float32", (1, 4))

    with pytest.raises(InputError, match=r"float64 of shape \(4,\).*input float32 \(1, 4\)"):
        matching_tensors([np.zeros(4)], (spec,))
    with pytest.raises(InputError, match="2 tensors"):
        matching_tensors([np.zeros((1, 4), np.float32)] * 2, (spec,))
    assert len(matching_tensors([np.zeros((1, 4), np.float32)], (replace(spec, name="x"),))) == 1
