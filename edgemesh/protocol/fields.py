"""Plain values (what JSON and msgpack carry) to frozen dataclasses and back, driven by their fields.

Types understood: ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``X | None``, ``tuple[X, ...]``,
``dict[str, X]``, ``Any`` (plain values as they are), dataclasses, and ``Annotated[X, Check(...)]``. An
unknown field is ignored; a missing one takes its default or is an error. Numbers must be finite. The decoder
of a class is built once.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite
from typing import Annotated, Any, Literal, TypeVar, Union

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.ids import DIGEST, ID

T = TypeVar("T")
_Decoder = Callable[[object], Any]
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@dataclasses.dataclass(frozen=True)
class Check:
    """A condition on one field; ``wanted`` completes the sentence "... must be"."""

    wanted: str
    holds: Callable[[Any], object]
    """Truthy where it holds."""


# Conditions that run in C where the headers of activations have them: a lambda takes as long as the check.
Id = Annotated[str, Check("an id of a-z, 0-9 and '-'", ID.fullmatch)]
Digest = Annotated[str, Check("64 lower-case hexadecimal digits", DIGEST.fullmatch)]
Count = Annotated[int, Check("0 or more", range(1 << 53).__contains__)]
Amount = Annotated[float, Check("0 or more", (0.0).__le__)]
Fraction = Annotated[float, Check("between 0 and 1", lambda x: 0.0 <= x <= 1.0)]
Seconds = Annotated[float, Check("between 0 and 86,400 (a day)", lambda x: 0.0 <= x <= 86_400.0)]
"""Something measured: sums and medians of any number of them are finite."""


def from_plain(cls: type[T], value: object) -> T:
    """The ``cls`` that ``value`` (a decoded JSON or msgpack map) stands for; raises DecodeError."""
    try:
        return _dataclass_decoder(cls)(value)  # type: ignore[arg-type,no-any-return]
    except _FieldError as refused:
        raise DecodeError(refused.sentence(cls.__name__)) from None


def to_plain(value: object) -> Any:
    """Dicts, lists and scalars for ``value``; fields that are ``None`` are left out."""
    if type(value) in _PLAIN:
        return value
    names = _field_names(type(value))  # type: ignore[arg-type]
    if names is not None:
        plain = {}
        for name in names:
            item = getattr(value, name)
            if item is not None:
                plain[name] = item if type(item) in _PLAIN else to_plain(item)
        return plain
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


_PLAIN = frozenset({str, int, float, bool, type(None)})


@cache
def _field_names(cls: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass; None for any other type."""
    if not dataclasses.is_dataclass(cls):
        return None
    return tuple(field.name for field in dataclasses.fields(cls))


class _FieldError(Exception):
    """What is wrong with a value; its place is added by the decoders around it, innermost first.

    Places are put together only when something is wrong: naming each value beforehand took half the time of
    decoding an activation's header.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.places: list[str] = []

    def sentence(self, root: str) -> str:
        return f"{root}{''.join(reversed(self.places))} {self.problem}"


@cache
def _dataclass_decoder(cls: type) -> _Decoder:
    # The namespace is named, because get_type_hints would otherwise evaluate with the class's own as the
    # globals, where a Check's lambda does not find the constants of its module.
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), include_extras=True)
    rows = tuple(
        (field.name, _decoder(hints[field.name]), _default_of(field)) for field in dataclasses.fields(cls)
    )
    check = getattr(cls, "__post_init__", None)

    def decode(value: object) -> Any:
        if not isinstance(value, dict):
            raise _FieldError(f"must be a map, not {_kind(value)}")
        known: dict[str, Any] = {}
        name = ""
        try:
            for name, decoder, default in rows:
                if name in value:
                    known[name] = decoder(value[name])
                elif default is not None:
                    known[name] = default()
                else:
                    break
            else:
                # What the __init__ of a frozen class does field by field, at a fifth of the time of it all.
                message: Any = object.__new__(cls)
                object.__setattr__(message, "__dict__", known)
                if check is not None:
                    check(message)
                return message
        except _FieldError as refused:
            refused.places.append(f".{name}")
            raise
        raise _FieldError(f"lacks the field {name!r}")

    return decode


def _default_of(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """What makes the value of a field that is missing; None where it must be there."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    if field.default is dataclasses.MISSING:
        return None
    default = field.default
    return lambda: default


