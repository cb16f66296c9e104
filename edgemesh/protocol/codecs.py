"""Codecs: how the values of one tensor become bytes and come back, exactly or nearly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgemesh.errors import DecodeError, missing_extra

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Codec:
    """How one tensor becomes bytes: the lossy step, then the general-purpose compression."""

    name: str
    lossless: bool
    quantise: Callable[[Array], tuple[Array, dict[str, float]] | None]
    """What is stored, with the numbers needed to restore it; None for values that it cannot stand for."""
    restore: Callable[[Array, np.dtype[Any], dict[str, float]], Array]
    stored_dtype: Callable[[str], str]
    compressed: bool = False


def _same(array: Array) -> tuple[Array, dict[str, float]]:
    return array, {}


def _unchanged(stored: Array, dtype: np.dtype[Any], extra: dict[str, float]) -> Array:
    return stored


_HALF_MAX: Final = float(np.finfo(np.float16).max)
SINGLE_MAX: Final = float(np.finfo(np.float32).max)
"""Of the numbers that a lossy codec writes into the table."""


def _to_half(array: Array) -> tuple[Array, dict[str, float]]:
    # Values beyond half's range become its largest: an infinity would poison everything after it.
    return np.clip(array, -_HALF_MAX, _HALF_MAX).astype(np.float16), {}


def _from_half(stored: Array, dtype: np.dtype[Any], extra: dict[str, float]) -> Array:
    return stored.astype(dtype)


def _to_affine(array: Array) -> tuple[Array, dict[str, float]] | None:
    # Affine quantisation to 8 bit: value = low + scale * q (Jacob et al. 2018, arXiv 1712.05877, eq. 1).
    # Values of float64 beyond float32's range become its largest.
    if not array.size:
        return None
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return None  # a mask's infinity or a NaN has no place on the scale, and would ruin it for the others
    low, high = (min(max(edge, -SINGLE_MAX), SINGLE_MAX) for edge in (low, high))
    scale = (high - low) / 255.0 or 1.0
    steps = array.astype(_affine_precision(array.dtype, low, scale))
    steps -= low
    steps /= scale
    np.rint(steps, out=steps)
    np.clip(steps, 0.0, 255.0, out=steps)
    return steps.astype(np.uint8), {"low": low, "scale": scale}


def _from_affine(stored: Array, dtype: np.dtype[Any], extra: dict[str, float]) -> Array:
    low, scale = extra["low"], extra["scale"]
    precision = _affine_precision(dtype, low, scale)
    restored = stored.astype(precision)
    restored *= scale
    restored += low
    if precision != dtype:
        np.clip(restored, -SINGLE_MAX, SINGLE_MAX, out=restored)
    return restored.astype(dtype, copy=False)


def _affine_precision(dtype: np.dtype[Any], low: float, scale: float) -> type[np.floating[Any]]:
    # Near either end of float32's range, low + 255 * scale or a division by scale would leave it on the way.
    fits = dtype.itemsize == 4 and 1e-30 < scale < 1e35 and abs(low) < 1e38
    return np.float32 if fits else np.float64


def _same_dtype(dtype: str) -> str:
    return dtype


LOSSY: Final = frozenset({"float32", "float64"})
"""Lossy codecs touch only these; indices, masks and quantised tensors pass as they are."""


def _table() -> dict[str, Codec]:
    plain = (
        Codec("raw", True, _same, _unchanged, _same_dtype),
        Codec("f16", False, _to_half, _from_half, lambda d: "float16" if d in LOSSY else d),
        Codec("q8", False, _to_affine, _from_affine, lambda d: "uint8" if d in LOSSY else d),
    )
    packed = (
        Codec(f"{c.name}+zstd", c.lossless, c.quantise, c.restore, c.stored_dtype, compressed=True)
        for c in plain
    )
    return {codec.name: codec for codec in (*plain, *packed)}


CODECS: Final[dict[str, Codec]] = _table()


def compress(body: bytes | memoryview) -> bytes:
    """The body as a zstd frame; raises an error that names the extra where zstandard is not installed."""
    try:
        import zstandard
    except ImportError:
        raise missing_extra("zstandard", "zstd") from None
    # Level 1: at level 3 the time of compressing activations exceeds what Wi-Fi saves.
    return zstandard.ZstdCompressor(level=1).compress(body)


def decompress(data: memoryview, wanted: int) -> memoryview:
    """The ``wanted`` bytes that a zstd frame holds; raises DecodeError for any other number."""
    try:
        import zstandard
    except ImportError:
        raise DecodeError(f"a tensor is compressed, but {missing_extra('zstandard', 'zstd')}") from None
    try:
        # The frame says itself how much to allocate: believed only where the shape says the same.
        size = zstandard.frame_content_size(data)
        if size != wanted:
            raise DecodeError(f"compressed tensor holds {size} bytes, not {wanted}")
        return memoryview(zstandard.ZstdDecompressor().decompress(data, max_output_size=wanted))
    except zstandard.ZstdError as error:
        raise DecodeError(f"tensor does not decompress: {error}") from None
