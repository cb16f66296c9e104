"""What a process takes of the machine, and whether that grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from benchmarks.report import NotMeasurableError

_TOO_FEW = "it was over before the processes could be looked at three times: more jobs, with --jobs"


@dataclass(frozen=True)
class Usage:
    """One look at one process."""

    memory: int
    """Bytes, each page by its share among those who use it (PSS), without pages of files: of those a process
    has more when another program that maps the same library ends."""
    threads: int
    descriptors: int


def usage(pid: int) -> Usage:
    """Of a process that lives; raises NotMeasurableError."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Usage(_memory(pid), process.num_threads(), process.num_fds())
    except (psutil.Error, OSError, AttributeError) as error:
        raise NotMeasurableError(f"what process {pid} takes cannot be read: {error}") from None


def _memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {
        name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value
    }
    return 1024 * (int(kilobytes["Pss_Anon"]) + int(kilobytes["Pss_Shmem"]))


def family(pid: int) -> list[int]:
    """A process and its children, in the order of their start."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children())]
    except psutil.Error as error:
        raise NotMeasurableError(f"process {pid} of the mesh has ended: {error}") from None


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """By how much ``(time, value)`` grow over the last two thirds of the time, by least squares.

    The first third is warm-up. Raises NotMeasurableError for fewer than three samples there.
    """
    if not samples:
        raise NotMeasurableError(_TOO_FEW)
    first, last = samples[0][0], samples[-1][0]
    kept = [sample for sample in samples if sample[0] >= first + (last - first) / 3.0]
    if len(kept) < 3:
        raise NotMeasurableError(_TOO_FEW)
    times, values = np.array(kept).T
    centred = times - times.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (values - values.mean())) / spread if spread > 0.0 else 0.0
    return slope * float(times[-1] - times[0])


def rise(samples: Sequence[tuple[float, float]]) -> float:
    """Mean of the last fifth of the samples over that of the second fifth; the first is warm-up."""
    fifth = max(1, len(samples) // 5)
    values = [value for _, value in samples]
    early, late = values[fifth : 2 * fifth] or values[:1], values[-fifth:]
    return (sum(late) / len(late)) / (sum(early) / len(early))
