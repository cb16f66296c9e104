"""RAPL: energy counters of Intel and AMD processors under ``/sys/class/powercap``.

Domains nest (psys holds the package, that holds core and uncore), so only the outermost count. Without psys
the figure is that of the processor alone: drives, USB, memory and the power supply's loss are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgemesh.device.power.meter import Meter, Place
from edgemesh.device.procfs import text_of

_MICROJOULES = 1e-6
_MOST_WATTS = 5000.0
"""Of a machine: a larger figure is a counter that was reset, not one that wrapped."""
_LONGEST = 600.0
"""Seconds between two readings; a counter may wrap more than once in longer ones (one wraps at 262,143 J)."""


@dataclass
class _Domain:
    folder: Path
    name: str
    wraps_at: int
    """Microjoules; 0 where it is not known."""
    before: int | None = None


class Rapl:
    """Watts between two readings of the counters."""

    def __init__(self, place: Place, domains: list[_Domain]) -> None:
        self._clock = place.clock
        self._domains = domains
        self._at: float | None = None
        psys = [domain for domain in domains if domain.name == "psys"]
        self.source = "rapl psys" if psys else "rapl"

    def watts(self) -> float | None:
        """Mean since the reading before; the first one only begins."""
        now = self._clock()
        elapsed = None if self._at is None else now - self._at
        self._at = now
        joules = {domain.name: _advance(domain) for domain in self._domains}
        if elapsed is None or not 0.0 < elapsed <= _LONGEST:
            return None
        counted = [joules["psys"]] if "psys" in joules else list(joules.values())
        known = [energy for energy in counted if energy is not None]
        if len(known) < len(counted):
            return None
        watts = sum(known) / elapsed
        return watts if 0.0 < watts <= _MOST_WATTS else None

    def close(self) -> None:
        """Nothing is held."""


def find_rapl(place: Place) -> Meter | str | None:
    """The meter; why it cannot be read; None where the processor has none (virtual machines, most ARM)."""
    found: list[_Domain] = []
    refused: Path | None = None
    # `intel-rapl:0` is a package, `intel-rapl:0:0` within it, `intel-rapl-mmio:0` the same package again.
    for folder in sorted((place.root / "sys/class/powercap").glob("intel-rapl:*")):
        if folder.name.count(":") != 1:
            continue
        name = text_of(folder / "name") or folder.name
        try:
            (folder / "energy_uj").read_text()
        except PermissionError:
            refused = folder
            continue
        except OSError:
            continue
        found.append(_Domain(folder, name, _number(text_of(folder / "max_energy_range_uj")) or 0))
    psys = [domain for domain in found if domain.name == "psys"]
    # Some firmware has a psys that never moves: then the packages tell more.
    moving = [domain for domain in psys if (_number(text_of(domain.folder / "energy_uj")) or 0) > 0]
    domains = moving or [domain for domain in found if domain.name != "psys"]
    if domains:
        return Rapl(place, domains)
    if refused is not None:
        return (
            f"rapl: only root may read {refused}/energy_uj; let the agent's group read it with a udev rule "
            "(chgrp and chmod g+r), or run  chmod a+r  on it after each start of the machine"
        )
    return None


def _advance(domain: _Domain) -> float | None:
    """Joules since the reading before."""
    now, before = _number(text_of(domain.folder / "energy_uj")), domain.before
    domain.before = now
    if now is None or before is None:
        return None
    if now < before:
        if not domain.wraps_at:
            return None
        now += domain.wraps_at
    # After a reset the difference is absurd, and the caller's bound catches it.
    return (now - before) * _MICROJOULES


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
