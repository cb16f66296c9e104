"""A socket for readers that take their bytes from one."""

from __future__ import annotations

from typing import Any


class Canned:
    """A socket that has received ``payload``, and after it the end or nothing yet; ``step`` bytes a time."""

    def __init__(self, payload: bytes, *, ends: bool = True, step: int = 1 << 16) -> None:
        self._left = memoryview(payload)
        self._ends = ends
        self._step = step

    def __enter__(self) -> Canned:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def recv(self, size: int) -> bytes:
        if not self._left and not self._ends:
            raise BlockingIOError
        taken = self._left[: min(size, self._step)]
        self._left = self._left[len(taken) :]
        return bytes(taken)

    def recv_into(self, buffer: Any) -> int:
        received = self.recv(len(buffer))
        buffer[: len(received)] = received
        return len(received)

    def send(self, data: Any) -> int:
        return len(data)

    def sendall(self, data: bytes) -> None:
        pass

    def settimeout(self, seconds: float | None) -> None:
        pass

    def setblocking(self, flag: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass
