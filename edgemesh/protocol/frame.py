"""Binary frame around everything that carries tensors or chunks: preamble, header, body.

``"EM" | u8 major | u8 kind | u32 header length | header (msgpack map) | padding to 64 | body``. The preamble
and the header's ``requester`` and ``job`` stay where they are in every major version, so that a peer of
another one can be told so.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgpack

from edgemesh.errors import DecodeError, VersionError
from edgemesh.protocol import limits
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.ids import is_id
from edgemesh.protocol.tensors import ALIGN, Part, unpack_map
from edgemesh.protocol.topics import MAJOR

T = TypeVar("T")
_PREAMBLE: Final = struct.Struct("<2sBBI")
_MAGIC: Final = b"EM"

ACTIVATION: Final = 1
REPLY: Final = 2
CHUNK: Final = 3


def encode_frame(kind: int, header: object, body: Sequence[Part] = ()) -> bytes:
    """One payload; each byte of the body is copied once."""
    packed = msgpack.packb(to_plain(header))
    start = _PREAMBLE.pack(_MAGIC, MAJOR, kind, len(packed))
    padding = b"\0" * (-(len(start) + len(packed)) % ALIGN)
    return b"".join((start, packed, padding, *body))


def decode_frame(kind: int, cls: type[T], payload: bytes | bytearray | memoryview) -> tuple[T, memoryview]:
    """``(header, body)``; the body is a view of the payload. Raises DecodeError or VersionError."""
    found, header, body = _split(payload)
    if found != kind:
        raise DecodeError(f"frame of kind {found}, wanted {kind}")
    return from_plain(cls, header), body


def sender_of(payload: bytes | bytearray | memoryview) -> tuple[str, str] | None:
    """``(requester, job)`` of a frame that cannot be used otherwise, or None: whom to answer."""
    view = memoryview(payload).cast("B")
    if len(view) < _PREAMBLE.size:
        return None
    magic, _, _, length = _PREAMBLE.unpack_from(view)
    if magic != _MAGIC or length > limits.HEADER_BYTES:
        return None
    try:
        header = unpack_map(view[_PREAMBLE.size : _PREAMBLE.size + length], dict)
    except DecodeError:
        return None
    requester, job = header.get("requester"), header.get("job")
    if isinstance(requester, str) and isinstance(job, str) and is_id(requester) and is_id(job):
        return requester, job
    return None


def _split(payload: bytes | bytearray | memoryview) -> tuple[int, dict[str, Any], memoryview]:
    view = memoryview(payload).cast("B")
    if len(view) < _PREAMBLE.size:
        raise DecodeError(f"frame of {len(view)} bytes is truncated")
    magic, major, kind, length = _PREAMBLE.unpack_from(view)
    if magic != _MAGIC:
        raise DecodeError("not an edgemesh frame")
    if major != MAJOR:
        raise VersionError(f"message speaks version {major} of the wire contract, this side speaks {MAJOR}")
    if length > limits.HEADER_BYTES:
        raise DecodeError(f"header of {length} bytes, more than {limits.HEADER_BYTES}")
    end = _PREAMBLE.size + length
    body = end + (-end % ALIGN)
    if end > len(view):
        raise DecodeError("frame header is truncated")
    return kind, unpack_map(view[_PREAMBLE.size : end], dict), view[min(body, len(view)) :]
