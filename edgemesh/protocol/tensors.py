"""Tensor section of a message: a small table, then each tensor's bytes at an aligned offset.

Layout: ``u32 table length | table (msgpack) | padding | data of tensor 0 | padding | ...``, offsets relative
to the start of the section and multiples of ``ALIGN``. Encoding copies each byte once (the final join);
decoding with codec ``raw`` copies none: the arrays are read-only views of the payload.

A dense array whose strides are a permutation of C order is sent in physical order with that permutation, so
that the receiver sees the same strides, those of axes of size 1 included: some kernels pick their summation
order by them (measured: every cut of 18 torch architectures is bit-exact only when they are kept).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np

from edgemesh.errors import DecodeError, InputError
from edgemesh.protocol import limits
from edgemesh.protocol.codecs import CODECS, LOSSY, SINGLE_MAX, Array, Codec, compress, decompress
from edgemesh.protocol.manifest import DTYPE_BYTES

Part = bytes | memoryview
ALIGN: Final = 64
_U32: Final = struct.Struct("<I")
_DTYPES: Final = {name: np.dtype(name).newbyteorder("<") for name in DTYPE_BYTES}
_NAMES: Final = {
    variant: name for name, dtype in _DTYPES.items() for variant in (dtype, dtype.newbyteorder(">"))
}
"""``dtype.name`` costs a microsecond per tensor."""


def encode_tensors(arrays: Sequence[Array], codec: str = "raw") -> list[Part]:
    """Parts of the section whose concatenation is the section, in order; arrays are not copied yet.

    A lossy codec leaves tensors that are no float32 or float64 as they are; ``q8`` also those that hold a NaN
    or an infinity. Raises InputError for a dtype that the contract does not know.
    """
    row = CODECS[codec]
    if row.lossless and not row.compressed:
        return _encode_plainly(arrays)
    table: list[dict[str, Any]] = []
    bodies: list[Part] = []
    for array in arrays:
        order, dense = _physical_order(array)
        dtype = _dtype_name(array)
        entry = _entry(dtype, array.shape, order)
        stored = dense
        if not row.lossless and dtype in LOSSY and (quantised := row.quantise(dense)) is not None:
            stored, extra = quantised
            entry["c"] = row.name.removesuffix("+zstd")
            entry.update(extra)
        body = _bytes_of(stored)
        if row.compressed:
            body = compress(body)
            entry["z"] = True
        entry["n"] = len(body)
        table.append(entry)
        bodies.append(body)
    return _interleaved(_head(table), bodies)


def _encode_plainly(arrays: Sequence[Array]) -> list[Part]:
    """Tensors as they are: what comes before them is the same for each job of a model, and is kept."""
    layouts = []
    bodies = []
    for array in arrays:
        order, dense = _physical_order(array)
        layouts.append((_dtype_name(array), array.shape, None if order is None else tuple(order)))
        bodies.append(_bytes_of(dense))
    return _interleaved(_plain_head(tuple(layouts)), bodies)


_Layout = tuple[str, tuple[int, ...], tuple[int, ...] | None]
_Head = tuple[tuple[bytes, bytes], tuple[bytes, ...]]
"""``((length of the table, table), padding before each tensor)``."""


@lru_cache(maxsize=256)
def _plain_head(layouts: tuple[_Layout, ...]) -> _Head:
    table = []
    for dtype, shape, order in layouts:
        entry = _entry(dtype, shape, order)
        entry["n"] = math.prod(shape) * DTYPE_BYTES[dtype]
        table.append(entry)
    return _head(table)


def _entry(dtype: str, shape: Sequence[int], order: Sequence[int] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"d": dtype, "s": list(shape)}
    if order is not None:
        entry["o"] = list(order)
    return entry


def _dtype_name(array: Array) -> str:
    dtype = _NAMES.get(array.dtype)
    if dtype is None:
        raise InputError(f"tensors of dtype {array.dtype} cannot be sent; known are {', '.join(_DTYPES)}")
    return dtype


def _head(table: list[dict[str, Any]]) -> _Head:
    packed = msgpack.packb(table)
    position = _U32.size + len(packed)
    gaps = []
    for entry in table:
        gap = -position % ALIGN
        gaps.append(b"\0" * gap)
        position += gap + entry["n"]
    return (_U32.pack(len(packed)), packed), tuple(gaps)


def _interleaved(head: _Head, bodies: list[Part]) -> list[Part]:
    start, gaps = head
    parts: list[Part] = [*start]
    for gap, body in zip(gaps, bodies):
        parts.append(gap)
        parts.append(body)
    return parts


def decode_tensors(
    section: bytes | bytearray | memoryview, max_bytes: int = limits.TENSOR_BYTES
) -> list[Array]:
    """Arrays of a section; those under codec ``raw`` are views of it. Raises DecodeError.

    ``max_bytes`` bounds the decoded tensors together. A caller that knows the boundary passes its
    ``boundary_bytes``: a few kilobytes of zstd can stand for as much as is allowed.
    """
    view = memoryview(section).cast("B")
    if len(view) < _U32.size:
        raise DecodeError("tensor section is truncated")
    (table_length,) = _U32.unpack_from(view)
    position = _U32.size + table_length
    if table_length > limits.HEADER_BYTES or position > len(view):
        raise DecodeError("tensor table is longer than its section or the limit")
    packed = view[_U32.size : position]
    table = _small_table(bytes(packed)) if table_length <= _SMALL_TABLE else _table_of(packed)
    arrays: list[Array] = []
    total = 0
    for entry in table:
        total += entry.nbytes
        if total > max_bytes:
            raise DecodeError(f"tensors of more than {max_bytes} bytes")
        position += -position % ALIGN
        if position + entry.length > len(view):
            raise DecodeError("tensor data is truncated")
        arrays.append(_restore(view[position : position + entry.length], entry))
        position += entry.length
    if position != len(view):
        raise DecodeError(f"{len(view) - position} bytes after the last tensor")
    return arrays


def unpack_map(data: bytes | memoryview, kind: type) -> Any:
    """msgpack value of the wanted kind (``dict`` or ``list``) within the limits; raises DecodeError."""
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=limits.TEXT_CHARS * 4,
            max_bin_len=limits.HEADER_BYTES,
            max_array_len=limits.HEADER_ITEMS,
            max_map_len=limits.HEADER_ITEMS,
            max_ext_len=0,
        )
    # Every failure of msgpack on hostile bytes, deep nesting included, is one of these.
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError(f"not msgpack: {str(error)[:100]}") from None
    if not isinstance(value, kind):
        raise DecodeError(f"msgpack holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def section_bytes(arrays: Sequence[Array], codec: str = "raw") -> bytes:
    """The section as one bytes object (one copy)."""
    return b"".join(encode_tensors(arrays, codec))


def _physical_order(array: Array) -> tuple[list[int] | None, Array]:
    """``(permutation or None, C-contiguous array)``: the array transposed to its order in memory."""
    contiguous = array.flags.c_contiguous
    if array.ndim < 2 or (contiguous and array.strides == _dense_strides(array.shape, array.itemsize)):
        return None, np.ascontiguousarray(array)
    # NumPy calls an array contiguous whatever the strides of its axes of size 1; torch tells one layout
    # from another by them. Among equal strides the axis of size 1 is the inner one.
    order = sorted(range(array.ndim), key=lambda axis: (-abs(array.strides[axis]), -array.shape[axis]))
    turned = array.transpose(order)
    dense = turned.strides == _dense_strides(turned.shape, turned.itemsize)
    if order != sorted(order) and (dense or (turned.flags.c_contiguous and not contiguous)):
        return order, turned
    return None, np.ascontiguousarray(array)


@lru_cache(maxsize=256)
def _dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides of an array of that shape in C order."""
    strides = [itemsize]
    for size in shape[:0:-1]:
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))


