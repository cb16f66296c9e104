"""Flatbuffers of a schema given as data: bytes to nested dicts and back, every offset checked.

A table is a dict with the fields that are present, so a default stays a default. Vectors of numbers and
byte strings stay views of the content: reading a model copies no weight, writing copies each once.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edgemesh.errors import ModelError

Table = dict[str, Any]

MAX_TABLES = 500_000
"""Tables of one content; a network of 10,000 operators has about 60,000."""
_MAX_NEWER_SLOTS = 64
_MAX_BYTES = (1 << 31) - 1
_ALIGNMENT = 16
"""Of weights, which kernels read with vector instructions."""


class Kind(Enum):
    """What a field holds; ``Field.of`` says of which type."""

    NUMBER = 1
    STRING = 2
    TABLE = 3
    UNION = 4
    NUMBERS = 5
    TABLES = 6
    ALIGNED_BYTES = 7


@dataclass(frozen=True)
class Field:
    """One slot of a table: a ``struct`` code, or the name of a table or union."""

    name: str
    kind: Kind
    of: str
    size: int
    """Bytes inside the table."""


@dataclass(frozen=True)
class Schema:
    """Fields of each table in slot order (``None``: slot not used), and the tables of each union by type."""

    tables: Mapping[str, tuple[Field | None, ...]]
    unions: Mapping[str, tuple[str, ...]]


def schema_from_text(tables: str, without_fields: str, unions: Mapping[str, str]) -> Schema:
    """A schema written as lines ``Table field:kind ...``; an indented line continues the one before."""
    lines = re.sub(r"\n\s+", " ", tables).strip().splitlines()
    parsed: dict[str, tuple[Field | None, ...]] = dict.fromkeys(without_fields.split(), ())
    for line in lines:
        name, *fields = line.split()
        parsed[name] = tuple(None if text == "-" else _field(text) for text in fields)
    return Schema(parsed, {name: tuple(members.split()) for name, members in unions.items()})


def _field(text: str) -> Field:
    name, kind = text.split(":")
    if kind == "s":
        return Field(name, Kind.STRING, "", 4)
    if kind == "[16]":
        return Field(name, Kind.ALIGNED_BYTES, "B", 4)
    if kind.startswith("|"):
        return Field(name, Kind.UNION, kind[1:], 4)
    if kind.startswith("["):
        of = kind[1:-1]
        return Field(name, Kind.NUMBERS if len(of) == 1 else Kind.TABLES, of, 4)
    if len(kind) == 1:
        return Field(name, Kind.NUMBER, kind, struct.calcsize(kind))
    return Field(name, Kind.TABLE, kind, 4)


def read_flatbuffer(content: memoryview, schema: Schema, root: str, identifier: bytes) -> Table:
    """The table ``root`` of ``content`` with all below it.

    Raises ModelError when an offset leads outside, when shared parts would make more than the content holds,
    or when a field is used that the schema does not know.
    """
    if len(content) < 8 or bytes(content[4:8]) != identifier:
        raise ModelError(f"the content does not carry the identifier {identifier.decode()} of its format")
    reader = _Reader(content, schema)
    try:
        return reader.table(reader.u32(0), root)
    except struct.error:
        raise ModelError(f"the content of {len(content)} bytes is cut short or damaged") from None


class _Reader:
    def __init__(self, content: memoryview, schema: Schema) -> None:
        self._content = content
        self._schema = schema
        self._tables_left = MAX_TABLES
        # Writers may share equal vectors, but a small file must not stand for a huge one.
        self._bytes_left = 4 * len(content)

    def u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._content, at)[0])

    def table(self, at: int, name: str) -> Table:
        self._tables_left -= 1
        if self._tables_left < 0:
            raise ModelError(f"the content has more than {MAX_TABLES} tables")
        vtable = at - int(struct.unpack_from("<i", self._content, at)[0])
        if vtable < 0:
            raise ModelError(f"the layout of table {name} lies outside the content")
        layout_bytes, table_bytes = struct.unpack_from("<HH", self._content, vtable)
        fields = self._schema.tables[name]
        count = max(layout_bytes - 4, 0) // 2
        if count > len(fields) + _MAX_NEWER_SLOTS:
            raise ModelError(f"table {name} has {count} fields, more than any known version of the format")
        offsets = struct.unpack_from(f"<{count}H", self._content, vtable + 4)
        if any(offsets[len(fields) :]):
            raise ModelError(
                f"table {name} uses a field of a newer version of the format than this one knows: "
                "convert the model with an older converter"
            )
        values: Table = {}
        for field, offset in zip(fields, offsets, strict=False):
            if offset and field is not None:
                if offset + field.size > table_bytes:
                    raise ModelError(f"field {field.name} lies outside its table {name}")
                values[field.name] = self._value(at + offset, field, values)
        return values

    def _value(self, at: int, field: Field, before: Table) -> Any:
        if field.kind is Kind.NUMBER:
            return struct.unpack_from("<" + field.of, self._content, at)[0]
        target = at + self.u32(at)
        if field.kind is Kind.NUMBERS:
            return self._numbers(target, field.of)
        if field.kind is Kind.TABLE:
            return self.table(target, field.of)
        if field.kind is Kind.TABLES:
            offsets = self._numbers(target, "I")
            if len(offsets) > self._tables_left:
                raise ModelError(f"{field.name} has {len(offsets)} entries, too many")
            return [self.table(target + 4 + 4 * i + to, field.of) for i, to in enumerate(offsets)]
        if field.kind is Kind.UNION:
            return self._union(target, field, before)
        return self._numbers(target, "B")

    def _union(self, at: int, field: Field, before: Table) -> Table:
        members = self._schema.unions[field.of]
        member = before.get(f"{field.name}_type", 0)
        if not 0 < member < len(members):
            raise ModelError(f"{field.name} is of type {member}, which is not known")
        return self.table(at, members[member])

    def _numbers(self, at: int, code: Any) -> memoryview:
        size = struct.calcsize(code) * self.u32(at)
        self._bytes_left -= size
        if size > len(self._content) - at - 4 or self._bytes_left < 0:
            raise ModelError(f"a vector of {size} bytes does not fit the content")
        numbers: memoryview = self._content[at + 4 : at + 4 + size].cast(code)
        return numbers


def flatbuffer_of(value: Table, schema: Schema, root: str, identifier: bytes) -> bytes:
    """The inverse of ``read_flatbuffer``; raises ModelError above 2 GB, where offsets end."""
    writer = _Writer(schema)
    writer.out += struct.pack("<I4s", 0, identifier)
    struct.pack_into("<I", writer.out, 0, writer.table(root, value))
    return writer.finish()


@dataclass(frozen=True)
class _Layout:
    vtable: bytes
    inline: struct.Struct
    fields: tuple[tuple[Field, int], ...]
    """In the order of ``inline``, with the offset of each."""
    lead: int
    """Where the table must start, modulo 8."""


class _Writer:
    """Writes a parent before its children, as offsets are unsigned; weights go last."""

    def __init__(self, schema: Schema) -> None:
        self.out = bytearray()
        self._schema = schema
        self._layouts: dict[tuple[str, tuple[str, ...]], _Layout] = {}
        self._vtables: dict[bytes, int] = {}
        self._aligned: list[tuple[int, memoryview]] = []

    def table(self, name: str, value: Table) -> int:
        layout = self._layout(name, value)
        vtable = self._vtables.get(layout.vtable)
        if vtable is None:
            self._pad(2, 0)
            vtable = self._vtables[layout.vtable] = len(self.out)
            self.out += layout.vtable
        self._pad(8 if layout.lead else 4, layout.lead)
        at = len(self.out)
        numbers = [value[field.name] if field.kind is Kind.NUMBER else 0 for field, _ in layout.fields]
        self.out += layout.inline.pack(at - vtable, *numbers)
        for field, offset in layout.fields:
            if field.kind is Kind.ALIGNED_BYTES:
                self._aligned.append((at + offset, value[field.name]))
            elif field.kind is not Kind.NUMBER:
                child = self._child(field, value)
                struct.pack_into("<I", self.out, at + offset, child - at - offset)
        return at

    def finish(self) -> bytes:
        """Everything written, then the aligned bytes; their offsets are filled in here."""
        at = len(self.out)
        parts: list[bytes | bytearray | memoryview] = [self.out]
        for field_at, data in self._aligned:
            padding = -(at + 4) % _ALIGNMENT
            if at + padding + 4 + len(data) > _MAX_BYTES:
                raise ModelError("the content would exceed 2 GB, which the format cannot address")
            struct.pack_into("<I", self.out, field_at, at + padding - field_at)
            parts += [bytes(padding) + struct.pack("<I", len(data)), data]
            at += padding + 4 + len(data)
        return b"".join(parts)

    def _child(self, field: Field, value: Table) -> int:
        child = value[field.name]
        if field.kind is Kind.TABLE:
            return self.table(field.of, child)
        if field.kind is Kind.UNION:
            return self.table(self._schema.unions[field.of][value[f"{field.name}_type"]], child)
        if field.kind is Kind.TABLES:
            self._pad(4, 0)
            at = len(self.out)
            self.out += struct.pack("<I", len(child)) + bytes(4 * len(child))
            for slot in range(at + 4, at + 4 + 4 * len(child), 4):
                entry = self.table(field.of, child[(slot - at) // 4 - 1])
                struct.pack_into("<I", self.out, slot, entry - slot)
            return at
        if field.kind is Kind.STRING:
            return self._vector(len(child), bytes(child) + b"\0", 4)
        numbers = memoryview(child)
        return self._vector(len(numbers), numbers.tobytes(), max(4, numbers.itemsize))

    def _vector(self, count: int, data: bytes, alignment: int) -> int:
        self._pad(alignment, -4 % alignment)
        at = len(self.out)
        self.out += struct.pack("<I", count) + data
        return at

    def _pad(self, alignment: int, remainder: int) -> None:
        self.out += bytes((remainder - len(self.out)) % alignment)

    def _layout(self, name: str, value: Table) -> _Layout:
        key = (name, tuple(value))
        if key not in self._layouts:
            self._layouts[key] = _layout(self._schema.tables[name], value)
        return self._layouts[key]


def _layout(fields: tuple[Field | None, ...], present: Table) -> _Layout:
    slots = [(slot, field) for slot, field in enumerate(fields) if field and field.name in present]
    # Largest first: then each is aligned when the first is, without padding between.
    by_size = sorted(slots, key=lambda item: -item[1].size)
    offsets = [0] * (slots[-1][0] + 1 if slots else 0)
    at, placed = 4, []
    for slot, field in by_size:
        offsets[slot] = at
        placed.append((field, at))
        at += field.size
    codes = "".join(field.of if field.kind is Kind.NUMBER else "I" for _, field in by_size)
    vtable = struct.pack(f"<HH{len(offsets)}H", 4 + 2 * len(offsets), at, *offsets)
    lead = 4 if by_size and by_size[0][1].size == 8 else 0
    return _Layout(vtable, struct.Struct("<i" + codes), tuple(placed), lead)
