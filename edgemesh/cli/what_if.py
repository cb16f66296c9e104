"""What a person writes behind ``--what-if``, as changes of the mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from edgemesh.cli.amounts import rate, seconds, share
from edgemesh.errors import SettingsError
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.what_if import BatteryChange, LinkChange, LoadChange

FORMS: Final = (
    "link:DEVICE=5Mbit",
    "link:DEVICE:up=20ms",
    "device:DEVICE=off",
    "load:DEVICE=80%",
    "battery:DEVICE=10%",
    "add:BOARD",
    "add:BOARD=NAME",
)


@dataclass(frozen=True)
class Board:
    """A board to add to the mesh, under the name of a device."""

    board: str
    device: str


@dataclass(frozen=True)
class Question:
    """All changes of one question."""

    off: tuple[str, ...] = ()
    links: tuple[LinkChange, ...] = ()
    loads: tuple[LoadChange, ...] = ()
    batteries: tuple[BatteryChange, ...] = ()
    boards: tuple[Board, ...] = ()


def parsed_question(texts: Sequence[str]) -> Question:
    """``link:pi=5Mbit``, ``device:laptop=off``, ``add:pi-5`` and the like; raises SettingsError."""
    question = Question()
    for text in texts:
        kind, _, rest = text.strip().partition(":")
        if kind not in _PARSERS:
            raise SettingsError(f"--what-if {text!r} is not understood: write one of {', '.join(FORMS)}")
        question = _PARSERS[kind](question, text, rest)
    return question


# --- forms -----------------------------------------------------------------------------------------------


def _link(question: Question, text: str, rest: str) -> Question:
    place, _, values = rest.partition("=")
    device, _, direction = place.partition(":")
    found_rate: float | None = None
    found_delay: float | None = None
    for part in values.split(","):
        if (value := rate(part)) is not None:
            found_rate = value
        elif (value := seconds(part)) is not None:
            found_delay = value
        else:
            raise _misread(text, "link:DEVICE=5Mbit (or =20ms, or =5Mbit,20ms)")
    if direction not in ("", "up", "down"):
        raise _misread(text, "link:DEVICE=5Mbit, or link:DEVICE:up=5Mbit, or link:DEVICE:down=5Mbit")
    change = LinkChange(_device(device, text), _DIRECTIONS[direction], found_rate, found_delay)
    return replace(question, links=(*question.links, change))


_DIRECTIONS: Final[dict[str, Literal["both", "up", "down"]]] = {"": "both", "up": "up", "down": "down"}


def _switched(question: Question, text: str, rest: str) -> Question:
    device, _, value = rest.partition("=")
    if value != "off":
        raise _misread(text, "device:DEVICE=off")
    return replace(question, off=(*question.off, _device(device, text)))


def _load(question: Question, text: str, rest: str) -> Question:
    device, _, value = rest.partition("=")
    if (busy := share(value)) is None:
        raise _misread(text, "load:DEVICE=80%")
    return replace(question, loads=(*question.loads, LoadChange(_device(device, text), busy)))


def _battery(question: Question, text: str, rest: str) -> Question:
    device, _, value = rest.partition("=")
    if (charge := share(value)) is None:
        raise _misread(text, "battery:DEVICE=10%")
    return replace(question, batteries=(*question.batteries, BatteryChange(_device(device, text), charge)))


def _add(question: Question, text: str, rest: str) -> Question:
    board, _, name = rest.partition("=")
    if not board or "=" in name:
        raise _misread(text, "add:pi-5, or add:pi-5=NAME")
    device = checked_id(name or board, f"device of --what-if {text!r}")
    return replace(question, boards=(*question.boards, Board(board, device)))


_PARSERS: Final[dict[str, Callable[[Question, str, str], Question]]] = {
    "link": _link,
    "device": _switched,
    "load": _load,
    "battery": _battery,
    "add": _add,
}


def _device(name: str, text: str) -> str:
    return checked_id(name, f"device of --what-if {text!r}")


def _misread(text: str, form: str) -> SettingsError:
    return SettingsError(f"--what-if {text!r} is not understood: write {form}")
