"""The main graph of a TensorFlow Lite model: its tensors and operators, checked.

Whatever passes here has valid indices everywhere, one writer per tensor, no operator that the interpreter
lacks, and operators in an order that can run. Native code sees only content rewritten from this.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgemesh.errors import ModelError
from edgemesh.model.flatbuffer import Table, read_flatbuffer
from edgemesh.model.tflite_schema import BUILTIN_OPERATORS, SCHEMA, SUBGRAPH_FIELDS, TENSOR_TYPES
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import DTYPE_BYTES, Quantization

IDENTIFIER = b"TFL3"
_VERSION = 3

# Part of every interpreter build though called custom (register.cc of TensorFlow Lite).
_KNOWN_CUSTOM = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram"})
_STATEFUL = frozenset(
    {
        "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE",
        "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE",
    }
)  # fmt: skip
# Two copies of one of these would not agree.
_RANDOM = frozenset(
    {"RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR"}
)
_MAX_LIST = 65_536
_MAX_SUBGRAPHS = 1024
_MAX_ELEMENTS = (1 << 31) - 1
_MAX_NAME = limits.TEXT_CHARS - 64


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph; ``name`` is unique in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: int
    constant: bool
    variable: bool
    """State that stays in the interpreter from one run to the next."""
    sized: bool
    """Whether the file tells its size for one run (a batch of unknown size counts as one)."""
    quantization: Quantization | None = None
    """Where one scale is for the whole tensor, as it is for all but weights."""

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as an activation; 0 for types that never leave the interpreter."""
        return self.elements * DTYPE_BYTES.get(self.dtype, 0)

    @property
    def sendable(self) -> bool:
        """Whether it may cross a cut."""
        fits = self.nbytes <= limits.TENSOR_BYTES and len(self.shape) <= limits.RANK
        return self.dtype in DTYPE_BYTES and self.sized and fits and not self.variable


