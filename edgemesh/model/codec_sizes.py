"""What a boundary becomes under a codec: how many bytes, and whether anything is lost."""

from __future__ import annotations

from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.manifest import DTYPE_BYTES, Boundary


def carried_bytes(boundary: Boundary, codec: str) -> int:
    """Bytes of a boundary's tensors under a codec, before its compression."""
    stored = CODECS[codec].stored_dtype
    return sum(tensor.elements * DTYPE_BYTES[stored(tensor.dtype)] for tensor in boundary)


def is_changed(boundary: Boundary, codec: str) -> bool:
    """Whether a codec stores any tensor of the boundary as something else than its own bits."""
    stored = CODECS[codec].stored_dtype
    return any(stored(tensor.dtype) != tensor.dtype for tensor in boundary)
