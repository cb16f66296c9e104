"""What the integers of quantised inputs and outputs stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemesh.protocol.manifest import DTYPE_BYTES, DType, Quantization

Array = np.ndarray[Any, Any]
PixelValues = dict[str, tuple[float, ...]]
"""``mean`` and ``scale`` of an ``ImageInput``."""


def real_values(stored: Array, quantization: Quantization | None) -> Array:
    """The numbers that a tensor stands for, in double precision; without quantisation those that it holds."""
    values = stored.astype(np.float64)
    if quantization is None:
        return values
    with np.errstate(over="ignore"):  # a received scale may be anything; what is not finite is no result
        return np.asarray((values - quantization.zero_point) * quantization.scale)


def pixel_values(dtype: DType, quantization: Quantization | None) -> PixelValues:
    """What a picture is made into where nobody says it, for an input of ``dtype``.

    Floats get 0 to 1. Integers of 8 bits get the pixel itself, black as the least value and white as the
    largest: scale and zero point of such an input span what its model was trained on, be it 0 to 1, -1 to 1
    or 0 to 255. Those of 16 bits span as much below zero as above whatever it was, so they get 0 to 1 as
    floats do; integers that are not quantised the pixel itself.
    """
    if dtype.startswith(("float", "complex")):
        return {"mean": (0.0,), "scale": (1.0 / 255.0,)}
    if DTYPE_BYTES[dtype] > 1 and quantization is not None:
        # The stored zero is a pixel of ``-zero_point`` steps; adding 0 makes -0.0 the plain one.
        step = 255.0 * quantization.scale
        return {"mean": (0.0 - quantization.zero_point * step,), "scale": (1.0 / step,)}
    return {"mean": (128.0 if dtype == "int8" else 0.0,), "scale": (1.0,)}
