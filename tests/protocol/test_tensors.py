"""Tensors cross the wire bit by bit under lossless codecs, and within a stated bound under the others."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemesh.errors import DecodeError, InputError
from edgemesh.protocol import limits
from edgemesh.protocol.codecs import CODECS, Array
from edgemesh.protocol.manifest import DTYPE_BYTES
from edgemesh.protocol.tensors import ALIGN, decode_tensors, encode_tensors, section_bytes
from tests.protocol.strategies import arrays

THOROUGH = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
QUICK = settings(THOROUGH, max_examples=30)
LOSSLESS = sorted(name for name, codec in CODECS.items() if codec.lossless)
SINGLE_MAX = float(np.finfo(np.float32).max)


@pytest.fixture(autouse=True)
def numpy_warnings_are_errors() -> Iterator[None]:
    """A warning of overflow or of an invalid cast is a value that somebody lost."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def through(array: Array, codec: str) -> Array:
    (found,) = decode_tensors(section_bytes([array], codec))
    return found


def bits(array: Array) -> bytes:
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


# --- lossless ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", LOSSLESS)
@THOROUGH
@given(array=arrays())
def test_lossless_codecs_keep_every_bit_shape_and_dtype(codec: str, array: Array) -> None:
    found = through(array, codec)

    assert (found.dtype.name, found.shape) == (array.dtype.name, array.shape)
    assert bits(found) == bits(array)


@QUICK
@given(st.lists(arrays(), max_size=5), st.sampled_from(LOSSLESS))
def test_several_tensors_keep_their_order_and_alignment(sent: list[Array], codec: str) -> None:
    parts = encode_tensors(sent, codec)

    position = 0
    for index, part in enumerate(parts):
        if index >= 3 and index % 2:  # length, table, then gap and data by turns
            assert position % ALIGN == 0
        position += len(part)
    assert [bits(array) for array in decode_tensors(b"".join(parts))] == [bits(array) for array in sent]


@pytest.mark.parametrize("codec", sorted(CODECS))
@QUICK
@given(array=arrays(("float32",), any_bits=False), data=st.data())
def test_dense_permuted_arrays_keep_their_strides(codec: str, array: Array, data: st.DataObject) -> None:
    """Some kernels of torch choose their order of summation by them."""
    turned = array.copy(order="C").transpose(data.draw(st.permutations(range(array.ndim))))

    found = through(turned, codec)

    assert found.strides == turned.strides or not turned.size


@pytest.mark.parametrize("shape", [(1, 1, 4, 5), (2, 3, 1, 1), (1, 3, 1, 5), (1, 1, 1, 1), (7, 1, 2, 1)])
def test_channels_last_is_kept_where_axes_of_size_one_hide_it_from_numpy(shape: tuple[int, ...]) -> None:
    """torch reads the memory format from all strides, NumPy ignores those of axes of size 1."""
    batch, channels, height, width = shape
    last = np.zeros((batch, height, width, channels), np.float32).transpose(0, 3, 1, 2)
    first = np.zeros(shape, np.float32)

    assert through(last, "raw").strides == last.strides
    assert through(first, "raw").strides == first.strides


def test_raw_tensors_are_read_only_views_of_the_payload() -> None:
    section = section_bytes([np.arange(1000.0)])

    (found,) = decode_tensors(section)

    assert not found.flags.owndata
    assert not found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(section, np.uint8))


def test_contiguous_arrays_are_not_copied_before_they_are_joined() -> None:
    array = np.arange(1000.0)

    parts = encode_tensors([array, array.reshape(10, 100).T])

    for part in (parts[3], parts[5]):
        assert np.shares_memory(np.frombuffer(part, np.uint8), array)


def test_equivalent_dtypes_of_c_are_one_dtype() -> None:
    for character in "lqLQ":
        array = np.array([1, 2], dtype=character)
        assert through(array, "raw").dtype == array.dtype


@pytest.mark.parametrize("array", [np.array(["x"]), np.array([object()]), np.zeros(2, np.complex128)])
def test_dtypes_outside_the_contract_are_refused_by_the_sender(array: Array) -> None:
    with pytest.raises(InputError, match="cannot be sent"):
        encode_tensors([array])


# --- lossy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["f16", "f16+zstd"])
@THOROUGH
@given(array=arrays(("float32", "float64"), any_bits=False))
def test_f16_is_off_by_half_a_step_of_half_precision_at_most(codec: str, array: Array) -> None:
    found = through(array, codec)

    exact = array.astype(np.float64)
    clipped = np.clip(exact, -65504.0, 65504.0)
    assert found.dtype.name == array.dtype.name
    assert np.isfinite(found).all()
    # 11 significant bits; below 2**-14 steps of 2**-24.
    assert (np.abs(found - clipped) <= np.maximum(np.abs(clipped) * 2.0**-11, 2.0**-25)).all()


def finite_arrays(dtype: type) -> st.SearchStrategy[Array]:
    top = float(np.finfo(dtype).max)
    edges = [0.0, -0.0, 1e-45, 1e-38, -3e38, 3e38, top, -top, np.nextafter(SINGLE_MAX, 0.0), 1.0, 1e37, -1e37]
    numbers = st.sampled_from(edges) | st.floats(-top, top) | st.floats(-1.0, 1.0)
    return st.lists(numbers, min_size=1, max_size=6).map(
        lambda values: np.clip(np.array(values), -top, top).astype(dtype)
    )


