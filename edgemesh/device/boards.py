"""Boards: named sets of figures, read from one TOML file each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.device.identity import config_directory
from edgemesh.device.toml_text import parse_toml
from edgemesh.errors import SettingsError
from edgemesh.protocol.ids import is_id
from edgemesh.protocol.presence import PowerFigures

if TYPE_CHECKING:
    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

BOARDS_VARIABLE = "EDGEMESH_BOARDS"
"""A folder of own board files, in place of ``boards/`` in the configuration directory."""

_SHIPPED = "firmware_profiles"


@dataclass(frozen=True)
class Figure:
    """One number with where it is from."""

    value: float
    method: str
    """How it was measured, or how it was derived."""
    source: str = ""
    """The original publication; empty only for an estimate."""
    estimate: bool = False


@dataclass(frozen=True)
class Link:
    """A board's own connection, towards the broker (up) and from it (down)."""

    up_bytes_per_second: float
    delay_up: float
    """Seconds, one way, without the time that the bytes take."""
    down_bytes_per_second: float
    delay_down: float


@dataclass(frozen=True)
class Recognition:
    """What tells that a machine is this board; patterns as of a shell, case ignored."""

    device_tree: tuple[str, ...] = ()
    """Patterns of ``/proc/device-tree/model``."""
    dmi_product: tuple[str, ...] = ()
    dmi_vendor: tuple[str, ...] = ()
    processor: tuple[str, ...] = ()
    """Patterns of ``model name`` in ``/proc/cpuinfo``."""
    chassis: tuple[int, ...] = ()
    """Numbers of the SMBIOS chassis type (SMBIOS 3.7, table 17)."""


@dataclass(frozen=True)
class Board:
    """A board and its figures by key, such as ``power.idle_watts`` or ``speed.tflite.int8``."""

    name: str
    description: str
    figures: Mapping[str, Figure]
    recognition: Recognition = Recognition()

    def figure(self, key: str) -> float | None:
        """The value under ``key``; None where nobody knows it."""
        figure = self.figures.get(key)
        return None if figure is None else figure.value

    def speed(self, runtime: str, dtype: str) -> float | None:
        """Multiply-accumulates per second on all cores; a factor per runtime and dtype, never one number."""
        return self.figure(f"speed.{runtime}.{dtype}")

    @property
    def cores(self) -> int:
        """Processor cores that an executor may use."""
        return int(self.figures["hardware.cores"].value)

    @property
    def memory_bytes(self) -> int:
        """Main memory."""
        return int(self.figures["hardware.memory_bytes"].value)

    @property
    def memory_for_models(self) -> int:
        """What models may take of the main memory: the rest is the system's and the agent's."""
        return int(self.memory_bytes * _MEMORY_SHARE)

    @property
    def clock_hz(self) -> float | None:
        """Highest sustained clock."""
        return self.figure("hardware.clock_hz")

    @property
    def idle_watts(self) -> float | None:
        """Watts with nothing to do, its network connection up."""
        return self.figure("power.idle_watts")

    @property
    def busy_watts(self) -> float | None:
        """Watts with all cores busy."""
        return self.figure("power.busy_watts")

    @property
    def radio_watts(self) -> float | None:
        """Watts in addition while it sends or receives."""
        return self.figure("power.radio_watts")

    @property
    def power(self) -> PowerFigures | None:
        """Its watts as they are published; None where nobody knows them."""
        if self.idle_watts is None or self.busy_watts is None:
            return None
        return PowerFigures(
            self.idle_watts, self.busy_watts, self.radio_watts or 0.0, source=f"board {self.name}"
        )

    @property
    def throttle_celsius(self) -> float | None:
        """Temperature from which it lowers its clock."""
        return self.figure("thermal.throttle_celsius")

    @property
    def link(self) -> Link | None:
        """Its connection; None where nobody knows it."""
        if "link.up_bytes_per_second" not in self.figures:
            return None
        value = {key: self.figures[f"link.{key}"].value for key in _LINK_KEYS}
        return Link(
            value["up_bytes_per_second"], value["delay"], value["down_bytes_per_second"], value["delay"]
        )


_LINK_KEYS = ("up_bytes_per_second", "down_bytes_per_second", "delay")

# Key: smallest value allowed. Whole numbers are those of _WHOLE.
_REQUIRED: dict[str, float] = {
    "hardware.cores": 1,
    "hardware.clock_hz": 1e6,
    "hardware.memory_bytes": 1,
    "power.idle_watts": 0,
    "power.busy_watts": 0,
    "power.radio_watts": 0,
    "link.up_bytes_per_second": 1,
    "link.down_bytes_per_second": 1,
    "link.delay": 0,
}
_OPTIONAL: dict[str, float] = {"thermal.throttle_celsius": -273.15}
_WHOLE = frozenset({"hardware.cores", "hardware.memory_bytes"})
_SPEED_MINIMUM = 1.0
_LARGEST = 1e18
_MEMORY_SHARE = 0.6
_SENTENCE = 500
"""Characters: a key that is not known may be as long as its file."""
_TEXT_PATTERNS = ("device_tree", "dmi_product", "dmi_vendor", "processor")


