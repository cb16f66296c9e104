"""The operator graph of a captured torch model: what it is made of, checked, to and from JSON.

A graph is in linear order. Values have numbers; each is an input, a weight, or an output of one operator.
Operators that depend on no input are kept apart (``constants``): they belong to whoever consumes them.
Nothing here imports torch, so a device without it can describe a model it cannot run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from edgemesh.errors import DecodeError, ModelError
from edgemesh.protocol import limits
from edgemesh.protocol.fields import Check, Count, from_plain, to_plain
from edgemesh.protocol.jsontext import plain_json
from edgemesh.protocol.manifest import DTYPE_BYTES, DType

GRAPH_VERSION = 1
MAX_RANK = 16
"""Inside a model; what crosses a cut has at most ``limits.RANK`` dimensions."""
_ARGUMENT_DEPTH = 3
_STRIDE = Check("0 or more", lambda n: 0 <= n <= limits.ELEMENTS)
_NAME = Check("1 to 512 printable characters", lambda text: 1 <= len(text) <= 512 and text.isprintable())
_Size = Annotated[int, Check("0 or more", lambda n: 0 <= n <= limits.ELEMENTS)]


@dataclass(frozen=True)
class Value:
    """One tensor of the graph."""

    name: Annotated[str, _NAME]
    dtype: DType
    shape: tuple[_Size, ...]
    stride: tuple[Annotated[int, _STRIDE], ...] | None = None
    """In elements, as measured when the model was captured; None for C order."""
    offset: Annotated[int, _STRIDE] = 0
    """Elements before the first one in its storage (a view keeps its distance from aligned memory)."""

    def __post_init__(self) -> None:
        """Raise DecodeError where the sizes are out of bounds."""
        if len(self.shape) > MAX_RANK or math.prod(self.shape) > limits.ELEMENTS:
            raise DecodeError(f"value {self.name[:60]!r} of shape {list(self.shape)[:20]} is too large")
        if self.stride is not None and len(self.stride) != len(self.shape):
            raise DecodeError(f"value {self.name[:60]!r} has {len(self.stride)} strides for its shape")
        if self.offset + self.extent > limits.ELEMENTS:
            raise DecodeError(
                f"value {self.name[:60]!r} needs a storage of more than {limits.ELEMENTS} elements"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in elements."""
        return self.stride if self.stride is not None else c_strides(self.shape)

    @property
    def extent(self) -> int:
        """Elements from the first to the last one in memory; 0 when it is empty."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * step for size, step in zip(self.shape, self.strides))

    @property
    def nbytes(self) -> int:
        """Bytes of all its elements, each once per place in the shape."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def is_dense(self) -> bool:
        """Whether its elements fill a stretch of memory, each place once, in any order of dimensions."""
        return is_dense(self.shape, self.strides)


@dataclass(frozen=True)
class Weight:
    """A value that is stored in the file."""

    value: Count
    tensor: Annotated[str, _NAME]
    """Its name in the safetensors header; several values may share one tensor."""


@dataclass(frozen=True)
class Ref:
    """An argument that is the value of this number."""

    value: int


@dataclass(frozen=True)
class Named:
    """An argument that is a constant of the library: ``dtype float32``, ``memory_format channels_last``."""

    kind: str
    text: str


Argument = Any
"""None, bool, int, float, str, Ref, Named, or a tuple of these."""

NAMED_KINDS = ("dtype", "device", "layout", "memory_format")


@dataclass(frozen=True)
class Operator:
    """One call: ``values[outputs] = target(*arguments, **keywords)``."""

    name: str
    """The module it comes from, such as ``features.0``, and what it does."""
    target: str
    """``aten.<operator>.<overload>``."""
    arguments: tuple[Argument, ...]
    keywords: dict[str, Argument]
    outputs: tuple[int, ...]
    unpack: bool
    """Whether the call returns a sequence with one tensor per output, even if there is one only."""

    def references(self) -> Iterator[int]:
        """Numbers of all values it reads, in the order of its arguments."""
        yield from _references(self.arguments)
        for argument in self.keywords.values():
            yield from _references((argument,))


@dataclass(frozen=True)
class TorchGraph:
    """A whole model; raises DecodeError on construction when its parts do not fit together."""

    name: str
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    weights: tuple[Weight, ...]
    constants: tuple[Operator, ...]
    """Operators fed by weights only, in order."""
    operators: tuple[Operator, ...]
    """The linear order that units count in."""
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that each value is made once, before it is read."""
        if not (self.inputs and self.operators and self.outputs):
            raise DecodeError(f"model {self.name[:60]!r} lacks inputs, operators or outputs")
        defined: set[int] = set()
        self._define(defined, (weight.value for weight in self.weights), "weights")
        for operator in self.constants:
            self._check_reads(defined, operator)
            self._define(defined, operator.outputs, operator.name)
        self._define(defined, self.inputs, "inputs")
        for operator in self.operators:
            self._check_reads(defined, operator)
            self._define(defined, operator.outputs, operator.name)
        if len(set(self.outputs)) != len(self.outputs) or not defined.issuperset(self.outputs):
            raise DecodeError(f"model {self.name[:60]!r} has outputs that are never made, or made twice")
        names = {self.values[value].name for value in (*self.inputs, *self.outputs)}
        if len(names) != len({*self.inputs, *self.outputs}):
            raise DecodeError(f"model {self.name[:60]!r} has two inputs or outputs of one name")

    def _define(self, defined: set[int], made: Iterable[int], where: str) -> None:
        for value in made:
            if not 0 <= value < len(self.values):
                raise DecodeError(f"{where[:60]} of the graph makes value {value} of {len(self.values)}")
            if value in defined:
                raise DecodeError(f"{where[:60]} of the graph makes value {value} a second time")
            defined.add(value)

    def _check_reads(self, defined: set[int], operator: Operator) -> None:
        for value in operator.references():
            if value not in defined:
                raise DecodeError(f"operator {operator.name[:60]!r} reads value {value} before it is made")


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the elements fill one stretch of memory without gaps or overlaps."""
    if 0 in shape:
        return True
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(shape, strides) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _references(arguments: Iterable[Argument]) -> Iterator[int]:
    for argument in arguments:
        if isinstance(argument, Ref):
            yield argument.value
        elif isinstance(argument, tuple):
            yield from _references(argument)


