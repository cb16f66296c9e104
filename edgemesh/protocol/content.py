"""Content of models in chunks: asked of whoever holds the digest, answered to one requester."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.fields import Check, Digest, Id
from edgemesh.protocol.frame import CHUNK, decode_frame, encode_frame

ChunkIndex = Annotated[int, Check("an index of a chunk", lambda n: 0 <= n < limits.CHUNKS)]


@dataclass(frozen=True)
class ChunkRequest:
    """``content/<digest>/request``: chunk ``index``, please, to ``content/<digest>/chunk/<requester>``."""

    requester: Id
    index: ChunkIndex


@dataclass(frozen=True)
class ChunkHeader:
    """Header of one chunk; its bytes are the body of the frame, checked against the manifest."""

    digest: Digest
    index: ChunkIndex


def encode_chunk(header: ChunkHeader, data: bytes) -> bytes:
    """Payload of one chunk."""
    return encode_frame(CHUNK, header, (data,))


def decode_chunk(payload: bytes | bytearray | memoryview) -> tuple[ChunkHeader, memoryview]:
    """``(header, bytes)``; raises DecodeError or VersionError."""
    header, data = decode_frame(CHUNK, ChunkHeader, payload)
    if len(data) > limits.CHUNK_BYTES:
        raise DecodeError(f"chunk of {len(data)} bytes, more than {limits.CHUNK_BYTES}")
    return header, data
