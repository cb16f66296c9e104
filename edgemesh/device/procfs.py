"""Counters of the Linux kernel, read from ``/proc`` and ``/sys`` without psutil.

Every function takes ``root``, the folder that holds ``proc`` and ``sys``, and says "unknown" (None, or an
empty text or map) where the kernel does not tell: boards, containers and virtual machines differ in that.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_PROCESSOR_ZONES = ("cpu", "x86_pkg", "soc")


class ProcessLook(NamedTuple):
    """A process at one moment."""

    state: str
    """A letter: R runs, S sleeps, D waits for a disk, T is stopped, t is held by a debugger (proc(5))."""
    ticks: int
    """Clock ticks of processor time that all its threads have had."""


def text_of(path: Path) -> str:
    """The text of a small kernel file without its end (newline or NUL); empty when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").rstrip("\0\n ")
    except OSError:
        return ""


def meminfo(root: Path) -> dict[str, int]:
    """``/proc/meminfo`` in bytes; empty off Linux."""
    found = {}
    for line in text_of(root / "proc/meminfo").splitlines():
        key, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[key] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def cpu_ticks(root: Path) -> tuple[int, int] | None:
    """Busy and all clock ticks of all cores since the machine started."""
    for line in text_of(root / "proc/stat").splitlines():
        if line.startswith("cpu "):
            ticks = [int(word) for word in line.split()[1:] if word.isdecimal()]
            if len(ticks) < 4:
                return None
            # user nice system idle iowait irq softirq steal guest guest_nice; guest is within user already.
            whole = sum(ticks[:8])
            return whole - sum(ticks[3:5]), whole
    return None


def process_look(root: Path, pid: int) -> ProcessLook | None:
    """A process now; None off Linux, and where there is none."""
    # The name, in parentheses, may hold anything.
    fields = text_of(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 13 or not (fields[11].isdecimal() and fields[12].isdecimal()):
        return None
    return ProcessLook(fields[0], int(fields[11]) + int(fields[12]))


def load_average(root: Path) -> float | None:
    """Processes that ran or wanted to, averaged over a minute."""
    words = text_of(root / "proc/loadavg").split()
    return _number(words[0]) if words else None


def temperature(root: Path) -> float | None:
    """Degrees Celsius of the processor: its thermal zone, else the hottest zone or sensor there is."""
    zones = [
        (text_of(zone / "type").lower(), _celsius(zone / "temp"))
        for zone in (root / "sys/class/thermal").glob("thermal_zone*")
    ]
    # A Jetson's PMIC zone always says 100 degrees, so the processor's own zone goes first.
    processor = [celsius for name, celsius in zones if any(word in name for word in _PROCESSOR_ZONES)]
    sensors = [_celsius(sensor) for sensor in (root / "sys/class/hwmon").glob("hwmon*/temp*_input")]
    for candidates in (processor, [celsius for _, celsius in zones], sensors):
        known = [celsius for celsius in candidates if celsius is not None]
        if known:
            return max(known)
    return None


def battery(root: Path) -> tuple[float | None, bool | None]:
    """How full the battery is (0 to 1) and whether the machine lives on it; None each where there is none.

    Batteries of peripherals (scope ``Device``) do not count; of several, the mean.
    """
    own = own_batteries(root)
    percents = [percent for s in own if (percent := _number(text_of(s / "capacity"))) is not None]
    if not percents:
        return None, None
    discharging = any(text_of(s / "status") == "Discharging" for s in own)
    return min(max(sum(percents) / len(percents) / 100.0, 0.0), 1.0), discharging


def own_batteries(root: Path) -> list[Path]:
    """Folders of the machine's own batteries."""
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    return [s for s in supplies if text_of(s / "type") == "Battery" and text_of(s / "scope") != "Device"]


def _celsius(file: Path) -> float | None:
    value = _number(text_of(file))
    # Sensors that are off say 0 or -274000.
    return value * 1e-3 if value is not None and value > 0 else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
