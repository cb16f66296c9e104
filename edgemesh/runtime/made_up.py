"""Made-up tensors for a boundary: to warm, to measure and to check units without anybody's data."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgemesh.protocol.manifest import Boundary


def made_up_inputs(boundary: Boundary, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Plausible inputs: noise for numbers (zeros would meet denormal and skip paths), zeros for indices.

    The same for the same boundary and seed at any time.
    """
    generator = np.random.default_rng(seed)
    arrays = []
    for tensor in boundary:
        if tensor.dtype in ("float16", "float32", "float64"):
            arrays.append(generator.standard_normal(tensor.shape).astype(tensor.dtype))
        else:
            arrays.append(np.zeros(tensor.shape, tensor.dtype))
    return arrays
