"""Raspberry Pi 5: the power chip's converter, by ``vcgencmd pmic_read_adc``.

It has neither a file in sysfs nor an energy counter (ml-energy/zeus issues 273 and 274). The sum over the
rails that tell volts and amperes under-reads the wall: what hangs on the 5 V input (USB) and the chip's own
loss are not in it. A published fit, total = 1.1451 * sum + 0.5879 W (pitop.hongjunwu.com/guide/power), is
applied here; USB devices stay out of it. Older boards tell voltages only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from edgemesh.device.power.meter import Meter, Place, Sampled
from edgemesh.device.procfs import text_of

_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]\s*$", re.MULTILINE)
_FIT_SLOPE, _FIT_OFFSET = 1.1451, 0.5879
_MOST_WATTS = 60.0
"""The board's supply ends at 27 W."""
_PERIOD = 0.5
"""Seconds: each reading starts a process of some 5 ms."""
_SECONDS = 2.0
_MODELS = ("Raspberry Pi 5", "Raspberry Pi 500", "Raspberry Pi Compute Module 5")


def parsed_rails(text: str) -> float | None:
    """Watts over all rails that tell both volts and amperes; None where none does."""
    figures: dict[str, dict[str, float]] = {}
    for rail, unit, value in _LINE.findall(text):
        figures.setdefault(rail, {})[unit] = float(value)
    known = [rail["A"] * rail["V"] for rail in figures.values() if len(rail) == 2]
    return sum(known) if known else None


def board_watts(text: str) -> float | None:
    """Watts of the board from what ``pmic_read_adc`` prints, by the published fit."""
    rails = parsed_rails(text)
    if rails is None or rails <= 0.0:
        return None
    watts = _FIT_SLOPE * rails + _FIT_OFFSET
    return watts if watts <= _MOST_WATTS else None


def find_pmic(place: Place, run: Callable[[], str | None] | None = None) -> Meter | str | None:
    """The meter; why it cannot be read; None on any other board."""
    if not text_of(place.root / "proc/device-tree/model").startswith(_MODELS):
        return None
    if run is None:
        if place.root != Path("/") or shutil.which("vcgencmd") is None:
            return "pmic: install vcgencmd (package raspi-utils) to read the power chip of this board"
        run = _vcgencmd
    first = run()
    if first is None or board_watts(first) is None:
        return "pmic: vcgencmd pmic_read_adc does not answer; put the agent's user into the group video"
    read = run

    def power() -> float | None:
        text = read()
        return None if text is None else board_watts(text)

    return Sampled("pmic (fitted, without USB)", power, _PERIOD)


def _vcgencmd() -> str | None:
    try:
        done = subprocess.run(
            ["vcgencmd", "pmic_read_adc"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout
