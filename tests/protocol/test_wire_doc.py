"""docs/wire.md says what the code does: topics, fields, types, defaults, numbers."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import pytest

from edgemesh.errors import ERRORS
from edgemesh.protocol import frame, limits
from edgemesh.protocol.activation import Attempt, CodecName, Cut
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.fields import Amount, Check, Count, Digest, Fraction, Id, Seconds, to_plain
from edgemesh.protocol.manifest import DTYPE_BYTES
from edgemesh.protocol.tensors import ALIGN
from edgemesh.protocol.topics import TOPICS
from tests.protocol.test_roundtrip import NO_MESSAGES, protocol_dataclasses

DOC = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
MESSAGES = sorted(protocol_dataclasses() - NO_MESSAGES, key=lambda cls: cls.__name__)

_WORDS = {
    Id: "id",
    Digest: "digest",
    Count: "count",
    Amount: "amount",
    Fraction: "fraction",
    Seconds: "seconds",
    Cut: "cut",
    CodecName: "codec",
    Attempt: "attempt",
    bool: "bool",
    float: "number",
    int: "int",
    str: "text",
    Any: "any JSON",
}


def table_under(heading: str) -> list[tuple[str, ...]]:
    """Rows of the first table after a heading, without its head; cells without the marks of code."""
    after = DOC.split(f"\n{heading}\n", 1)
    assert len(after) == 2, f"docs/wire.md has no heading {heading!r}"
    section = re.split(r"^#", after[1], maxsplit=1, flags=re.MULTILINE)[0]
    table = re.search(r"(^\|.*\n)+", section, re.MULTILINE)
    assert table is not None, f"docs/wire.md has no table under {heading!r}"
    lines = table.group().splitlines()
    return [tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")) for line in lines[2:]]


def type_words(hint: Any) -> str:
    """How the document writes the type of a field."""
    if hint in _WORDS:
        return _WORDS[hint]
    if dataclasses.is_dataclass(hint):
        return hint.__name__  # type: ignore[union-attr]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        wanted = " and ".join(check.wanted for check in args[1:] if isinstance(check, Check))
        return f"{_WORDS[args[0]]}, {wanted}"
    if origin is Literal:
        return " or ".join(str(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return type_words(args[0])
    if origin is tuple:
        return f"list of {type_words(args[0])}"
    assert origin is dict, hint
    return f"map of {type_words(args[1])}"


def default_words(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return json.dumps(field.default_factory())
    if field.default is dataclasses.MISSING:
        return "required"
    return "absent" if field.default is None else json.dumps(to_plain(field.default))


def field_rows(cls: type) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), include_extras=True)
    return [
        (field.name, type_words(hints[field.name]), default_words(field))
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_every_message_is_described_field_by_field(cls: type) -> None:
    rows = table_under(f"#### {cls.__name__}")

    assert [row[:3] for row in rows] == field_rows(cls)
    assert all(row[3] for row in rows), "a field without its meaning"


def test_every_topic_is_described_as_in_the_table_of_the_code() -> None:
    described = {
        row.pattern: (
            row.writer,
            row.payload,
            str(row.qos),
            "yes" if row.retain else "no",
            f"{row.expiry} s" if row.expiry else "-",
        )
        for row in TOPICS.values()
    }

    rows = {pattern: tuple(rest[:5]) for pattern, *rest in table_under("## 2. Topics")}

    assert rows == described


def test_every_limit_is_described() -> None:
    numbers = {name: value for name, value in vars(limits).items() if name.isupper()}

    rows = {name: int(value.replace(",", "")) for name, value, *_ in table_under("## 7. Limits")}

    assert rows == numbers


def test_every_codec_dtype_and_error_code_is_described() -> None:
    assert {row[0] for row in table_under("### 5.3 Codecs")} == {
        name for name, codec in CODECS.items() if not codec.compressed
    }
    dtypes = {row[0]: int(row[1]) for row in table_under("### 5.2 Dtypes")}
    assert dtypes == DTYPE_BYTES
    assert {row[0] for row in table_under("### 6.1 Error codes")} == set(ERRORS)


def test_the_binary_layout_names_the_numbers_of_the_code() -> None:
    kinds = {row[0]: row[1] for row in table_under("### 4.2 Kinds")}
    assert kinds == {
        str(frame.ACTIVATION): "activation",
        str(frame.REPLY): "reply",
        str(frame.CHUNK): "chunk",
    }
    assert f"multiple of {ALIGN}" in DOC


def test_the_hexadecimal_example_is_a_golden_file() -> None:
    """The bytes printed in the document are those that the code writes."""
    shown = re.search(r"```hex\n(.*?)```", DOC, re.DOTALL)
    assert shown is not None
    lines = [line.split("  ")[1] for line in shown.group(1).splitlines()]
    golden = Path(__file__).parent / "golden" / "reply-error.bin"

    assert bytes.fromhex("".join(lines)) == golden.read_bytes()
