"""Inputs of a model: what a payload is, how a picture fits the input, pixels and npy files as tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from edgemesh.errors import InputError
from edgemesh.protocol.manifest import DTYPE_BYTES, Boundary, ImageInput, TensorSpec

Array = np.ndarray[Any, Any]

Kind = Literal["image", "npy", "msgpack", "raw"]
"""What a submitted payload can be."""

_IMAGE_MAGIC: Final = (
    re.compile(rb"\xff\xd8\xff"),  # JPEG
    re.compile(rb"\x89PNG\r\n\x1a\n"),
    re.compile(rb"GIF8[79]a"),
    re.compile(rb"RIFF....WEBP", re.DOTALL),
    re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL),  # BMP: size, then four reserved bytes
)
_NPY_MAGIC: Final = b"\x93NUMPY"
_MSGPACK_TYPES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


def recognise(payload: bytes, content_type: str | None, raw_bytes: int) -> Kind:
    """What ``payload`` is, by its declared type where that is specific, else by its first bytes.

    ``raw_bytes`` is the size of the model's inputs: octets of exactly that size are a tensor even when they
    begin like a picture. Raises InputError for anything else.
    """
    declared = (content_type or "").partition(";")[0].strip().lower()
    if declared in _MSGPACK_TYPES:
        return "msgpack"
    if declared == "application/octet-stream" and len(payload) == raw_bytes:
        return "raw"
    if any(magic.match(payload) for magic in _IMAGE_MAGIC):
        return "image"
    if payload.startswith(_NPY_MAGIC):
        return "npy"
    if len(payload) == raw_bytes:
        if not declared.startswith(("image/", "text/")):
            return "raw"
        raise InputError(
            f"the input of {len(payload)} bytes has the size of a raw tensor and is declared as "
            f"{declared[:60]}, which it is not: declare application/octet-stream, or nothing"
        )
    said = f" (declared as {declared[:60]})" if declared else ""
    raise InputError(
        f"the input of {len(payload)} bytes{said} is no JPEG, PNG, WebP, GIF or BMP picture, no npy file "
        f"and not the {raw_bytes} bytes of a raw tensor: send one of these"
    )


@dataclass(frozen=True)
class Placement:
    """Where the model's input lies on the photograph, in fractions of the photograph's width and height.

    ``WHOLE`` is the photograph itself; bars of a letterbox reach beyond it (``left`` negative, ``width`` over
    1), a crop lies inside it.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def to_photograph(self, points: Array) -> Array:
        """Points ``[..., 2]`` in fractions of the model's input as fractions of the photograph."""
        return np.asarray(points * (self.width, self.height) + (self.left, self.top))


WHOLE: Final = Placement()


@dataclass(frozen=True)
class Fit:
    """How a photograph is drawn on the model's input: ``source`` scaled to ``size``, placed at ``offset``."""

    source: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the photograph."""
    size: tuple[int, int]
    """Width, height in pixels of the model's input."""
    offset: tuple[int, int]
    placement: Placement


def fitted(image: ImageInput, width: int, height: int) -> Fit:
    """The ``Fit`` of a photograph of ``width`` x ``height`` pixels, both at least 1."""
    goal = (image.width, image.height)
    if image.fit == "letterbox":
        scale = min(image.width / width, image.height / height)
        # Held within the input: rounding must neither lose a thin picture nor outgrow the bars.
        size = (
            min(max(round(width * scale), 1), image.width),
            min(max(round(height * scale), 1), image.height),
        )
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        placement = Placement(-left / size[0], -top / size[1], goal[0] / size[0], goal[1] / size[1])
        return Fit((0.0, 0.0, float(width), float(height)), size, (left, top), placement)
    if image.fit == "crop":
        scale = max(image.width / width, image.height / height) / image.crop_fraction
        wide, high = image.width / scale, image.height / scale
        x, y = (width - wide) / 2.0, (height - high) / 2.0
        placement = Placement(x / width, y / height, wide / width, high / height)
        # The far edges are held inside: a rounding error beyond the last pixel is refused by the resizer.
        source = (max(x, 0.0), max(y, 0.0), min(x + wide, float(width)), min(y + high, float(height)))
        return Fit(source, goal, (0, 0), placement)
    return Fit((0.0, 0.0, float(width), float(height)), goal, (0, 0), WHOLE)


def pixel_tensor(pixels: Array, image: ImageInput, dtype: str) -> Array:
    """``(pixel - mean) * scale`` in the declared channel order and layout, of shape ``image.shape``.

    ``pixels`` is uint8 ``[height, width, 3]`` in RGB order, or ``[height, width]`` for ``gray``. Integer
    dtypes take the rounded value, held to their range.
    """
    assert pixels.shape[:2] == (image.height, image.width), pixels.shape
    if image.channels == "gray":
        pixels = pixels.reshape(image.height, image.width, 1)
    elif image.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    with np.errstate(all="ignore"):
        values = pixels.astype(np.float32)
        values -= np.asarray(image.mean, np.float32)
        values *= np.asarray(image.scale, np.float32)
    goal = np.dtype(dtype)
    if goal.kind in "iu":
        info = np.iinfo(goal)
        values = np.nan_to_num(np.rint(values)).clip(info.min, info.max)
    if image.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, goal).reshape(image.shape)


