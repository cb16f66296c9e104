"""Watts that a machine draws from its battery, while it does."""

from __future__ import annotations

from pathlib import Path

from edgemesh.device.power.meter import Meter, Place
from edgemesh.device.procfs import own_batteries, text_of

_MICRO = 1e-6


class Battery:
    """The whole machine, screen included; renewed by its controller every 1 to 30 seconds."""

    source = "battery"

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    def watts(self) -> float | None:
        """Drawn now; None while charging or idle, when the figure is what goes into the battery."""
        discharging = [f for f in self._folders if text_of(f / "status") == "Discharging"]
        drawn = [watts for folder in discharging if (watts := _drawn(folder)) is not None]
        return sum(drawn) if drawn else None

    def close(self) -> None:
        """Nothing is held."""


def find_battery(place: Place) -> Meter | str | None:
    """The meter; None where there is no battery, or one that does not tell its power."""
    folders = [folder for folder in own_batteries(place.root) if _tells(folder)]
    return Battery(folders) if folders else None


def _tells(folder: Path) -> bool:
    return (folder / "power_now").exists() or (
        (folder / "current_now").exists() and (folder / "voltage_now").exists()
    )


def _drawn(folder: Path) -> float | None:
    """Watts by ``power_now`` in microwatts, else by current and voltage; the sign differs between drivers."""
    power = _figure(folder / "power_now")
    if power is None:
        current, voltage = _figure(folder / "current_now"), _figure(folder / "voltage_now")
        if current is None or voltage is None:
            return None
        power = current * voltage * _MICRO
    watts = abs(power) * _MICRO
    return watts if watts > 0.0 else None


def _figure(file: Path) -> float | None:
    text = text_of(file)
    return float(text) if text.removeprefix("-").isdecimal() else None
