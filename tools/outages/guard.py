"""Ends every process of a run when the run is over, however it ended.

A process that is stopped by SIGSTOP hears no SIGTERM, and who is killed cleans up nothing: so another process
keeps the list, and acts when its standard input comes to an end. It makes the run's folder, too: there is no
moment in which that is there and nobody removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_STOP_SECONDS = 5.0


class Guard:
    """Knows the process groups of a run and its folder; a context manager."""

    def __init__(self, prefix: str) -> None:
        """Make a folder for temporary files whose name begins with ``prefix``; it is removed at the end."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the run, which this process outlives.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        with self._process.stdout as told:
            line = os.fsdecode(told.readline())
        if not line:
            raise OSError("no folder for temporary files could be made: see the error above")
        self.folder = Path(line.rstrip("\n"))

    def watch(self, group: int) -> None:
        """End this process group, too."""
        self._say(f"+{group}")

    def forget(self, group: int) -> None:
        """This group has ended: its number may soon be somebody else's."""
        self._say(f"-{group}")

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_STOP_SECONDS)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()


def main(prefix: str) -> None:
    """Make a folder and print it; collect groups until nobody writes any more, then kill them."""
    folder = tempfile.mkdtemp(prefix=prefix)
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), os.fsencode(f"{folder}\n"))
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