def raw_tensors(payload: bytes, boundary: Boundary) -> list[Array]:
    """Tensors that lie little-endian, in C order, one after the other in ``payload``; raises InputError."""
    wanted = sum(tensor.nbytes for tensor in boundary)
    if len(payload) != wanted:
        raise InputError(
            f"the input has {len(payload)} bytes, the model takes {wanted}: {described(boundary)}"
        )
    tensors: list[Array] = []
    offset = 0
    for spec in boundary:
        flat = np.frombuffer(payload, np.dtype(spec.dtype).newbyteorder("<"), spec.elements, offset)
        tensors.append(flat.reshape(spec.shape))
        offset += spec.nbytes
    return tensors


_NPY_HEADER_BYTES: Final = 4096
_NPY_DESCR: Final = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([a-z])(\d{1,2})['"]""")
_NPY_ORDER: Final = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_NPY_SHAPE: Final = re.compile(
    r"""['"]shape['"]\s*:\s*\(((?:\s*\d{1,12}L?\s*,){0,31}(?:\s*\d{1,12}L?)?\s*)\)"""
)
_NPY_DTYPES: Final = {np.dtype(name).str[1:]: name for name in DTYPE_BYTES}


def npy_array(payload: bytes) -> Array:
    """The array in an npy file (format versions 1 and 2) of plain numbers; raises InputError.

    The header is matched against the three entries it may have and never evaluated; object and record types
    have no match, so nothing is ever unpickled. The array is a view of ``payload``.
    """
    header, start = _npy_header(payload)
    descr, order, shape = (p.search(header) for p in (_NPY_DESCR, _NPY_ORDER, _NPY_SHAPE))
    if descr is None or order is None or shape is None or descr[2] + descr[3] not in _NPY_DTYPES:
        raise InputError(
            f"the npy file does not hold plain numbers ({header.strip()[:100]!r}): save it with one of the "
            f"dtypes {', '.join(DTYPE_BYTES)}"
        )
    dtype = np.dtype(descr[2] + descr[3]).newbyteorder(">" if descr[1] == ">" else "<")
    sizes = [int(size.strip().rstrip("L")) for size in shape[1].split(",") if size.strip()]
    wanted = math.prod(sizes) * dtype.itemsize
    if wanted == 0:  # NumPy refuses some shapes without elements, and no model takes any
        raise InputError(f"the npy file holds an array of shape {tuple(sizes)}, which has no elements")
    if len(payload) - start != wanted:
        raise InputError(
            f"the npy file says shape {tuple(sizes)} of {dtype.name}, {wanted} bytes, but holds "
            f"{len(payload) - start}: it is truncated or damaged"
        )
    flat = np.frombuffer(payload, dtype, offset=start)
    array = flat.reshape(sizes, order="F" if order[1] == "True" else "C")
    return array.astype(dtype.newbyteorder("<"), copy=False)


def _npy_header(payload: bytes) -> tuple[str, int]:
    """``(header text, offset of the data)``."""
    major = payload[6] if len(payload) > 12 else 0
    if major not in (1, 2):
        raise InputError(f"the npy file has format version {major} or is truncated, wanted version 1 or 2")
    width = 2 if major == 1 else 4
    start = 8 + width + int.from_bytes(payload[8 : 8 + width], "little")
    if start > min(len(payload), _NPY_HEADER_BYTES):
        raise InputError(f"the npy header is truncated or longer than {_NPY_HEADER_BYTES} bytes")
    return payload[8 + width : start].decode("latin-1"), start


def matching_tensors(arrays: Sequence[Array], boundary: Boundary) -> list[Array]:
    """``arrays`` as they are when they fit the model's inputs one by one; raises InputError naming the first
    that does not."""
    if len(arrays) != len(boundary):
        raise InputError(f"the input has {len(arrays)} tensors, the model takes {described(boundary)}")
    for array, spec in zip(arrays, boundary):
        if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
            found = f"{array.dtype.name} of shape {tuple(array.shape)}"
            raise InputError(f"the input is {found}, the model takes {described((spec,))}")
    return list(arrays)


def described(boundary: Sequence[TensorSpec]) -> str:
    """Tensors in words, for messages: ``input float32 (1, 192, 192, 3)``."""
    return ", ".join(f"{spec.name[:40]} {spec.dtype} {spec.shape}" for spec in boundary[:4])
