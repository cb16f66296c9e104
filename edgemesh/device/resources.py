"""Readings of the machine: processor, memory, temperature, throttling, battery."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from edgemesh.device import procfs
from edgemesh.device.cgroup_memory import memory_limit
from edgemesh.device.power.meters import PowerMeters
from edgemesh.device.throttling import throttling

try:
    import psutil as _psutil
except ImportError:  # Some boards have no wheel of it; Linux tells all the same without.
    _psutil = None


@dataclass(frozen=True)
class Readings:
    """The machine at one moment; None where it does not tell."""

    cpu: float
    """Fraction of all cores that was busy since the reading before."""
    memory_total: int
    """Of the machine, or of the cgroup that this process lives in where that has less; as the next."""
    memory_available: int
    load: float | None = None
    """Processes that ran or wanted to, averaged over a minute."""
    temperature: float | None = None
    """Degrees Celsius."""
    throttled: tuple[str, ...] = ()
    """Why it holds its clock back now."""
    throttled_since_boot: tuple[str, ...] = ()
    battery: float | None = None
    """0 empty, 1 full."""
    on_battery: bool | None = None
    watts: float | None = None
    """Metered since the reading before."""
    watts_source: str | None = None
    power_notes: tuple[str, ...] = ()
    """Why a meter that is there cannot be read."""


class _Counters(Protocol):
    """What differs with and without psutil."""

    def cpu_seconds(self) -> tuple[float, float]:
        """Busy and all time of all cores since start, in any one unit."""
        ...

    def memory(self) -> tuple[int, int]:
        """Total and available bytes."""
        ...

    def temperature(self) -> float | None:
        """Degrees Celsius."""
        ...

    def battery(self) -> tuple[float | None, bool | None]:
        """How full, 0 to 1, and whether the machine lives on it."""
        ...


class ResourceReader:
    """Reads this machine again and again; ``cpu`` is the fraction between two readings.

    ``root`` other than ``/`` reads recorded ``proc`` and ``sys`` trees, without psutil.
    """

    def __init__(self, root: Path = Path("/"), meters: PowerMeters | None = None) -> None:
        self._root = root
        self._meters = meters
        self._counters = _counters(root)
        self._before = self._counters.cpu_seconds()
        self._cpu = 0.0

    def read(self) -> Readings:
        """The machine now."""
        busy, whole = self._counters.cpu_seconds()
        busy_before, whole_before = self._before
        # The kernel counts in ticks of 10 ms and steps back after suspend: no time passed, old fraction.
        if whole > whole_before:
            self._cpu = min(max((busy - busy_before) / (whole - whole_before), 0.0), 1.0)
            self._before = (busy, whole)
        total, available = self._counters.memory()
        if (limit := memory_limit(self._root)) is not None:
            total, available = min(total, limit.total), min(available, limit.available)
        slow = throttling(self._root)
        full, on_battery = self._counters.battery()
        metered = None if self._meters is None else self._meters.read()
        return Readings(
            cpu=self._cpu,
            memory_total=total,
            memory_available=available,
            load=_load(self._root),
            temperature=self._counters.temperature(),
            throttled=() if slow is None else slow.now,
            throttled_since_boot=() if slow is None else slow.since_boot,
            battery=full,
            on_battery=on_battery,
            watts=None if metered is None else metered[0],
            watts_source=None if metered is None else metered[1],
            power_notes=() if self._meters is None else self._meters.notes,
        )

    def close(self) -> None:
        """Free what the meters hold."""
        if self._meters is not None:
            self._meters.close()


def _counters(root: Path) -> _Counters:
    if _psutil is not None and root == Path("/"):
        counters = _PsutilCounters(_psutil)
        # It raises what it likes where files of /proc are masked, empty, or not for us, as on Android.
        with contextlib.suppress(Exception):
            counters.cpu_seconds()
            counters.memory()
            return counters
    return _KernelCounters(root)


def _load(root: Path) -> float | None:
    if root == Path("/") and hasattr(os, "getloadavg"):
        with contextlib.suppress(OSError):
            return os.getloadavg()[0]
    return procfs.load_average(root)


class _KernelCounters:
    """Without psutil: the files of Linux. Of time that cannot be read none passes, so no load is told."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def cpu_seconds(self) -> tuple[float, float]:
        return procfs.cpu_ticks(self._root) or (0, 0)

    def memory(self) -> tuple[int, int]:
        found = procfs.meminfo(self._root)
        # Kernels before 3.14 have no MemAvailable.
        rest = found.get("MemFree", 0) + found.get("Cached", 0)
        return found.get("MemTotal", 0), found.get("MemAvailable", rest)

    def temperature(self) -> float | None:
        return procfs.temperature(self._root)

    def battery(self) -> tuple[float | None, bool | None]:
        return procfs.battery(self._root)


class _PsutilCounters:
    """With psutil, hence off Linux too."""

    def __init__(self, psutil: ModuleType) -> None:
        self._psutil = psutil

    def cpu_seconds(self) -> tuple[float, float]:
        times = self._psutil.cpu_times()
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return whole - times.idle - getattr(times, "iowait", 0.0), whole

    def memory(self) -> tuple[int, int]:
        memory = self._psutil.virtual_memory()
        return int(memory.total), int(memory.available)

    def temperature(self) -> float | None:
        # psutil lists sensors under driver names; the kernel's zones name the processor.
        if (known := procfs.temperature(Path("/"))) is not None:
            return known
        if not hasattr(self._psutil, "sensors_temperatures"):
            return None
        sensors = [s.current for group in self._psutil.sensors_temperatures().values() for s in group]
        return max((float(value) for value in sensors if value and value > 0), default=None)

    def battery(self) -> tuple[float | None, bool | None]:
        found = None
        if hasattr(self._psutil, "sensors_battery"):
            # It raises where the kernel has no folder of power supplies.
            with contextlib.suppress(OSError):
                found = self._psutil.sensors_battery()
        if found is None:
            return None, None
        on_battery = None if found.power_plugged is None else not found.power_plugged
        return min(max(found.percent / 100.0, 0.0), 1.0), on_battery
