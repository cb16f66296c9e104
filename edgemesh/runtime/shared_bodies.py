"""Memory that an agent shares with its executor, for bodies of requests and answers.

One copy in place of two through the kernel, and tensors lie where kernels want them. The memory has no name
and is gone with the last process that holds it, however that ends. One request is under way at a time, so one
half for requests and one for answers is all that is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Any, Final

from edgemesh.runtime.channel import Buffer, pack_message

HALF_BYTES: Final = 16 << 20
"""Of each half; pages that were never written cost nothing. Longer bodies go through the socket."""
_LEAST_BYTES: Final = 8 << 10
"""A shorter body travels with its header: the system call is made anyway."""
_LENGTH: Final = "shared"


class SharedBodies:
    """Both halves, mapped into this process."""

    def __init__(self, descriptor: int) -> None:
        """Takes over the descriptor; raises OSError or ValueError when it cannot be mapped."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, 2 * HALF_BYTES)
        self.requests = memoryview(self._map)[:HALF_BYTES]
        self.answers = memoryview(self._map)[HALF_BYTES:]

    def close(self) -> None:
        """Unmap the memory once no view of it is left."""
        self.requests.release()
        self.answers.release()
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self.descriptor)


def shared_bodies() -> SharedBodies | None:
    """New memory to share; None where the system has none without a name (all but Linux)."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("edgemesh-bodies", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, 2 * HALF_BYTES)
        # Were it cut short by a crash of the other process, our next access would be one.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return SharedBodies(descriptor)
    except (OSError, ValueError):
        os.close(descriptor)
        return None


def pack_with_shared(
    header: dict[str, Any], parts: Sequence[Buffer], half: memoryview | None
) -> list[Buffer]:
    """Buffers to send for a message; its body is put into ``half`` if it fits, and sent with it otherwise."""
    length = sum(len(part) for part in parts)
    if half is None or not _LEAST_BYTES <= length <= len(half):
        return pack_message(header, parts)
    position = 0
    for part in parts:
        half[position : (position := position + len(part))] = part
    return pack_message({**header, _LENGTH: length})


def body_of(header: dict[str, Any], sent: memoryview, half: memoryview | None) -> memoryview:
    """What was ``sent`` with a message, or a view of ``half``, which the next message overwrites."""
    length = header.get(_LENGTH)
    return sent if length is None or half is None else half[:length]
