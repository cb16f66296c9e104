"""What a child process says, of which only the end is wanted."""

from __future__ import annotations

import fcntl
import os
import tempfile
from typing import Final

_MOST_BYTES: Final = 1 << 20
_KEPT_BYTES: Final = 4 << 10
_LINES: Final = 3


class LastWords:
    """A file without a name, for a child to write to; ``shorten`` it now and then.

    No pipe: one that nobody reads, because we are stopped or busy, would stall a talkative child.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close
        # A child that goes on where it was would leave a hole as long as all that was cut off.
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)

    def fileno(self) -> int:
        """For ``subprocess``."""
        return self._file.fileno()

    def shorten(self) -> None:
        """Keep only the end of a file that has become long; what is written meanwhile may be lost."""
        if os.fstat(self.fileno()).st_size > _MOST_BYTES:
            end = self._end()
            os.ftruncate(self.fileno(), 0)
            os.write(self.fileno(), end)

    def text(self) -> str:
        """The last lines in one."""
        lines = self._end().decode("utf-8", "replace").strip().splitlines()
        return "; ".join(lines[-_LINES:]) or "it said nothing"

    def close(self) -> None:
        """Give the file up; safe to call twice."""
        self._file.close()

    def _end(self) -> bytes:
        size = os.fstat(self.fileno()).st_size
        return os.pread(self.fileno(), _KEPT_BYTES, max(0, size - _KEPT_BYTES))
