"""Stand-ins for tensor sections: a few bytes that say how many they stand for.

A simulated hour moves gigabytes of activations that nobody looks at. The roles pass sections on as they are,
so sixteen bytes do; links and meters ask ``modelled_bytes`` how long the whole message is taken to be.
"""

from __future__ import annotations

import struct

from edgemesh.protocol.manifest import Boundary, Manifest
from edgemesh.protocol.tensors import ALIGN

_MARK = b"\x9cmodelsz"
_STAND_IN = struct.Struct("<8sQ")
_TENSOR_BYTES = 64
"""Of the index in front of each tensor; its data is aligned to ``ALIGN``."""
_FLOAT_BYTES = {"raw": None, "f16": 2, "q8": 1}
_ZSTD_RATIO = 0.9
"""Float activations hardly compress."""


def stand_in(nbytes: int) -> bytes:
    """A section that counts as ``nbytes``."""
    return _STAND_IN.pack(_MARK, nbytes)


def modelled_bytes(payload: bytes | memoryview) -> int:
    """Bytes that ``payload`` counts as: its own, and what the stand-in at its end stands for."""
    size = len(payload)
    if size < _STAND_IN.size:
        return size
    mark, nbytes = _STAND_IN.unpack_from(payload, size - _STAND_IN.size)
    return size - _STAND_IN.size + int(nbytes) if mark == _MARK else size


def without_stand_in(payload: bytes | memoryview) -> bytes:
    """What is in front of the stand-in; all of it where there is none."""
    size = len(payload)
    is_there = size >= _STAND_IN.size and payload[size - _STAND_IN.size :][: len(_MARK)] == _MARK
    return bytes(payload[: size - _STAND_IN.size] if is_there else payload)


def section_bytes(boundary: Boundary, codec: str = "raw") -> int:
    """Bytes of the tensors at a cut under a codec, as sent."""
    lossy = _FLOAT_BYTES[codec.removesuffix("+zstd")]
    total = 0.0
    for tensor in boundary:
        is_float = tensor.dtype in ("float32", "float64")
        size = tensor.elements * lossy if lossy is not None and is_float else tensor.nbytes
        total += size * (_ZSTD_RATIO if codec.endswith("+zstd") else 1.0)
    return int(total) + len(boundary) * (_TENSOR_BYTES + ALIGN // 2)


def section_after(
    manifest: Manifest, start: int, stop: int, section: bytes | memoryview, codec: str
) -> bytes:
    """What a run of ``[start, stop)`` makes of ``section``: its outputs under ``codec``."""
    return stand_in(section_bytes(manifest.boundaries[stop], codec))
