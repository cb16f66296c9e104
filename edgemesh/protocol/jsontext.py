"""JSON payloads: message dataclass to UTF-8 bytes and back."""

from __future__ import annotations

import json
import re
from typing import NoReturn, TypeVar

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.fields import from_plain, to_plain

T = TypeVar("T")


def encode_json(message: object) -> bytes:
    """UTF-8 JSON of a message dataclass; keys in field order, so equal messages have equal bytes."""
    text = json.dumps(to_plain(message), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


class SharedPayload(bytes):
    """A payload that many readers in one process decode, as in a simulation: the first one's work serves all.

    Messages are frozen, so they can be shared.
    """

    decoded: object = None


def decode_json(cls: type[T], payload: bytes | bytearray | memoryview) -> T:
    """The message in ``payload``; raises DecodeError for whatever is not one within the limits."""
    if type(payload) is SharedPayload:
        if type(payload.decoded) is not cls:
            payload.decoded = from_plain(cls, plain_json(payload))
        return payload.decoded
    return from_plain(cls, plain_json(payload))


def plain_json(payload: bytes | bytearray | memoryview) -> object:
    """Dicts, lists and scalars of a JSON text; raises DecodeError."""
    if len(payload) > limits.JSON_BYTES:
        raise DecodeError(f"JSON of {len(payload)} bytes, more than {limits.JSON_BYTES}")
    try:
        text = bytes(payload).decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("JSON is not UTF-8") from None
    structure = _outside_texts(text)
    if structure.count(",") > limits.JSON_VALUES:
        raise DecodeError(f"JSON of more than {limits.JSON_VALUES} values")
    if _depth_exceeds(structure, limits.JSON_DEPTH):
        raise DecodeError(f"JSON is nested deeper than {limits.JSON_DEPTH}")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {str(error)[:100]}") from None
    if _SURROGATE.search(text) is not None and not _is_utf8(value):
        # Half a surrogate pair: it would break whoever passes it on, or only names it in an error.
        raise DecodeError("JSON has text that UTF-8 cannot write")
    return value


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be half a pair; most are whole pairs."""


def _is_utf8(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _outside_texts(text: str) -> str:
    """What stands outside the string literals of a JSON text.

    Exact up to the first character that is not JSON, which is as far as the parser will get.
    """
    unescaped = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    return "".join(unescaped.split('"')[::2])


_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_SQUARE = str.maketrans("{}", "[]")


def _depth_exceeds(structure: str, depth: int) -> bool:
    """Whether brackets nest deeper than ``depth``; one pass takes the innermost pairs away."""
    if structure.count("[") + structure.count("{") <= depth:
        return False
    brackets = _NO_BRACKETS.sub("", structure).translate(_SQUARE)
    for _ in range(depth):
        brackets = brackets.replace("[]", "")
    return "[]" in brackets or brackets.count("[") > depth
