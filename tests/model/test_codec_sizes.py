"""Bytes of a boundary under a codec are those that its encoder makes."""

from __future__ import annotations

import numpy as np
import pytest

from edgemesh.model.codec_sizes import carried_bytes, is_changed
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.manifest import TensorSpec
from edgemesh.protocol.tensors import encode_tensors

PLAIN = sorted(name for name, codec in CODECS.items() if not codec.compressed)
FLOATS = (TensorSpec("a", "float32", (3, 64)), TensorSpec("b", "float64", (64,)))
OTHERS = (TensorSpec("c", "int8", (64,)), TensorSpec("d", "bool", (64,)), TensorSpec("e", "float16", (32,)))


@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("boundary", [FLOATS, OTHERS, FLOATS + OTHERS])
def test_the_size_is_that_of_the_encoded_tensors(codec: str, boundary: tuple[TensorSpec, ...]) -> None:
    arrays = [np.ones(spec.shape, spec.dtype) for spec in boundary]

    # The table and its padding come first; sizes here are whole multiples of the alignment.
    _, _, *parts = encode_tensors(arrays, codec)

    assert carried_bytes(boundary, codec) == sum(len(part) for part in parts[1::2])


def test_lossy_codecs_change_floats_alone() -> None:
    assert {codec: is_changed(FLOATS, codec) for codec in PLAIN} == {"raw": False, "f16": True, "q8": True}
    assert not any(is_changed(OTHERS, codec) for codec in PLAIN)
