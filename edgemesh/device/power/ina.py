"""INA219 and INA226 meter chips: through the kernel's driver where it is bound, else over ``/dev/i2c-*``.

Only the shunt's and the bus' voltage are read, both of which either chip converts from power-on by itself
(datasheets SBOS448, SBOS547): nothing is written into it, and no calibration is needed. A shunt of 0.1 ohm
at an INA226 ends at 0.82 A, less than a busy Raspberry Pi 4 takes: use 15 milliohm or less there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from edgemesh.device.power.ina_address import InaAddress
from edgemesh.device.power.meter import Meter, Place, Sampled
from edgemesh.device.procfs import text_of

_CHIPS = frozenset({"ina219", "ina220", "ina226", "ina230", "ina231"})
_PERIOD = 0.1
_I2C_SLAVE = 0x0703
"""``ioctl`` that sets the address (linux/i2c-dev.h)."""
_SHUNT, _BUS, _MAKER = 0x01, 0x02, 0xFE
_TEXAS = 0x5449
"""Maker's id of the INA226; the INA219 has no such register."""
_MOST_WATTS = 36.0 * 1000.0
Read = Callable[[int], int]
"""Number of a register to its 16 bits."""


def find_ina(place: Place) -> Meter | str | None:
    """The meter; why none can be used; None where there is no chip."""
    bound = sorted(
        folder
        for folder in (place.root / "sys/class/hwmon").glob("hwmon*")
        if text_of(folder / "name") in _CHIPS
    )
    if place.ina is None:
        if len(bound) > 1:
            return f"ina: {len(bound)} meter chips are bound; say which one has the board with --ina"
        return _by_driver(bound[0], None) if bound else None
    # The kernel names the chip at address 0x40 of bus 1 `1-0040`.
    name = f"{place.ina.bus}-{place.ina.address:04x}"
    for folder in bound:
        if (folder / "device").resolve().name == name:
            return _by_driver(folder, place.ina)
    return _by_bus(place, place.ina)


def _by_driver(folder: Path, wanted: InaAddress | None) -> Meter:
    """``in0_input`` shunt in mV, ``in1_input`` bus in mV, ``curr1_input`` mA, ``power1_input`` uW."""
    kernel_ohms = _figure(folder / "shunt_resistor", 1e-6)
    # The driver computes with the shunt it was told of, 10 milliohm unless the device tree says another.
    scale = kernel_ohms / wanted.shunt_ohms if wanted is not None and kernel_ohms else 1.0

    def power() -> float | None:
        watts = _figure(folder / "power1_input", 1e-6)
        if watts is None:
            amperes, volts = _figure(folder / "curr1_input", 1e-3), _figure(folder / "in1_input", 1e-3)
            watts = None if amperes is None or volts is None else amperes * volts
        return None if watts is None else _plausible(watts * scale)

    return Sampled(text_of(folder / "name"), power, _PERIOD)


def _by_bus(place: Place, chip: InaAddress) -> Meter | str:
    device = place.root / f"dev/i2c-{chip.bus}"
    try:
        bus = I2cDevice(device, chip.address)
        name = chip_name(bus.read)
    except PermissionError:
        return f"ina: may not open {device}: put the agent's user into the group i2c"
    except OSError as error:
        return f"ina: no answer at address {chip.address:#x} of {device} ({error.strerror or error})"

    def power() -> float | None:
        try:
            return chip_watts(bus.read, name, chip.shunt_ohms)
        except OSError:
            return None  # a loose wire; the next sample may do

    return Sampled(name, power, _PERIOD)


def chip_name(read: Read) -> str:
    """``ina226`` where the chip says its maker, else ``ina219``."""
    return "ina226" if read(_MAKER) == _TEXAS else "ina219"


def chip_watts(read: Read, name: str, shunt_ohms: float) -> float | None:
    """Watts from both voltages: 10 uV and 4 mV a step (INA219), 2.5 uV and 1.25 mV (INA226)."""
    (shunt,) = struct.unpack(">h", struct.pack(">H", read(_SHUNT)))
    bus = read(_BUS)
    if name == "ina226":
        return _plausible(abs(shunt) * 2.5e-6 / shunt_ohms * bus * 1.25e-3)
    # The lowest three bits of the INA219's bus register are flags.
    return _plausible(abs(shunt) * 10e-6 / shunt_ohms * (bus >> 3) * 4e-3)


class I2cDevice:
    """One chip on a bus, by plain reads and writes of the character device."""

    def __init__(self, device: Path, address: int) -> None:
        """Raises OSError."""
        import fcntl  # Unix only, as the device is

        self._fd = os.open(device, os.O_RDWR)
        try:
            fcntl.ioctl(self._fd, _I2C_SLAVE, address)
        except OSError:
            os.close(self._fd)
            raise

    def read(self, register: int) -> int:
        """16 bits, the high byte first; raises OSError."""
        os.write(self._fd, bytes([register]))
        data = os.read(self._fd, 2)
        if len(data) != 2:
            raise OSError(f"register {register:#x} gave {len(data)} bytes")
        return int.from_bytes(data, "big")


def _plausible(watts: float) -> float | None:
    return watts if 0.0 < watts <= _MOST_WATTS else None


def _figure(file: Path, unit: float) -> float | None:
    text = text_of(file)
    return int(text) * unit if text.removeprefix("-").isdecimal() else None