def board_names(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names that ``load_board`` takes: the shipped boards and the person's own."""
    return tuple(sorted(_files(environ)))


def load_board(name: str, environ: Mapping[str, str] = os.environ) -> Board:
    """The board called ``name``; an own board goes before a shipped one of that name.

    Raises SettingsError when there is none, or when its file is wrong (file and key are named).
    """
    files = _files(environ)
    if name not in files:
        raise SettingsError(
            f"board {name[:80]!r} is unknown: use one of {', '.join(sorted(files))}, "
            f"or add {name[:80]}.toml to {_own_folder(environ)}"
        )
    return _read(files[name], name)


def load_boards(environ: Mapping[str, str] = os.environ) -> tuple[Board, ...]:
    """Every board by name; raises SettingsError for the first file that is wrong."""
    return tuple(_read(file, name) for name, file in sorted(_files(environ).items()))


def parse_board(text: str, name: str, where: str) -> Board:
    """The board of the TOML ``text`` of file ``where``; raises SettingsError naming file and key."""
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise SettingsError(f"board file {where} is not TOML: {error}") from None
    try:
        return _board(content, name)
    except _WrongKeyError as error:
        raise SettingsError(f"board file {where}: {str(error)[:_SENTENCE]}") from None


def _files(environ: Mapping[str, str]) -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    for folder in (_shipped_folder(), _own_folder(environ)):
        if folder.is_dir():
            found.update((f.name[: -len(".toml")], f) for f in folder.iterdir() if f.name.endswith(".toml"))
    return found


def _own_folder(environ: Mapping[str, str]) -> Path:
    named = environ.get(BOARDS_VARIABLE)
    return Path(named).expanduser() if named else config_directory(environ) / "boards"


def _shipped_folder() -> Traversable:
    installed = resources.files("edgemesh") / _SHIPPED
    if installed.is_dir():
        return installed
    # A checkout, also one installed with `pip install --editable`: the folder lies beside the package.
    return Path(__file__).resolve().parents[2] / _SHIPPED


def _read(file: Traversable, name: str) -> Board:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"board file {file} cannot be read: {error}") from None
    return parse_board(text, name, str(file))


class _WrongKeyError(Exception):
    """A key of a board file is wrong; ``parse_board`` adds the file."""


def _board(content: dict[str, Any], file_name: str) -> Board:
    name = _text(content, "name")
    if not is_id(name) or name != file_name:
        raise _WrongKeyError(f"name is {name[:80]!r}, but must be that of the file, {file_name!r}")
    figures: dict[str, Figure] = {}
    for key, figure in _leaves({k: v for k, v in content.items() if k not in _NOT_FIGURES}):
        figures[key] = _figure(figure, key)
    missing = [key for key in _REQUIRED if key not in figures]
    if missing:
        raise _WrongKeyError(f"{missing[0]} is missing")
    if not any(key.startswith("speed.") for key in figures):
        raise _WrongKeyError("no speed is given: add one such as [speed.tflite.float32]")
    if figures["power.busy_watts"].value < figures["power.idle_watts"].value:
        raise _WrongKeyError("power.busy_watts is less than power.idle_watts")
    return Board(name, _text(content, "description"), figures, _recognition(content.get("recognise", {})))


_NOT_FIGURES = frozenset({"name", "description", "recognise"})


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each table that holds a value, with its dotted key."""
    for key, item in table.items():
        if not isinstance(item, dict):
            raise _WrongKeyError(f"{prefix}{key} must be a table with value, source and method")
        if "value" in item or "method" in item or "source" in item:
            yield prefix + key, item
        else:
            yield from _leaves(item, f"{prefix}{key}.")


def _figure(table: dict[str, Any], key: str) -> Figure:
    value = table.get("value")
    # The bound first: a TOML integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        raise _WrongKeyError(f"{key}.value must be a number below {_LARGEST:g}, not {str(value)[:40]!r}")
    minimum = _minimum(key)
    if value < minimum:
        raise _WrongKeyError(f"{key}.value is {value}, but must be at least {minimum:g}")
    if key in _WHOLE and value != int(value):
        raise _WrongKeyError(f"{key}.value is {value}, but must be a whole number")
    unknown = set(table) - {"value", "source", "method", "estimate"}
    if unknown:
        raise _WrongKeyError(f"{key}.{min(unknown)} is not known")
    estimate = table.get("estimate", False)
    if not isinstance(estimate, bool):
        raise _WrongKeyError(f"{key}.estimate must be true or false")
    source = _text(table, "source", key) if "source" in table or not estimate else ""
    return Figure(float(value), _text(table, "method", key), source, estimate)


def _minimum(key: str) -> float:
    for known in (_REQUIRED, _OPTIONAL):
        if key in known:
            return known[key]
    if key.startswith("speed.") and key.count(".") == 2:
        return _SPEED_MINIMUM
    raise _WrongKeyError(f"{key} is not known")


def _text(table: dict[str, Any], key: str, prefix: str = "") -> str:
    value = table.get(key)
    where = f"{prefix}.{key}" if prefix else key
    if not isinstance(value, str) or not value.strip():
        hint = ", or say estimate = true" if key == "source" else ""
        raise _WrongKeyError(f"{where} must be a text{hint}")
    return value


def _recognition(table: object) -> Recognition:
    if not isinstance(table, dict):
        raise _WrongKeyError("recognise must be a table")
    unknown = set(table) - {*_TEXT_PATTERNS, "chassis"}
    if unknown:
        raise _WrongKeyError(f"recognise.{min(unknown)} is not known")
    chassis = table.get("chassis", [])
    if not isinstance(chassis, list) or not all(type(number) is int for number in chassis):
        raise _WrongKeyError("recognise.chassis must be a list of whole numbers")
    patterns = {key: _patterns(table.get(key, []), f"recognise.{key}") for key in _TEXT_PATTERNS}
    return Recognition(**patterns, chassis=tuple(chassis))


def _patterns(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(pattern, str) and pattern for pattern in value):
        raise _WrongKeyError(f"{key} must be a list of texts")
    return tuple(value)