def _bytes_of(array: Array) -> Part:
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.frombuffer(array, np.uint8).data if array.size else b""


class _Stored(NamedTuple):
    """One row of a section's table, checked."""

    shape: tuple[int, ...]
    """As it lies in memory."""
    axes: tuple[int, ...] | None
    """What turns it into the tensor's own order."""
    dtype: str
    stored_dtype: np.dtype[Any]
    codec: Codec
    numbers: dict[str, float] | None
    """Of a lossy codec that touched the tensor; None where none did."""
    compressed: bool
    length: int
    """Bytes in the section."""
    stored_bytes: int
    """Before compression."""
    nbytes: int
    """Of the tensor once it is decoded."""


def _table_of(packed: bytes | memoryview) -> tuple[_Stored, ...]:
    table = unpack_map(packed, list)
    if len(table) > limits.TENSORS:
        raise DecodeError(f"{len(table)} tensors, more than {limits.TENSORS}")
    return tuple(_checked_entry(entry) for entry in table)


_SMALL_TABLE: Final = 512
"""Bytes of a table that is kept once it is checked: the jobs of a model all have the same one."""
_small_table = lru_cache(maxsize=128)(_table_of)


def _checked_entry(entry: Any) -> _Stored:
    if not isinstance(entry, dict):
        raise DecodeError("tensor table holds something that is no map")
    shape, order, dtype = entry.get("s"), entry.get("o"), entry.get("d")
    length, codec = entry.get("n"), entry.get("c", "raw")
    if not isinstance(shape, list) or len(shape) > limits.RANK:
        raise DecodeError(f"tensor rank must be at most {limits.RANK}")
    room = limits.ELEMENTS
    for n in shape:
        if type(n) is not int or n < 0:
            raise DecodeError("tensor shape holds something that is no size")
        # Sizes beside a zero count too: NumPy refuses shapes whose strides overflow, empty or not.
        room //= n or 1
        if room == 0:
            raise DecodeError(f"tensor has more than {limits.ELEMENTS} elements")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise DecodeError(f"tensor dtype {str(dtype)[:40]!r} is unknown")
    if not isinstance(codec, str) or codec not in CODECS or CODECS[codec].compressed:
        raise DecodeError(f"tensor codec {str(codec)[:40]!r} is unknown")
    if order is not None and (
        not isinstance(order, list)
        or not all(type(axis) is int for axis in order)
        or sorted(order) != list(range(len(shape)))
    ):
        raise DecodeError("tensor order is no permutation of its axes")
    if type(length) is not int or length < 0 or type(entry.get("z", False)) is not bool:
        raise DecodeError("tensor length or compression is malformed")
    row = CODECS[codec]
    stored_dtype = _DTYPES[row.stored_dtype(dtype)]
    elements = math.prod(shape)
    return _Stored(
        tuple(shape if order is None else (shape[axis] for axis in order)),
        None if order is None else tuple(sorted(range(len(order)), key=order.__getitem__)),
        dtype,
        stored_dtype,
        row,
        _numbers(entry) if not row.lossless and dtype in LOSSY else None,
        entry.get("z", False),
        length,
        elements * stored_dtype.itemsize,
        elements * DTYPE_BYTES[dtype],
    )


def _restore(data: memoryview, stored: _Stored) -> Array:
    if stored.compressed:
        data = decompress(data, stored.stored_bytes)
    if len(data) != stored.stored_bytes:
        shape, wanted = list(stored.shape), stored.stored_bytes
        raise DecodeError(f"tensor stored with shape {shape} needs {wanted} bytes, found {len(data)}")
    array: Array = np.frombuffer(data, stored.stored_dtype).reshape(stored.shape)
    if stored.dtype == "bool" and array.view(np.uint8).max(initial=0) > 1:
        # Kernels size their output by adding up masks.
        raise DecodeError("tensor of booleans holds something that is neither 0 nor 1")
    if stored.numbers is not None:
        array = stored.codec.restore(array, _DTYPES[stored.dtype], stored.numbers)
    return array if stored.axes is None else array.transpose(stored.axes)


def _numbers(entry: dict[str, Any]) -> dict[str, float]:
    numbers = {"low": entry.get("low", 0.0), "scale": entry.get("scale", 1.0)}
    for key, value in numbers.items():
        if not isinstance(value, float) or not abs(value) <= SINGLE_MAX:
            raise DecodeError(f"tensor {key} is no finite number")
    return numbers