def _decoder(hint: Any) -> _Decoder:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(hint)  # type: ignore[arg-type]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        decoder = _decoder(args[0])
        for check in args[1:]:
            decoder = _checked(decoder, check)
        return decoder
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


def _checked(inner: _Decoder, check: Check) -> _Decoder:
    holds = check.holds

    def decode(value: object) -> Any:
        decoded = inner(value)
        if not holds(decoded):
            raise _FieldError(f"must be {check.wanted}, not {_shown(decoded)}")
        return decoded

    # Nearly every value is good as it is, which one call sees; any other goes the careful way above.
    def text(value: object) -> Any:
        plain = type(value) is str and value.isascii() and len(value) <= limits.TEXT_CHARS
        return value if plain and holds(value) else decode(value)

    def integer(value: object) -> Any:
        plain = type(value) is int and _LEAST <= value <= _MOST
        return value if plain and holds(value) else decode(value)

    def number(value: object) -> Any:
        plain = type(value) is float and isfinite(value)
        return value if plain and holds(value) else decode(value)

    plainly: dict[_Decoder, _Decoder] = {_text: text, _integer: integer, _number: number}
    return plainly.get(inner, decode)


def _one_of(allowed: tuple[Any, ...]) -> _Decoder:
    def decode(value: object) -> Any:
        for candidate in allowed:
            if type(value) is type(candidate) and value == candidate:
                return candidate
        raise _FieldError(f"must be one of {', '.join(map(str, allowed))}, not {_shown(value)}")

    return decode


def _or_none(inner: _Decoder) -> _Decoder:
    return lambda value: None if value is None else inner(value)


def _sequence(inner: _Decoder) -> _Decoder:
    def decode(value: object) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _FieldError(f"must be a list, not {_kind(value)}")
        if len(value) > limits.ITEMS:
            raise _FieldError(f"has {len(value)} entries, more than {limits.ITEMS}")
        items: list[Any] = []
        try:
            for item in value:
                items.append(inner(item))
        except _FieldError as refused:
            refused.places.append(f"[{len(items)}]")
            raise
        return tuple(items)

    return decode


def _mapping(inner: _Decoder) -> _Decoder:
    def decode(value: object) -> Any:
        if not isinstance(value, dict):
            raise _FieldError(f"must be a map, not {_kind(value)}")
        if len(value) > limits.ITEMS:
            raise _FieldError(f"has {len(value)} entries, more than {limits.ITEMS}")
        known: dict[str, Any] = {}
        key: object = ""
        try:
            for key, item in value.items():
                known[_text(key)] = inner(item)
        except _FieldError as refused:
            refused.places.append(f"[{_shown(key)}]")
            raise
        return known

    return decode


def _boolean(value: object) -> bool:
    if value is True or value is False:
        return value
    raise _FieldError(f"must be true or false, not {_shown(value)}")


def _integer(value: object) -> int:
    if type(value) is not int:
        raise _FieldError(f"must be a whole number, not {_shown(value)}")
    if not _LEAST <= value <= _MOST:
        raise _FieldError("must fit 64 bits")
    return value


def _number(value: object) -> float:
    if type(value) is not float:
        if type(value) is not int:
            raise _FieldError(f"must be a number, not {_shown(value)}")
        try:
            value = float(value)
        except OverflowError:
            raise _FieldError("must be a finite number") from None
    if not isfinite(value):
        raise _FieldError(f"must be a finite number, not {value}")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise _FieldError(f"must be text, not {_kind(value)}")
    if len(value) > limits.TEXT_CHARS:
        raise _FieldError(f"has {len(value)} characters, more than {limits.TEXT_CHARS}")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        # JSON can write half a surrogate pair; UTF-8 cannot, so it would break whoever passes it on.
        raise _FieldError("must be text that UTF-8 can write")
    return value


def _anything(value: object) -> Any:
    """A plain value whose depth the parser has limited already."""
    if isinstance(value, dict):
        return _PLAIN_MAP(value)
    if isinstance(value, (list, tuple)):
        return [_anything(item) for item in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _number(value)
    return value


_PLAIN_MAP = _mapping(_anything)
_SCALARS: dict[Any, _Decoder] = {bool: _boolean, int: _integer, float: _number, str: _text, Any: _anything}


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
