"""A range of units of a TensorFlow Lite model as a flatbuffer of its own."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgemesh.errors import ModelError
from edgemesh.model.flatbuffer import Table, flatbuffer_of
from edgemesh.model.structure import ModelStructure
from edgemesh.model.tflite_graph import IDENTIFIER, Graph
from edgemesh.model.tflite_schema import SCHEMA, SUBGRAPH_FIELDS
from edgemesh.model.tflite_structure import Cuts, tensor_spec

_NO_BUFFER = -1
"""Interpreters take buffer 0 to mean that a tensor has no data, whatever the buffer holds."""


@dataclass(frozen=True)
class Slice:
    """Units ``[start, stop)`` as a model, and how its tensors relate to the boundaries on both sides."""

    content: bytes
    """A ``.tflite``; empty when nothing is made, as all of ``boundaries[stop]`` is passed through."""
    takes: tuple[int, ...]
    """By input of ``content``, its place in ``boundaries[start]``."""
    passes: tuple[int | None, ...]
    """By tensor of ``boundaries[stop]``, its place in ``boundaries[start]`` if it is passed through
    unchanged; None marks the next output of ``content``."""
    stateful: bool
    """Whether it keeps variables, which must be reset before each run or jobs would affect each other."""
    working_bytes: int
    """Constants it unpacks when loaded, and the most activations it holds at once."""


def slice_model(graph: Graph, structure: ModelStructure, start: int, stop: int) -> Slice:
    """Units ``[start, stop)`` of ``graph``, with the weights they need and no others.

    ``structure`` may come from elsewhere (a manifest). Raises ModelError when it does not describe
    ``graph``, or when a cut would part operators that cannot be parted.
    """
    count = len(structure.units)
    if not 0 <= start < stop <= count:
        raise ModelError(f"units {start} to {stop} are not a range of a model of {count} units")
    first, last = structure.operator_range(start, stop)
    if sum(unit.operators for unit in structure.units) != len(graph.order) or first >= last:
        raise ModelError(
            f"the manifest counts {sum(unit.operators for unit in structure.units)} operators, the model has "
            f"{len(graph.order)}: add the model again"
        )
    cuts = Cuts(graph)
    alive = []
    for cut, at in ((start, first), (stop, last)):
        inner = 0 < at < len(graph.order)
        if inner and (reason := cuts.refusals[at]):
            kind = graph.operators[graph.order[at]].kind
            raise ModelError(f"the model cannot be cut before operator {at} ({kind}): {reason}")
        alive.append(cuts.live(at))
        specs = tuple(tensor_spec(graph.tensors[index]) for index in alive[-1])
        if specs != structure.boundaries[cut]:
            raise ModelError(
                f"the manifest describes other tensors at cut {cut} than the model has: add it again"
            )
    before, after = alive
    made = {index for number in graph.order[first:last] for index in graph.operators[number].outputs}
    if last == len(graph.order):
        made.update(index for index in after if index not in before)
    outputs = [index for index in after if index in made]
    passes = tuple(None if index in made else before.index(index) for index in after)
    operators = graph.with_constants(graph.order[first:last], wanted=outputs)
    read = {index for number in operators for index in graph.operators[number].reads}
    inputs = [index for index in before if index in read]
    if not outputs:
        return Slice(b"", (), passes, stateful=False, working_bytes=0)
    return Slice(
        content=_Copy(graph).content(operators, inputs, outputs),
        takes=tuple(before.index(index) for index in inputs),
        passes=passes,
        stateful=any(graph.tensors[index].variable for index in read),
        working_bytes=_working_bytes(graph, structure, operators, range(start, stop)),
    )


def _working_bytes(graph: Graph, structure: ModelStructure, operators: list[int], units: range) -> int:
    constants = {index for number in operators for index in graph.operators[number].outputs}
    unpacked = sum(graph.tensors[index].nbytes for index in constants & graph.constant_maker.keys())
    return unpacked + max(structure.units[unit].peak_bytes for unit in units)


@dataclass
class _Numbering:
    """Old numbers to new ones, in the order in which they are first asked for."""

    new: dict[int, int] = field(default_factory=dict)

    def __call__(self, old: int) -> int:
        return self.new.setdefault(old, len(self.new))


class _Copy:
    """One slice being put together: what it uses is numbered anew, everything else is left behind."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._buffers = _Numbering({_NO_BUFFER: 0})
        self._codes = _Numbering()
        self._subgraphs = _Numbering({0: 0})

    def content(self, operators: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        source = self._graph.content
        main = source["subgraphs"][0]
        used = self._used_tensors(operators, outputs)
        new_tensor = {old: new for new, old in enumerate(used)}
        new_tensor[-1] = -1
        others = self._graph.reached_subgraphs(operators)
        for old in others:
            self._subgraphs(old)
        subgraphs = [
            {
                "tensors": [self._tensor(main["tensors"][old]) for old in used],
                "inputs": _int32(new_tensor[old] for old in inputs),
                "outputs": _int32(new_tensor[old] for old in outputs),
                "operators": [self._operator(main["operators"][old], new_tensor) for old in operators],
            },
            *(self._subgraph(source["subgraphs"][old]) for old in others),
        ]
        model: Table = {
            "version": source["version"],
            "operator_codes": [source["operator_codes"][old] for old in self._codes.new],
            "subgraphs": subgraphs,
            "buffers": [{} if old == _NO_BUFFER else source["buffers"][old] for old in self._buffers.new],
        }
        return flatbuffer_of(model, SCHEMA, "Model", IDENTIFIER)

    def _used_tensors(self, operators: Sequence[int], outputs: Sequence[int]) -> list[int]:
        used = set(outputs)
        for number in operators:
            operator = self._graph.operators[number]
            used.update(operator.reads, operator.outputs, operator.intermediates)
        return sorted(used)

    def _subgraph(self, source: Table) -> Table:
        copy = dict(source)
        copy["tensors"] = [self._tensor(table) for table in source.get("tensors", ())]
        copy["operators"] = [self._operator(table, None) for table in source.get("operators", ())]
        return copy

    def _tensor(self, source: Table) -> Table:
        old = source.get("buffer", 0)
        has_data = old != 0 and "data" in self._graph.content["buffers"][old]
        copy = {**source, "buffer": self._buffers(old if has_data else _NO_BUFFER)}
        # Nothing looks tensors up by name, and interpreters fail on names that are not UTF-8.
        copy.pop("name", None)
        return copy

    def _operator(self, source: Table, new_tensor: dict[int, int] | None) -> Table:
        """``new_tensor`` is None where tensors keep their numbers."""
        copy = {**source, "opcode_index": self._codes(source.get("opcode_index", 0))}
        for name in ("inputs", "outputs", "intermediates"):
            if new_tensor is not None and name in source:
                copy[name] = _int32(new_tensor[old] for old in source[name])
        for union in ("builtin_options", "builtin_options2"):
            if union in source and not SUBGRAPH_FIELDS.isdisjoint(source[union]):
                copy[union] = {
                    name: self._subgraphs(value) if name in SUBGRAPH_FIELDS else value
                    for name, value in source[union].items()
                }
        return copy


def _int32(numbers: Iterable[int]) -> memoryview:
    return memoryview(array("i", numbers))