def q8_bound(exact: Array, dtype: Any) -> float:
    """Half a step, and the rounding of the wider of float32 (or float64) at the tensor's largest value."""
    step = float(exact.max() - exact.min()) / 255.0
    rounding = float(np.finfo(dtype).eps) * float(np.abs(exact).max())
    return step / 2 * (1 + 1e-6) + 4 * rounding + float(np.finfo(dtype).smallest_subnormal)


@pytest.mark.parametrize("codec", ["q8", "q8+zstd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@THOROUGH
@given(data=st.data())
def test_q8_is_off_by_half_a_step_at_most_and_stays_finite(
    codec: str, dtype: type, data: st.DataObject
) -> None:
    array = data.draw(finite_arrays(dtype))

    found = through(array, codec)

    exact = np.clip(array.astype(np.float64), -SINGLE_MAX, SINGLE_MAX)
    assert found.dtype == array.dtype
    assert np.isfinite(found).all()
    assert (np.abs(found.astype(np.float64) - exact) <= q8_bound(exact, dtype)).all()


@QUICK
@given(array=arrays(("float32", "float64"), any_bits=False))
def test_q8_keeps_its_bound_in_any_layout_and_scale(array: Array) -> None:
    found = through(array, "q8")

    exact = array.astype(np.float64)
    assert found.shape == array.shape
    if array.size:
        assert (np.abs(found - exact) <= q8_bound(exact, array.dtype.newbyteorder("="))).all()


def test_q8_sends_a_quarter_of_the_bytes_and_constant_tensors_exactly() -> None:
    array = np.full(4096, 0.1, np.float32)

    assert len(section_bytes([array], "q8")) < 4096 + 200
    assert bits(through(array, "q8")) == bits(array)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_q8_passes_tensors_with_nan_or_infinity_as_they_are(special: float) -> None:
    """On one scale with an attention mask's infinity, every other value would be the same."""
    array = np.array([0.25, special, -3.0], np.float32)

    assert bits(through(array, "q8")) == bits(array)


@pytest.mark.parametrize("codec", ["f16", "q8", "f16+zstd", "q8+zstd"])
@QUICK
@given(array=arrays(tuple(sorted(set(DTYPE_BYTES) - {"float32", "float64"}))))
def test_lossy_codecs_leave_other_dtypes_as_they_are(codec: str, array: Array) -> None:
    """Indices, masks and quantised tensors have no digits to spare."""
    assert bits(through(array, codec)) == bits(array)


# --- hostile sections --------------------------------------------------------------------------------


def section_of(entry: Any, data: bytes = b"") -> bytes:
    """A section of one tensor whose table says what the test wants."""
    table = msgpack.packb([entry])
    head = len(table).to_bytes(4, "little") + table
    return head + b"\0" * (-len(head) % ALIGN) + data


GOOD = {"d": "float32", "s": [2], "n": 8}


def test_the_builder_of_hostile_sections_builds_a_good_one() -> None:
    assert decode_tensors(section_of(GOOD, bytes(8)))[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "change",
    [
        {"s": [1 << 28]},
        {"s": [1 << 62, 1 << 62]},
        {"s": [1 << 28] * 8},
        {"s": [0, 1 << 28, 1 << 28, 1 << 28]},
        {"s": [1 << 28, 1 << 28, 1 << 28, 0]},
        {"s": [-2]},
        {"s": [2.0]},
        {"s": [True, 2]},
        {"s": [1] * 9},
        {"s": "2"},
        {"s": None},
        {"d": "float128"},
        {"d": "object"},
        {"d": "<f4"},
        {"d": ["float32"]},
        {"d": "bool", "s": [8]},
        {"n": -8},
        {"n": 1 << 40},
        {"n": 8.0},
        {"n": 4},
        {"n": None},
        {"o": [1]},
        {"o": [0, 0]},
        {"o": [True]},
        {"o": 0},
        {"c": "zip"},
        {"c": "raw+zstd"},
        {"c": ["raw"]},
        {"c": "q8", "s": [8], "low": float("nan"), "scale": 1.0},
        {"c": "q8", "s": [8], "low": 1e39, "scale": 1.0},
        {"c": "q8", "s": [8], "low": 0.0, "scale": float("inf")},
        {"c": "q8", "s": [8], "low": "0", "scale": 1.0},
        {"z": 1},
        {"z": True},
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_its_data_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        decode_tensors(section_of({**GOOD, **change}, b"\x02" * 8))


@pytest.mark.parametrize("entry", [None, 1, "x", [], {}])
def test_a_table_of_something_else_is_refused(entry: Any) -> None:
    with pytest.raises(DecodeError):
        decode_tensors(section_of(entry))


def test_more_tensors_than_the_limit_are_refused() -> None:
    scalars = [np.float32(0).reshape(())] * (limits.TENSORS + 1)

    assert len(decode_tensors(section_bytes(scalars[:-1]))) == limits.TENSORS
    with pytest.raises(DecodeError, match="more than 256"):
        decode_tensors(section_bytes(scalars))


def test_restoring_hostile_scales_gives_finite_numbers() -> None:
    entry = {**GOOD, "c": "q8", "s": [8], "low": SINGLE_MAX, "scale": SINGLE_MAX}

    (found,) = decode_tensors(section_of(entry, b"\xff" * 8))

    assert np.isfinite(found).all()


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(DecodeError, match="1 bytes after"):
        decode_tensors(section_of(GOOD, bytes(9)))


def test_a_receiver_without_zstandard_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    section = section_bytes([np.zeros(4)], "raw+zstd")
    real_import = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "zstandard":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DecodeError, match="pip install"):
        decode_tensors(section)
