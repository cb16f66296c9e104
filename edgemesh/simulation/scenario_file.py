"""Scenario files: TOML to a ``Scenario``, or one sentence that names file and key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgemesh.device.boards import board_names
from edgemesh.device.toml_text import parse_toml
from edgemesh.errors import DecodeError, SettingsError
from edgemesh.protocol.fields import from_plain
from edgemesh.protocol.ids import is_id
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.unknown_keys import unknown_field, unknown_key
from edgemesh.simulation.scenario import Change, Scenario, SimulatedDevice, Stream
from edgemesh.simulation.unit_tables import MODELS

_SECONDS = (0.0, 1e6)
_SHARE = (0.0, 0.99)


def scenario_names() -> tuple[str, ...]:
    """Scenarios that come with the package."""
    folder = resources.files("edgemesh.simulation") / "scenarios"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_scenario(name: str) -> Scenario:
    """The shipped scenario or the file called ``name``; raises SettingsError naming file and key."""
    if name.removesuffix(".toml") in scenario_names():
        folder = resources.files("edgemesh.simulation") / "scenarios"
        stem = name.removesuffix(".toml")
        return parse_scenario((folder / f"{stem}.toml").read_text(encoding="utf-8"), stem, f"{stem}.toml")
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"scenario {name}: {_why(error)}; name a file, or one of {', '.join(scenario_names())}"
        ) from None
    return parse_scenario(text, path.stem, name)


def parse_scenario(text: str, name: str, where: str) -> Scenario:
    """The scenario in the TOML ``text`` of file ``where``; raises SettingsError naming file and key."""
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise SettingsError(f"scenario file {where} is not TOML: {error}") from None
    try:
        return _scenario(_Table(content, ""), name)
    except _WrongKeyError as error:
        raise SettingsError(f"scenario file {where}: {error}") from None


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"


class _WrongKeyError(Exception):
    """Names a key and says what is wrong with it."""


@dataclass
class _Table:
    """A TOML table that knows its place; what nobody asked for is an error."""

    content: Mapping[str, Any]
    place: str

    def __post_init__(self) -> None:
        self._asked: set[str] = set()

    def _take(self, key: str) -> Any:
        self._asked.add(key)
        return self.content.get(key)

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        found = self.optional(key, low, high)
        if found is None:
            if default is None:
                raise _WrongKeyError(f"{self.at(key)} is missing")
            return default
        return found

    def optional(self, key: str, low: float, high: float) -> float | None:
        value = self._take(key)
        if value is None:
            return None
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise _WrongKeyError(f"{self.at(key)} must be a number from {low:g} to {high:g}, not {value!r}")
        return float(value)

    def flag(self, key: str) -> bool | None:
        value = self._take(key)
        if value is not None and type(value) is not bool:
            raise _WrongKeyError(f"{self.at(key)} must be true or false, not {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise _WrongKeyError(f"{self.at(key)} must be a text")
        return value

    def one_of(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise _WrongKeyError(f"{self.at(key)} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def texts(self, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list) or not value or not all(entry in allowed for entry in value):
            raise _WrongKeyError(f"{self.at(key)} must be a list of {', '.join(allowed)}, not {value!r}")
        return tuple(value)

    def table(self, key: str) -> _Table:
        value = self._take(key)
        if value is None:
            return _Table({}, self.at(key))
        if not isinstance(value, dict):
            raise _WrongKeyError(f"{self.at(key)} must be a table")
        return _Table(value, self.at(key))

    def tables(self, key: str) -> list[_Table]:
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise _WrongKeyError(f"{self.at(key)} must be written as [[{self.at(key)}]]")
        return [_Table(entry, f"{self.at(key)}[{number}]") for number, entry in enumerate(value)]

    def done(self) -> None:
        if left := set(self.content) - self._asked:
            raise _WrongKeyError(unknown_key(self.place, min(left), self._asked))


def _scenario(root: _Table, name: str) -> Scenario:
    devices = _devices(root.table("devices"))
    known = tuple(device.name for device in devices)
    streams = tuple(_stream(table, known) for table in root.tables("streams"))
    if not streams:
        raise _WrongKeyError("streams is missing: write at least one [[streams]] with its origin")
    if len({stream.name for stream in streams}) < len(streams):
        raise _WrongKeyError("streams must have different names")
    changes = [_change(table, known) for table in root.tables("changes")]
    noise = root.table("noise")
    scenario = Scenario(
        name,
        root.text("description"),
        root.number("duration", 1.0, 1e6),
        devices,
        streams,
        tuple(sorted(changes, key=lambda change: change.at)),
        root.texts("models", MODELS),
        int(root.number("seed", 0, 2**31, 1)),
        _policy(root.table("policy")),
        noise.number("run", 0.0, 1.0, 0.03),
        noise.number("link", 0.0, 1.0, 0.05),
        root.number("deadline", 0.001, 86_400.0, 30.0),
    )
    if noise.content:
        noise.text("source")
    noise.done()
    root.done()
    return scenario


def _devices(table: _Table) -> tuple[SimulatedDevice, ...]:
    if not table.content:
        raise _WrongKeyError("devices is missing: write a table [devices.NAME] with a board for each")
    boards = board_names()
    devices = []
    for name in table.content:
        if not is_id(name):
            raise _WrongKeyError(f"devices.{name} must be named with a-z, 0-9 and '-'")
        entry = table.table(name)
        device = SimulatedDevice(
            name,
            entry.one_of("board", boards),
            entry.number("load", *_SHARE, 0.0),
            entry.optional("battery", 0.0, 1.0),
            entry.optional("rate_up", 1e3, 1e10),
            entry.optional("rate_down", 1e3, 1e10),
            entry.optional("delay", 0.0, 10.0),
            # Boards state their own sources; a figure in its place must say where it is from.
            entry.text("source", "" if set(entry.content) <= {"board"} else None),
        )
        entry.done()
        devices.append(device)
    return tuple(devices)


def _stream(table: _Table, devices: tuple[str, ...]) -> Stream:
    model = table.one_of("model", MODELS, "") if "model" in table.content else None
    stream = Stream(
        table.text("name", "jobs"),
        table.one_of("origin", devices),
        model,
        table.optional("per_second", 1e-6, 1e4),
        table.optional("busy", 1e-6, 1.0),
        table.number("most", 1e-6, 1e4, math.inf),
        table.number("start", *_SECONDS, 0.0),
        table.number("stop", *_SECONDS, math.inf),
        table.text("source"),
        bool(table.flag("skips")),
    )
    if (stream.per_second is None) == (stream.busy is None):
        raise _WrongKeyError(f"{table.place} needs one of per_second and busy")
    if stream.stop <= stream.start:
        raise _WrongKeyError(f"{table.at('stop')} must be after start")
    table.done()
    return stream


def _change(table: _Table, devices: tuple[str, ...]) -> Change:
    change = Change(
        table.number("at", 0.0, 1e6),
        table.one_of("device", devices),
        table.optional("rate", 1e-4, 1e3),
        table.optional("delay", 0.0, 10.0),
        table.optional("load", *_SHARE),
        table.optional("clock", 0.01, 1.0),
        table.optional("battery", 0.0, 1.0),
        table.flag("present"),
        table.text("source"),
        bool(table.flag("killed")),
    )
    if change.killed and change.present is not False:
        raise _WrongKeyError(f"{table.at('killed')} says how a device leaves: it needs present = false")
    if set(table.content) <= {"at", "device", "source"}:
        raise _WrongKeyError(
            f"{table.place} changes nothing: give rate, delay, load, clock, battery or present"
        )
    table.done()
    return change


def _policy(table: _Table) -> Policy:
    if (unknown := unknown_field(Policy, table.content, table.place)) is not None:
        raise _WrongKeyError(unknown)
    try:
        return from_plain(Policy, dict(table.content))
    except DecodeError as error:
        raise _WrongKeyError(f"{table.place}: {error}") from None
