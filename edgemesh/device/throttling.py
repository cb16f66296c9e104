"""Whether a board holds its clock back, and why."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgemesh.device.procfs import text_of

# raspberrypi/documentation, os/using-vcgencmd: bits 0 to 3 now, the same ones from bit 16 since boot.
_BITS = {0: "under-voltage", 1: "frequency-capped", 2: "throttled", 3: "soft-temperature-limit"}
_SINCE_BOOT = 16
_VCGENCMD_SECONDS = 2.0


@dataclass(frozen=True)
class Throttling:
    """Reasons by name, such as ``under-voltage``; empty when the board runs as fast as it can."""

    now: tuple[str, ...] = ()
    since_boot: tuple[str, ...] = ()


def decode_throttled(word: int) -> Throttling:
    """What the firmware of a Raspberry Pi says with its ``get_throttled`` word."""
    return Throttling(
        now=tuple(name for bit, name in _BITS.items() if word >> bit & 1),
        since_boot=tuple(name for bit, name in _BITS.items() if word >> (bit + _SINCE_BOOT) & 1),
    )


def parse_throttled(text: str) -> Throttling | None:
    """The same from its text: ``throttled=0x50005`` of vcgencmd or ``50005`` of sysfs; None for another."""
    try:
        return decode_throttled(int(text.strip().removeprefix("throttled="), 16))
    except ValueError:
        return None


def throttling(root: Path) -> Throttling | None:
    """Why this machine is slow at the moment; None where nothing tells."""
    # `soc` up to the Pi 4, `soc@107c000000` on the Pi 5.
    for file in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        if (found := parse_throttled(text_of(file))) is not None:
            return found
    if root == Path("/") and shutil.which("vcgencmd"):
        return _from_vcgencmd()
    return _from_cooling(root)


def _from_vcgencmd() -> Throttling | None:
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"],
            capture_output=True,
            text=True,
            timeout=_VCGENCMD_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        # Installed but no /dev/vcio, or no right to open it: as good as not told.
        return None
    return parse_throttled(done.stdout)


def _from_cooling(root: Path) -> Throttling | None:
    """Other boards: the kernel's own processor coolers, whose state is how far the clock is held down."""
    states = [
        text_of(cooler / "cur_state")
        for cooler in (root / "sys/class/thermal").glob("cooling_device*")
        if text_of(cooler / "type").startswith(("thermal-cpufreq", "cpufreq"))
    ]
    if not states:
        return None
    return Throttling(now=("frequency-capped",) if any(state not in ("", "0") for state in states) else ())
