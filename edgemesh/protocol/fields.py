"""Plain values (what JSON and msgpack carry) to frozen dataclasses and back, driven by their fields.

Types understood: ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``X | None``, ``tuple[X, ...]``,
``dict[str, X]``, dataclasses, and ``Annotated[X, Check(...)]``. An unknown field is ignored; a missing one
takes its default or is an error. Numbers must be finite. The decoder of a class is built once.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.ids import is_digest, is_id

T = TypeVar("T")
_Decoder = Callable[[object, str], Any]


@dataclasses.dataclass(frozen=True)
class Check:
    """A condition on one field; ``wanted`` completes the sentence "... must be"."""

    wanted: str
    holds: Callable[[Any], bool]


Id = Annotated[str, Check("an id of a-z, 0-9 and '-'", is_id)]
Digest = Annotated[str, Check("64 lower-case hexadecimal digits", is_digest)]
Count = Annotated[int, Check("0 or more", lambda n: 0 <= n < 1 << 53)]
Amount = Annotated[float, Check("0 or more", lambda x: x >= 0.0)]
Fraction = Annotated[float, Check("between 0 and 1", lambda x: 0.0 <= x <= 1.0)]


def from_plain(cls: type[T], value: object) -> T:
    """The ``cls`` that ``value`` (a decoded JSON or msgpack map) stands for; raises DecodeError."""
    return _dataclass_decoder(cls)(value, cls.__name__)  # type: ignore[arg-type,no-any-return]


def to_plain(value: object) -> Any:
    """Dicts, lists and scalars for ``value``; fields that are ``None`` are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: to_plain(item)
            for name in _field_names(type(value))
            if (item := getattr(value, name)) is not None
        }
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _dataclass_decoder(cls: type) -> _Decoder:
    hints = typing.get_type_hints(cls, include_extras=True)
    required: list[tuple[str, _Decoder]] = []
    optional: list[tuple[str, _Decoder]] = []
    for field in dataclasses.fields(cls):
        has_default = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        (optional if has_default else required).append((field.name, _decoder(hints[field.name])))

    def decode(value: object, where: str) -> Any:
        if not isinstance(value, dict):
            raise DecodeError(f"{where} must be a map, not {_kind(value)}")
        known: dict[str, Any] = {}
        for name, decoder in required:
            if name not in value:
                raise DecodeError(f"{where} lacks the field {name!r}")
            known[name] = decoder(value[name], name)
        for name, decoder in optional:
            if name in value:
                known[name] = decoder(value[name], name)
        return cls(**known)

    return decode


def _decoder(hint: Any) -> _Decoder:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _checked(_decoder(args[0]), [c for c in args[1:] if isinstance(c, Check)])
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, types.UnionType):
        kinds = [a for a in args if a is not type(None)]
        assert len(kinds) == 1 and len(args) == 2, f"only 'X | None' is understood, not {hint}"
        return _or_none(_decoder(kinds[0]))
    if origin is tuple:
        assert len(args) == 2 and args[1] is Ellipsis, f"only 'tuple[X, ...]' is understood, not {hint}"
        return _sequence(_decoder(args[0]))
    if origin is dict:
        assert args[0] is str, f"only 'dict[str, X]' is understood, not {hint}"
        return _mapping(_decoder(args[1]))
    raise AssertionError(f"no decoder for {hint}")


def _checked(inner: _Decoder, checks: list[Check]) -> _Decoder:
    def decode(value: object, where: str) -> Any:
        decoded = inner(value, where)
        for check in checks:
            if not check.holds(decoded):
                raise DecodeError(f"{where} must be {check.wanted}, not {_shown(decoded)}")
        return decoded

    return decode


def _one_of(allowed: tuple[Any, ...]) -> _Decoder:
    def decode(value: object, where: str) -> Any:
        for candidate in allowed:
            if type(value) is type(candidate) and value == candidate:
                return candidate
        raise DecodeError(f"{where} must be one of {', '.join(map(str, allowed))}, not {_shown(value)}")

    return decode


def _or_none(inner: _Decoder) -> _Decoder:
    return lambda value, where: None if value is None else inner(value, where)


def _sequence(inner: _Decoder) -> _Decoder:
    def decode(value: object, where: str) -> Any:
        if not isinstance(value, (list, tuple)):
            raise DecodeError(f"{where} must be a list, not {_kind(value)}")
        if len(value) > limits.ITEMS:
            raise DecodeError(f"{where} has {len(value)} entries, more than {limits.ITEMS}")
        return tuple(inner(item, f"{where}[{i}]") for i, item in enumerate(value))

    return decode


def _mapping(inner: _Decoder) -> _Decoder:
    def decode(value: object, where: str) -> Any:
        if not isinstance(value, dict):
            raise DecodeError(f"{where} must be a map, not {_kind(value)}")
        if len(value) > limits.ITEMS:
            raise DecodeError(f"{where} has {len(value)} entries, more than {limits.ITEMS}")
        for key in value:
            _text(key, f"key of {where}")
        return {key: inner(item, f"{where}.{key[:40]}") for key, item in value.items()}

    return decode


def _boolean(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise DecodeError(f"{where} must be true or false, not {_shown(value)}")
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DecodeError(f"{where} must be a whole number, not {_shown(value)}")
    if not -(1 << 63) <= value < 1 << 63:
        raise DecodeError(f"{where} must fit 64 bits")
    return value


def _number(value: object, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise DecodeError(f"{where} must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise DecodeError(f"{where} must be a finite number") from None
    if not math.isfinite(number):
        raise DecodeError(f"{where} must be a finite number, not {number}")
    return number


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DecodeError(f"{where} must be text, not {_kind(value)}")
    if len(value) > limits.TEXT_CHARS:
        raise DecodeError(f"{where} has {len(value)} characters, more than {limits.TEXT_CHARS}")
    return value


_SCALARS: dict[Any, _Decoder] = {bool: _boolean, int: _integer, float: _number, str: _text}


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