@dataclass(frozen=True)
class Operator:
    """One operator; tensors by index, -1 where an optional input is left out."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    subgraphs: tuple[int, ...]
    """The subgraphs it runs (IF, WHILE, CALL)."""

    @property
    def reads(self) -> tuple[int, ...]:
        """Its inputs without those left out."""
        return tuple(index for index in self.inputs if index >= 0)


@dataclass(frozen=True)
class Graph:
    """Subgraph 0 of a model, and the content it was read from.

    ``order`` lists the operators that are not constant, as they run: those that units count.
    An operator all of whose inputs are constant (DEQUANTIZE of float16 weights, DENSIFY) belongs to its
    consumers: as an activation it would grow the cut, and XNNPACK then fails or returns garbage.
    """

    content: Table
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    order: tuple[int, ...]
    constant_maker: dict[int, int]
    """By tensor, the constant operator that makes it."""
    subgraph_kinds: dict[int, frozenset[str]] = field(default_factory=dict)
    """By subgraph, the kinds of operators in it and in those it runs."""

    @cached_property
    def buffer_bytes(self) -> tuple[int, ...]:
        """Bytes of each buffer; 0 for the first, which means "no data"."""
        sizes = [len(buffer.get("data", b"")) for buffer in self.content["buffers"]]
        return (0, *sizes[1:])

    def with_constants(self, operators: Iterable[int], wanted: Iterable[int] = ()) -> list[int]:
        """``operators`` preceded by the constant ones that they, or the tensors ``wanted``, depend on."""
        given = list(operators)
        found: set[int] = set()
        stack = [index for operator in given for index in self.operators[operator].reads]
        stack += wanted
        while stack:
            maker = self.constant_maker.get(stack.pop())
            if maker is not None and maker not in found:
                found.add(maker)
                stack += self.operators[maker].reads
        return sorted(found, key=self._constant_rank.__getitem__) + given

    def reached_subgraphs(self, operators: Iterable[int]) -> list[int]:
        """Other subgraphs that ``operators`` run, directly or through another, in increasing order."""
        found: set[int] = set()
        stack = [index for operator in operators for index in self.operators[operator].subgraphs]
        while stack:
            subgraph = stack.pop()
            if subgraph not in found:
                found.add(subgraph)
                for operator in self.content["subgraphs"][subgraph].get("operators", ()):
                    stack += _subgraphs_run(operator)
        return sorted(found)

    def is_stateful(self, operator: int) -> bool:
        """Whether it shares state with others under a name (variables, hash tables)."""
        kinds = {self.operators[operator].kind}.union(
            *(self.subgraph_kinds[index] for index in self.operators[operator].subgraphs)
        )
        return not kinds.isdisjoint(_STATEFUL)

    @cached_property
    def _constant_rank(self) -> dict[int, int]:
        # Insertion order of ``constant_maker`` is an order that can run.
        return {operator: rank for rank, operator in enumerate(dict.fromkeys(self.constant_maker.values()))}


def read_graph(content: bytes | memoryview) -> Graph:
    """The graph of a ``.tflite`` content; no weight is copied, so ``content`` must stay as it is.

    Raises ModelError when the content is damaged or holds what cannot run on every device.
    """
    model = read_flatbuffer(memoryview(content), SCHEMA, "Model", IDENTIFIER)
    if model.get("version", 0) != _VERSION:
        raise ModelError(
            f"the model has schema version {model.get('version', 0)}, TensorFlow Lite has {_VERSION}"
        )
    subgraphs = model.get("subgraphs", [])
    if not 1 <= len(subgraphs) <= _MAX_SUBGRAPHS:
        raise ModelError(f"the model holds {len(subgraphs)} graphs, not 1 to {_MAX_SUBGRAPHS}")
    _check_buffers(model)
    kinds = _operator_kinds(model)
    parsed = [_checked_subgraph(model, number, kinds) for number in range(len(subgraphs))]
    subgraph_kinds = _kinds_reached(parsed)
    tensors, operators = parsed[0]
    inputs = _indices(subgraphs[0], "inputs", len(tensors), lowest=0)
    outputs = tuple(dict.fromkeys(_indices(subgraphs[0], "outputs", len(tensors), lowest=0)))
    order, constant_maker = _ordered(tensors, operators, inputs, outputs)
    return Graph(model, tensors, operators, inputs, outputs, order, constant_maker, subgraph_kinds)


def _check_buffers(model: Table) -> None:
    for buffer in model.setdefault("buffers", []):
        if buffer.pop("offset", 0) > 1 or buffer.pop("size", 0) > 1:
            raise ModelError(
                "the model keeps weights behind its tables (as those over 2 GB do): not supported"
            )


def _operator_kinds(model: Table) -> list[str]:
    kinds, refused = [], []
    for code in model.get("operator_codes", []):
        # Codes above 127 do not fit the older field, which then holds 127.
        builtin = max(code.get("deprecated_builtin_code", 0), code.get("builtin_code", 0))
        if not 0 <= builtin < len(BUILTIN_OPERATORS):
            raise ModelError(f"the model uses operator {builtin}, which this version does not know")
        kind = BUILTIN_OPERATORS[builtin]
        if kind == "CUSTOM":
            kind = _text(code.get("custom_code", b""))
            if kind not in _KNOWN_CUSTOM:
                refused.append(kind[:60])
        kinds.append(kind)
    if refused:
        raise ModelError(
            f"the model uses custom operators ({', '.join(refused[:8])}) that no device can run: "
            "convert it with built-in operators only"
        )
    return kinds


def _checked_subgraph(
    model: Table, number: int, kinds: Sequence[str]
) -> tuple[tuple[Tensor, ...], tuple[Operator, ...]]:
    subgraph = model["subgraphs"][number]
    tables = subgraph.get("tensors", [])
    names = _names(tables)
    tensors = tuple(_tensor(table, name, model["buffers"]) for table, name in zip(tables, names, strict=True))
    operators = []
    for table in subgraph.get("operators", []):
        code = table.get("opcode_index", 0)
        if code >= len(kinds):
            raise ModelError(f"an operator has code number {code} of {len(kinds)}")
        if table.get("large_custom_options_offset", 0) or table.get("large_custom_options_size", 0):
            raise ModelError("an operator keeps options behind the tables: not supported")
        operators.append(
            Operator(
                kinds[code],
                _indices(table, "inputs", len(tensors), lowest=-1),
                _indices(table, "outputs", len(tensors), lowest=0),
                _indices(table, "intermediates", len(tensors), lowest=0),
                tuple(_checked_calls(table, number, len(model["subgraphs"]))),
            )
        )
    _indices(subgraph, "inputs", len(tensors), lowest=0)
    _indices(subgraph, "outputs", len(tensors), lowest=0)
    return tensors, tuple(operators)


def _names(tables: Sequence[Table]) -> list[str]:
    texts = [_text(table.get("name", b"")) for table in tables]
    counts = Counter(texts)
    taken = {text for text, count in counts.items() if count == 1}
    names = []
    for index, text in enumerate(texts):
        name = text
        if not text or counts[text] > 1 or len(text) > _MAX_NAME:
            name = f"{text[:_MAX_NAME]}#{index}"
            while name in taken:
                name += "#"
            taken.add(name)
        names.append(name)
    return names


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", errors="replace")


def _tensor(table: Table, name: str, buffers: Sequence[Table]) -> Tensor:
    shape = _numbers(table, "shape")
    signature = _numbers(table, "shape_signature")
    code, buffer = table.get("type", 0), table.get("buffer", 0)
    if not 0 <= code < len(TENSOR_TYPES):
        raise ModelError(f"tensor {name[:60]!r} has type {code}, which this version does not know")
    if any(size < 0 for size in shape) or math.prod(shape) > _MAX_ELEMENTS:
        raise ModelError(f"tensor {name[:60]!r} has the impossible shape {list(shape[:8])}")
    if buffer >= len(buffers):
        raise ModelError(f"tensor {name[:60]!r} lies in buffer {buffer} of {len(buffers)}")
    variable = table.get("is_variable", False)
    # Converters put 1 where a size is unknown; only for the batch is that a size one can run with.
    sized = not any(
        axis > 0 and known < 0 and size == 1
        for axis, (known, size) in enumerate(zip(signature, shape, strict=False))
    )
    # Buffer 0 means "no data" to every interpreter.
    constant = buffer != 0 and len(buffers[buffer].get("data", b"")) > 0 and not variable
    quantization = _quantization(table.get("quantization", {}), TENSOR_TYPES[code])
    return Tensor(name, TENSOR_TYPES[code], shape, buffer, constant, variable, sized, quantization)


def _quantization(table: Table, dtype: str) -> Quantization | None:
    scales, zero_points = table.get("scale", ()), table.get("zero_point", ())
    # Floats may carry what a converter left over.
    one = len(scales) == 1 and len(zero_points) <= 1 and 0.0 < scales[0] < math.inf
    if not one or not dtype.startswith(("int", "uint")):
        return None
    return Quantization(float(scales[0]), *(int(zero_point) for zero_point in zero_points))


def _numbers(table: Table, name: str) -> tuple[int, ...]:
    numbers = table.get(name, ())
    if len(numbers) > _MAX_LIST:
        raise ModelError(f"a list of {name} has {len(numbers)} entries, more than {_MAX_LIST}")
    return tuple(numbers)


def _indices(table: Table, name: str, count: int, *, lowest: int) -> tuple[int, ...]:
    indices = _numbers(table, name)
    if any(not lowest <= index < count for index in indices):
        raise ModelError(f"a list of {name} names a tensor outside 0 to {count - 1}")
    return indices


def _subgraphs_run(operator: Table) -> Iterator[int]:
    for union in ("builtin_options", "builtin_options2"):
        if union in operator:
            table = SCHEMA.unions["BuiltinOptions" + union[15:]][operator[f"{union}_type"]]
            for slot in SCHEMA.tables[table]:
                if slot is not None and slot.name in SUBGRAPH_FIELDS:
                    yield operator[union].get(slot.name, 0)


def _checked_calls(operator: Table, caller: int, count: int) -> Iterator[int]:
    for callee in _subgraphs_run(operator):
        if not 0 < callee < count or callee == caller:
            raise ModelError(f"an operator of graph {caller} runs graph {callee} of {count}")
        yield callee


def _kinds_reached(
    parsed: Sequence[tuple[tuple[Tensor, ...], tuple[Operator, ...]]],
) -> dict[int, frozenset[str]]:
    """Raises ModelError when graphs run each other in a circle, which would never end."""
    calls = [{callee for operator in operators for callee in operator.subgraphs} for _, operators in parsed]
    kinds: dict[int, frozenset[str]] = {}
    waiting = list(range(len(parsed)))
    while waiting:
        blocked = []
        for number in waiting:
            if calls[number] <= kinds.keys():
                own = frozenset(operator.kind for operator in parsed[number][1])
                kinds[number] = own.union(*(kinds[callee] for callee in calls[number]))
            else:
                blocked.append(number)
        if len(blocked) == len(waiting):
            raise ModelError(f"the graphs {blocked[:8]} of the model run each other in a circle")
        waiting = blocked
    return kinds


def _ordered(
    tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[int], outputs: Sequence[int]
) -> tuple[tuple[int, ...], dict[int, int]]:
    """Operators that run on each inference in their order, and by tensor its constant operator.

    The order is the file's where that is valid, else each operator as soon as it can run.
    """
    maker = _makers(tensors, operators, inputs)
    fed = set(inputs)
    missing = [len({maker[index] for index in operator.reads if index in maker}) for operator in operators]
    consumers: dict[int, list[int]] = {}
    for number, operator in enumerate(operators):
        for made_by in {maker[index] for index in operator.reads if index in maker}:
            consumers.setdefault(made_by, []).append(number)
    known = {index for index, tensor in enumerate(tensors) if tensor.constant}
    known |= {i for i, t in enumerate(tensors) if i not in maker and i not in fed and _is_empty(t)}
    written = {*known, *inputs, *maker, *(i for i, tensor in enumerate(tensors) if tensor.variable)}
    ready = [number for number, count in enumerate(missing) if count == 0]
    order, constant_maker = [], {}
    while ready:
        number = heapq.heappop(ready)
        operator = operators[number]
        for index in operator.reads:
            if index not in written:
                raise ModelError(f"{operator.kind} reads {tensors[index].name[:60]!r}, which nothing writes")
        if _is_constant(operator, known):
            known.update(operator.outputs)
            constant_maker.update(dict.fromkeys(operator.outputs, number))
        else:
            order.append(number)
        for consumer in consumers.get(number, ()):
            missing[consumer] -= 1
            if missing[consumer] == 0:
                heapq.heappush(ready, consumer)
    if len(order) + len(set(constant_maker.values())) < len(operators):
        raise ModelError("operators of the model wait for each other in a circle")
    for index in outputs:
        if index not in written:
            raise ModelError(f"nothing writes the output {tensors[index].name[:60]!r}")
    return tuple(order), constant_maker


def _is_empty(tensor: Tensor) -> bool:
    return tensor.elements == 0 and not tensor.variable


def _is_constant(operator: Operator, known: set[int]) -> bool:
    if not operator.reads or not operator.outputs or operator.subgraphs:
        return False
    if operator.kind in _RANDOM | _STATEFUL | _KNOWN_CUSTOM:
        return False
    return all(index in known for index in operator.reads)


def _makers(
    tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[int]
) -> dict[int, int]:
    taken = set(inputs)
    maker: dict[int, int] = {}
    if any(tensors[index].constant for index in inputs) or len(taken) < len(inputs):
        raise ModelError("an input of the model is a constant or is listed twice")
    for number, operator in enumerate(operators):
        for index in operator.outputs:
            if index in taken or tensors[index].constant:
                raise ModelError(
                    f"{operator.kind} writes {tensors[index].name[:60]!r}, which has a value already"
                )
            taken.add(index)
            maker[index] = number
    return maker