# --- JSON ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    version: int
    name: Annotated[str, _NAME]
    values: tuple[Value, ...]
    inputs: tuple[Count, ...]
    weights: tuple[Weight, ...]
    outputs: tuple[Count, ...]


@dataclass(frozen=True)
class _Call:
    name: Annotated[str, _NAME]
    target: Annotated[str, _NAME]
    outputs: tuple[Count, ...]
    unpack: bool = False


def encode_graph(graph: TorchGraph) -> str:
    """JSON text of a graph; equal graphs have equal texts."""
    plain = to_plain(
        _Head(GRAPH_VERSION, graph.name, graph.values, graph.inputs, graph.weights, graph.outputs)
    )
    for key, operators in (("constants", graph.constants), ("operators", graph.operators)):
        plain[key] = [_plain_operator(operator) for operator in operators]
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode_graph(text: str) -> TorchGraph:
    """The graph in ``text``; raises DecodeError, or ModelError for one of a later release."""
    plain = plain_json(text.encode("utf-8", "surrogatepass"))
    version = plain.get("version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version != GRAPH_VERSION:
        raise ModelError(
            f"the model's graph has version {version}, this release reads {GRAPH_VERSION}: "
            "update edgemesh on this device or add the model again"
        )
    head = from_plain(_Head, plain)
    assert isinstance(plain, dict)
    return TorchGraph(
        name=head.name,
        values=head.values,
        inputs=head.inputs,
        weights=head.weights,
        constants=_operators(plain, "constants"),
        operators=_operators(plain, "operators"),
        outputs=head.outputs,
    )


def _plain_operator(operator: Operator) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": operator.name,
        "target": operator.target,
        "arguments": [_plain_argument(argument) for argument in operator.arguments],
        "outputs": list(operator.outputs),
    }
    if operator.keywords:
        plain["keywords"] = {key: _plain_argument(value) for key, value in operator.keywords.items()}
    if operator.unpack:
        plain["unpack"] = True
    return plain


def _plain_argument(argument: Argument) -> Any:
    if isinstance(argument, Ref):
        return {"value": argument.value}
    if isinstance(argument, Named):
        return {argument.kind: argument.text}
    if isinstance(argument, tuple):
        return [_plain_argument(item) for item in argument]
    if isinstance(argument, float) and not math.isfinite(argument):
        return {"float": repr(argument)}
    return argument


def _operators(plain: dict[str, Any], key: str) -> tuple[Operator, ...]:
    records = plain.get(key)
    if not isinstance(records, list) or len(records) > limits.ITEMS:
        raise DecodeError(f"{key} of the graph must be a list of at most {limits.ITEMS} entries")
    return tuple(_operator(record) for record in records)


def _operator(record: object) -> Operator:
    call = from_plain(_Call, record)
    assert isinstance(record, dict)
    arguments, keywords = record.get("arguments", []), record.get("keywords", {})
    if not isinstance(arguments, list) or not isinstance(keywords, dict):
        raise DecodeError(f"operator {call.name[:60]!r} has no list of arguments or map of keywords")
    if not call.outputs or (len(call.outputs) > 1 and not call.unpack):
        raise DecodeError(f"operator {call.name[:60]!r} has {len(call.outputs)} outputs")
    return Operator(
        name=call.name,
        target=call.target,
        arguments=tuple(_argument(item, _ARGUMENT_DEPTH) for item in arguments),
        keywords={key: _argument(item, _ARGUMENT_DEPTH) for key, item in keywords.items()},
        outputs=call.outputs,
        unpack=call.unpack,
    )


def _argument(plain: object, depth: int) -> Argument:
    if plain is None or isinstance(plain, (bool, str)):
        return plain
    if isinstance(plain, int):
        if not -(1 << 63) <= plain < 1 << 63:
            raise DecodeError("a whole number among the arguments does not fit 64 bits")
        return plain
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise DecodeError("a number among the arguments is not finite")
        return plain
    if isinstance(plain, list) and depth > 0 and len(plain) <= limits.ITEMS:
        return tuple(_argument(item, depth - 1) for item in plain)
    if isinstance(plain, dict) and len(plain) == 1:
        [(kind, item)] = plain.items()
        return _tagged(kind, item)
    raise DecodeError(f"{repr(plain)[:60]} is not an argument of an operator")


def _tagged(kind: str, item: object) -> Argument:
    if kind == "value" and isinstance(item, int) and not isinstance(item, bool):
        return Ref(item)
    if kind in NAMED_KINDS and isinstance(item, str):
        return Named(kind, item)
    if kind == "float" and item in ("inf", "-inf", "nan"):
        return float(str(item))
    raise DecodeError(f"{kind[:40]!r} is not a kind of argument of an operator")
