"""The schema kept as data says what the generated reader of the package ``tflite`` says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from types import ModuleType
from typing import Any

import tflite

from edgemesh.model.flatbuffer import Field, Kind
from edgemesh.model.tflite_schema import BUILTIN_OPERATORS, SCHEMA, SUBGRAPH_FIELDS, TENSOR_TYPES

_CODES = {
    "Int8": "b", "Uint8": "B", "Bool": "?", "Int16": "h", "Uint16": "H", "Int32": "i", "Uint32": "I",
    "Int64": "q", "Uint64": "Q", "Float32": "f",
}  # fmt: skip
_LEFT_OUT = {
    "metadata_buffer", "metadata", "signature_defs", "description", "debug_metadata_index",
}  # fmt: skip


class _Recorder:
    """Stands in for a flatbuffers builder: the one call made on it tells slot and type."""

    def __init__(self) -> None:
        self.call: tuple[str, tuple[Any, ...]] = ("", ())

    def __getattr__(self, name: str) -> Any:
        def record(*arguments: Any) -> int:
            self.call = (name, arguments)
            return 0

        return record


def _modules() -> list[ModuleType]:
    modules = [
        importlib.import_module(f"tflite.{info.name}") for info in pkgutil.iter_modules(tflite.__path__)
    ]
    return [module for module in modules if hasattr(module, "Start")]


def _fields(module: ModuleType) -> dict[int, tuple[str, str]]:
    """Name and kind of each slot of the table that ``module`` reads."""
    table = module.__name__.split(".")[1]
    fields = {}
    for function_name, function in vars(module).items():
        if function_name.startswith(f"{table}Add"):
            field = function_name[len(table) + 3 :]
            recorder = _Recorder()
            function(recorder, 0)
            call, arguments = recorder.call
            kind = call.removeprefix("Prepend").removesuffix("Slot")
            if kind == "UOffsetTRelative":
                kind = _offset_kind(
                    getattr(getattr(module, table), field), hasattr(module, f"Start{field}Vector")
                )
            fields[arguments[0]] = (_snake(field), _CODES.get(kind, kind))
    return fields


def _offset_kind(accessor: Any, is_vector: bool) -> str:
    source = inspect.getsource(accessor)
    table = re.search(r"import (\w+)", source)
    if is_vector:
        number = re.search(r"number_types\.(\w+)Flags, a", source)
        return f"[{table[1]}]" if table else f"[{_CODES[number[1]] if number else '?'}]"
    if "Union" in source:
        return "union"
    return table[1] if table else "string"


def _snake(name: str) -> str:
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()


def _kind(field: Field) -> str:
    if field.kind is Kind.ALIGNED_BYTES:
        return "[B]"
    if field.kind in (Kind.NUMBERS, Kind.TABLES):
        return f"[{field.of}]"
    return {Kind.STRING: "string", Kind.UNION: "union"}.get(field.kind, field.of)


def _enumeration(name: str) -> list[str]:
    values = {value: key for key, value in vars(getattr(tflite, name)).items() if isinstance(value, int)}
    return [values[code] for code in range(len(values))]


def test_every_table_has_the_fields_of_the_published_schema_in_their_slots() -> None:
    published = {module.__name__.split(".")[1]: _fields(module) for module in _modules()}

    for table in ("Metadata", "SignatureDef", "TensorMap"):
        del published[table]
    kept = {
        table: {slot: (field.name, _kind(field)) for slot, field in enumerate(fields) if field is not None}
        for table, fields in SCHEMA.tables.items()
    }

    assert kept == {
        table: {slot: field for slot, field in fields.items() if field[0] not in _LEFT_OUT}
        for table, fields in published.items()
    }


def test_operators_types_and_unions_have_the_codes_of_the_published_schema() -> None:
    assert list(BUILTIN_OPERATORS) == _enumeration("BuiltinOperator")
    assert [name.upper() for name in TENSOR_TYPES] == _enumeration("TensorType")
    for union, members in SCHEMA.unions.items():
        assert list(members) == _enumeration(union)


def test_every_field_that_holds_the_number_of_a_graph_is_known_as_such() -> None:
    fields = {
        field.name
        for table, slots in SCHEMA.tables.items()
        for field in slots
        if field is not None and "subgraph" in field.name and table != "Model"
    }

    assert fields == SUBGRAPH_FIELDS
