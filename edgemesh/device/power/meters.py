"""The meters of this machine, the best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgemesh.device.power.battery import find_battery
from edgemesh.device.power.ina import find_ina
from edgemesh.device.power.meter import Meter, Place
from edgemesh.device.power.pmic import find_pmic
from edgemesh.device.power.rapl import find_rapl

FINDERS: Final[tuple[Callable[[Place], Meter | str | None], ...]] = (
    find_ina,  # put there by a person, in the supply of the board
    find_battery,  # the whole machine, while it discharges
    find_pmic,
    find_rapl,  # often the processor alone
)
"""In order of preference. Each gives a meter, or why its meter cannot be read, or None."""


class PowerMeters:
    """Whatever meters there are; absent ones are looked for once and cost nothing after."""

    def __init__(self, place: Place) -> None:
        found = [meter for find in FINDERS if (meter := find(place)) is not None]
        self.meters: tuple[Meter, ...] = tuple(meter for meter in found if not isinstance(meter, str))
        self.notes: tuple[str, ...] = tuple(meter for meter in found if isinstance(meter, str))
        """Why a meter that is there cannot be read."""

    def read(self) -> tuple[float, str] | None:
        """Watts since the call before, and their source: of the first meter that has something to say."""
        # All of them: one that is skipped would give the mean of a longer time when it is asked again.
        readings = [(meter.watts(), meter.source) for meter in self.meters]
        return next(((watts, source) for watts, source in readings if watts is not None), None)

    def close(self) -> None:
        """Free what the meters hold."""
        for meter in self.meters:
            meter.close()
