"""Bytes of inputs that a person names, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from edgemesh.errors import InputError
from edgemesh.protocol.limits import TENSOR_BYTES

INPUT_BYTES = TENSOR_BYTES + (1 << 20)
"""The largest tensor, with the head of an npy file."""
_STEP = 1 << 20


def file_bytes(path: Path) -> bytes:
    """The content of an input file; raises InputError."""
    try:
        with path.open("rb") as file:
            return stream_bytes(file, str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def stream_bytes(file: BinaryIO, name: str) -> bytes:
    """All of a stream; raises InputError, OSError.

    Also of a file without a length (a device, a pipe), of which one may fill all of the memory.
    """
    parts: list[bytes] = []
    left = INPUT_BYTES
    while part := file.read(_STEP):
        left -= len(part)
        if left < 0:
            raise InputError(f"{name} has more than the {INPUT_BYTES >> 20} MiB that an input can have")
        parts.append(part)
    return b"".join(parts)
