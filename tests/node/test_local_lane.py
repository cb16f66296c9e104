"""The agent's socket for programs on its machine: what it sends, and when it comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from edgemesh.errors import BusyError
from edgemesh.node.local_lane import Frames, pack_ended
from edgemesh.roles.actions import JobEnded


class _Written(asyncio.Transport):
    """Keeps what is handed to the socket."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: list[Any] = []

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.buffers += list_of_data

    def is_closing(self) -> bool:
        return False


def test_no_empty_buffer_is_sent() -> None:
    """Found by a reader: from Python 3.12 on asyncio never gets rid of one, and its loop spins."""
    frames, written = Frames(lambda header, body: None, lambda: None), _Written()
    frames.connection_made(written)
    error = pack_ended(JobEnded("job", "face", 0.0, BusyError.code, "is busy"))
    frames.send(error)

    assert all(len(buffer) for buffer in written.buffers)
    assert b"".join(written.buffers) == b"".join(error)
