"""Memory that an agent shares with its executor, for bodies of requests and answers.

One copy in place of two through the kernel, and tensors lie where kernels want them. The memory has no name
and is gone with the last process that holds it, however that ends. There are two areas for requests, because
one may be sent ahead while another is under way, and two for answers, which come to them in turn: the next
request can be answered while the answer to the last one is still being read.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Sequence
from typing import Any, Final

from edgemesh.runtime.channel import Buffer, pack_message

AREA_BYTES: Final = 16 << 20
"""Of each area; pages that were never written cost nothing. Longer bodies go through the socket."""
_LEAST_BYTES: Final = 8 << 10
"""A shorter body travels with its header: the system call is made anyway."""
_AREAS: Final = 4
_PLACE: Final = "shared"
"""Key of a header: where the body lies, ``[start, stop)``."""


class SharedBodies:
    """All areas, mapped into this process."""

    def __init__(self, descriptor: int) -> None:
        """Takes over the descriptor; raises OSError or ValueError when it cannot be mapped."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, _AREAS * AREA_BYTES)
        self._whole = memoryview(self._map)
        self._request_area, self._answer_area = 0, 3

    def with_request(self, header: dict[str, Any], parts: Sequence[Buffer], *, ahead: bool) -> list[Buffer]:
        """Buffers to send for a request; its body is put into shared memory where that pays.

        One that goes ``ahead`` leaves alone what the request before it has there.
        """
        self._request_area = 1 - self._request_area if ahead else 0
        return self._pack(header, parts, self._request_area * AREA_BYTES)

    def with_answer(self, header: dict[str, Any], parts: Sequence[Buffer]) -> list[Buffer]:
        """The same for an answer."""
        self._answer_area = 5 - self._answer_area
        return self._pack(header, parts, self._answer_area * AREA_BYTES)

    def body_of(self, header: dict[str, Any], sent: memoryview) -> memoryview:
        """What was ``sent`` with a message, or a view of shared memory.

        A request's stays until its answer has been read, an answer's until the answer after the next one.
        Raises ValueError for a place that there is not.
        """
        place = header.get(_PLACE)
        if place is None:
            return sent
        match place:
            case [int(start), int(stop)] if 0 <= start <= stop <= len(self._whole):
                return self._whole[start:stop].toreadonly()
        raise ValueError(f"no body can lie at {place!r}")

    def _pack(self, header: dict[str, Any], parts: Sequence[Buffer], start: int) -> list[Buffer]:
        length = sum(len(part) for part in parts)
        if not _LEAST_BYTES <= length <= AREA_BYTES:
            return pack_message(header, parts)
        position = start
        for part in parts:
            self._whole[position : (position := position + len(part))] = part
        return pack_message({**header, _PLACE: [start, position]})

    def close(self) -> None:
        """Unmap the memory once no view of it is left."""
        with contextlib.suppress(BufferError):
            self._whole.release()
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
        os.ftruncate(descriptor, _AREAS * AREA_BYTES)
        # Were it cut short by a crash of the other process, our next access would be one.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return SharedBodies(descriptor)
    except (OSError, ValueError):
        os.close(descriptor)
        return None
