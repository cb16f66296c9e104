"""Where an INA219 or INA226 is, as a person writes it: ``1:0x40:0.1``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgemesh.errors import SettingsError

_FORM = re.compile(r"(\d{1,3}):(0[xX][0-9a-fA-F]{1,2}|\d{1,3}):(\d*\.?\d+)")


@dataclass(frozen=True)
class InaAddress:
    """One chip."""

    bus: int
    """Number of the I2C bus: ``/dev/i2c-<bus>``."""
    address: int
    """0x40 to 0x4f, by the pins A0 and A1."""
    shunt_ohms: float
    """Of the resistor that it measures at."""


def parsed_ina(text: str) -> InaAddress:
    """``BUS:ADDRESS:OHMS``; raises SettingsError."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise SettingsError(
            f"{text[:60]!r} is no meter chip: write BUS:ADDRESS:OHMS, such as 1:0x40:0.1 for an INA219 at "
            "address 0x40 of /dev/i2c-1 with a shunt of 0.1 ohm"
        )
    chip = InaAddress(int(found[1]), int(found[2], 0), float(found[3]))
    if not 0x40 <= chip.address <= 0x4F:
        raise SettingsError(f"address {chip.address:#x} of a meter chip is not within 0x40 to 0x4f")
    if not 1e-4 <= chip.shunt_ohms <= 10.0:
        raise SettingsError(f"a shunt of {chip.shunt_ohms:g} ohm is not within 0.0001 to 10")
    return chip
