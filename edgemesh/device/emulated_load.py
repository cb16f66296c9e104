"""Load of an emulated board: a file in its directory says how many times slower other programs make it."""

from __future__ import annotations

import os
from pathlib import Path

FILE = "emulated-load"
MARK = "emulated"
"""There while the directory is that of an emulated board: a real one reads no load."""
TIMES_RANGE = (1.0, 100.0)
_BYTES = 32


class EmulatedLoad:
    """Reads the file again whenever it has changed; what is no number in range counts as no load."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._seen: tuple[int, int] | None = None
        self._times = 1.0

    @property
    def times(self) -> float:
        """How many times longer runs take than on the board alone, at least 1."""
        try:
            status = os.stat(self._path)
        except OSError:
            self._seen, self._times = None, 1.0
            return 1.0
        seen = status.st_mtime_ns, status.st_ino
        if seen != self._seen:
            self._seen, self._times = seen, _read(self._path)
        return self._times

    def busy_with(self, own: float) -> float:
        """Fraction of the processor in use when this board's own work takes ``own`` of its time.

        A run that takes ``times`` as long gets one part in ``times``; other programs have the rest.
        """
        return min(1.0, own + 1.0 - 1.0 / self.times)


def mark_emulated(directory: Path, *, emulated: bool) -> None:
    """Remember what the device of ``directory`` is, as it starts; raises OSError.

    A load that was made up for the board before is over, as other programs are when a machine starts.
    """
    _remove(directory / FILE)
    if not emulated:
        _remove(directory / MARK)
    elif not is_emulated(directory):
        (directory / MARK).touch()


def is_emulated(directory: Path) -> bool:
    """Whether the device that last used ``directory`` was an emulated board."""
    return (directory / MARK).is_file()


def set_emulated_load(directory: Path, times: float) -> None:
    """Make the emulated board of ``directory`` ``times`` slower from its next run on; 1 takes that back.

    Raises ValueError outside ``TIMES_RANGE`` and OSError when the directory cannot be written.
    """
    if not TIMES_RANGE[0] <= times <= TIMES_RANGE[1]:
        raise ValueError(f"a load of {times} is not between {TIMES_RANGE[0]:.0f} and {TIMES_RANGE[1]:.0f}")
    path = directory / FILE
    if times == 1.0:
        _remove(path)
        return
    written = path.with_suffix(".new")
    written.write_text(f"{times}\n", encoding="ascii")
    written.replace(path)  # a reader sees the old figure or the new one, never half of it


def _remove(path: Path) -> None:
    if path.exists():  # a read-only disk refuses to delete even what is not there
        path.unlink(missing_ok=True)


def _read(path: Path) -> float:
    try:
        with open(path, encoding="ascii") as file:
            times = float(file.read(_BYTES))
    except (OSError, ValueError):
        return 1.0
    return times if TIMES_RANGE[0] <= times <= TIMES_RANGE[1] else 1.0
