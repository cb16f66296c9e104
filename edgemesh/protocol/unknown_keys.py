"""Keys that a person wrote into a file and nobody would read: a mistyped one must not be ignored.

Messages are another thing: a field that is not known is of a later version, and ignored.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def unknown_key(place: str, key: str, known: Iterable[str]) -> str:
    """``image.means is not known; image has mean, scale``; ``place`` is empty for the file itself."""
    at, has = (f"{place}.{key}", place) if place else (key, "it")
    return f"{at} is not known; {has} has {', '.join(sorted(set(known))) or 'nothing'}"


def unknown_field(cls: type, plain: object, place: str = "") -> str | None:
    """The sentence on the first key in ``plain`` (what a file says of a ``cls``) that is no field of it."""
    if not isinstance(plain, Mapping):
        return None  # whoever decodes it says what is wrong
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]))
    for key, value in plain.items():
        if key not in hints:
            return unknown_key(place, key, hints)
        at = f"{place}.{key}" if place else key
        inner = next(_dataclasses_in(hints[key]), None)
        if inner is None:
            continue
        rows = [(at, value)]
        if isinstance(value, list):
            rows = [(f"{at}[{number}]", row) for number, row in enumerate(value)]
        for where, row in rows:
            if (found := unknown_field(inner, row, where)) is not None:
                return found
    return None


def _dataclasses_in(hint: Any) -> Iterator[type]:
    """``hint`` itself, or ``X`` of ``X | None`` and ``tuple[X, ...]``, where it is a dataclass."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _dataclasses_in(inner)
