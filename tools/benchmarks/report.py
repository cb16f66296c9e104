"""Claims, measurements and how they are printed."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

_LIBRARIES = ("numpy", "msgpack", "paho-mqtt", "tflite-runtime", "ai-edge-litert", "torch")


class NotMeasurableError(Exception):
    """Something that the measurement needs is not installed or did not start; the text says what to do."""


@dataclass(frozen=True)
class Claim:
    """A figure with the bound that is promised for it; ``value <= limit`` holds."""

    claim: str
    value: float | None
    """None where there is nothing to claim it of: it holds then, and ``note`` says why."""
    limit: float
    unit: str = "x"
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.value is None or self.value <= self.limit


@dataclass
class Report:
    """What one run of the tool found."""

    command: str
    quick: bool
    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured to get there: name with its unit, figure."""
    failures: list[str] = field(default_factory=list)
    """Benchmarks that could not be run, and why."""

    @property
    def holds(self) -> bool:
        return not self.failures and bool(self.claims) and all(claim.holds for claim in self.claims)

    def claim(self, text: str, value: float, limit: float, unit: str = "x", *, note: str = "") -> None:
        """Note a claim."""
        self.claims.append(Claim(text, round(value, 4), limit, unit, note))

    def claim_nothing(self, text: str, limit: float, note: str) -> None:
        """Note a claim that cannot be made here, and why."""
        self.claims.append(Claim(text, None, limit, note=note))

    def figure(self, name: str, value: float) -> None:
        """Note a measurement and show it at once: a long run must not look dead."""
        self.figures[name] = round(value, 4)
        print(f"  {name:64} {value:10.3f}", flush=True)

    def table(self) -> str:
        """The claims for people."""
        lines = [f"{'claim':66} {'value':>9} {'limit':>9}"]
        for claim in self.claims:
            verdict = "holds" if claim.holds else "DOES NOT HOLD"
            if claim.value is None:
                verdict = "not claimed"
            value = f"{'-':>10}" if claim.value is None else f"{claim.value:8.3f}{claim.unit:2}"
            note = f" ({claim.note})" if claim.note else ""
            lines.append(f"{claim.claim:66} {value} {claim.limit:7.2f}{claim.unit:2}  {verdict}{note}")
        lines += [f"not measured: {failure}" for failure in self.failures]
        return "\n".join(lines)

    def plain(self, machine_text: str) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "claims": [{**asdict(claim), "holds": claim.holds} for claim in self.claims],
            "machine": machine_text,
            "command": self.command,
            "quick": self.quick,
            "figures": self.figures,
            "failures": self.failures,
        }

    def concluded(self, *, as_json: bool) -> int:
        """Show the claims, as the last line in JSON, too, where wanted; the exit status that they make."""
        print(self.table())
        if as_json:
            print(json.dumps(self.plain(machine())))
        return 0 if self.holds else 1


def machine() -> str:
    """Processor, system and library versions that figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _lines(Path("/proc/cpuinfo"))
            if line.lower().startswith("model name")
        ),
        platform.processor() or "unknown processor",
    )
    libraries = []
    for name in _LIBRARIES:
        try:
            libraries.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {system}, {', '.join(libraries)}"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def paired_ratio(ours: list[float], baseline: list[float], block: int) -> float:
    """Median over blocks of the ratio of the blocks' medians.

    Blocks of the two were taken in turn, so what else the machine does meets both alike.
    """
    pairs = zip(range(0, len(ours), block), range(0, len(baseline), block), strict=True)
    return median(median(ours[a : a + block]) / median(baseline[b : b + block]) for a, b in pairs)
