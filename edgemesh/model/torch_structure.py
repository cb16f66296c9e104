"""Units and boundaries of a captured torch model, and what a range of its operators needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgemesh.errors import ModelError
from edgemesh.model.structure import ModelStructure
from edgemesh.model.torch_compute import operator_macs
from edgemesh.model.torch_graph import Operator, TorchGraph, Value
from edgemesh.model.units import unit_borders
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import Boundary, TensorSpec, Unit


@dataclass(frozen=True)
class OperatorRange:
    """Operators ``[first, last)`` of a graph with all they need; numbers are those of the graph's values."""

    inputs: tuple[int, ...]
    """Alive at the cut before ``first``, in the order of its boundary."""
    outputs: tuple[int, ...]
    """Alive at the cut before ``last``, in the order of its boundary."""
    operators: tuple[Operator, ...]
    constants: tuple[Operator, ...]
    """Operators fed by weights only that this range reads, copied into it."""
    weights: tuple[int, ...]


class Liveness:
    """Which values are alive at each cut ``0..n`` between the ``n`` operators of a graph.

    A value is alive from the operator that makes it to the last one that reads it; an output of the model
    until the end. Weights and what is made of weights only never cross a cut.
    """

    def __init__(self, graph: TorchGraph) -> None:
        self._graph = graph
        count = len(graph.operators)
        made = dict.fromkeys(graph.inputs, 0)
        for index, operator in enumerate(graph.operators):
            made.update(dict.fromkeys(operator.outputs, index + 1))
        read = dict.fromkeys(made, -1)
        for index, operator in enumerate(graph.operators):
            for value in operator.references():
                if value in read:
                    read[value] = index
        read.update((value, count) for value in graph.outputs if value in read)
        self._made, self._read = made, read
        self._sources = {value: operator for operator in graph.constants for value in operator.outputs}
        self._weights = {weight.value for weight in graph.weights}

    def alive(self, cut: int) -> tuple[int, ...]:
        """Values at ``cut``, as they were made; at 0 the inputs, at ``n`` the outputs, as declared."""
        if cut == 0:
            return self._graph.inputs
        if cut == len(self._graph.operators):
            return self._graph.outputs
        return tuple(value for value, made in self._made.items() if made <= cut <= self._read[value])

    def all_alive(self) -> list[tuple[int, ...]]:
        """``alive(cut)`` for every cut, in one sweep."""
        graph = self._graph
        current = [value for value in graph.inputs if self._read[value] >= 0]
        cuts = [graph.inputs]
        for index, operator in enumerate(graph.operators[:-1]):
            current = [value for value in (*current, *operator.outputs) if self._read[value] > index]
            cuts.append(tuple(current))
        cuts.append(graph.outputs)
        return cuts

    def needed_constants(self, operators: Sequence[Operator], outputs: Sequence[int]) -> set[int]:
        """Weights and results of constant operators that these operators and outputs read, at any remove."""
        waiting = [value for operator in operators for value in operator.references()]
        waiting.extend(outputs)
        needed: set[int] = set()
        while waiting:
            value = waiting.pop()
            if value in needed or value in self._made:
                continue
            needed.add(value)
            if value in self._sources:
                waiting.extend(self._sources[value].references())
        return needed

    def operator_range(self, first: int, last: int) -> OperatorRange:
        """What running operators ``[first, last)`` takes."""
        operators, outputs = self._graph.operators[first:last], self.alive(last)
        needed = self.needed_constants(operators, outputs)
        return OperatorRange(
            inputs=self.alive(first),
            outputs=outputs,
            operators=operators,
            constants=tuple(o for o in self._graph.constants if not needed.isdisjoint(o.outputs)),
            weights=tuple(w.value for w in self._graph.weights if w.value in needed),
        )

    def weight_bytes(self, first: int, last: int) -> int:
        """Stored bytes that operators ``[first, last)`` need, shared tensors once."""
        values = self._graph.values
        needed = set(self.operator_range(first, last).weights)
        tensors = {w.tensor: values[w.value].nbytes for w in self._graph.weights if w.value in needed}
        return sum(tensors.values())

    def peak_bytes(self, first: int, last: int) -> int:
        """Largest sum of activations at once while ``[first, last)`` runs; a view counts in full."""
        values, peak = self._graph.values, 0
        for index in range(first, last):
            at_once = {*self.alive(index), *self._graph.operators[index].outputs}
            peak = max(peak, sum(values[value].nbytes for value in at_once))
        return peak


def structure_of(graph: TorchGraph) -> ModelStructure:
    """Units and boundaries of ``graph``; raises ModelError where its inputs or outputs cannot travel."""
    liveness = Liveness(graph)
    cuts = liveness.all_alive()
    for cut, what in ((0, "inputs"), (-1, "outputs")):
        if not _can_travel(graph, cuts[cut], ends=True):
            raise ModelError(
                f"the {what} of model {graph.name} are more than {limits.TENSORS} tensors, "
                f"or one has more than {limits.RANK} dimensions or {limits.TENSOR_BYTES} bytes"
            )
    macs = [operator_macs(operator, graph.values) for operator in graph.operators]
    borders = unit_borders(
        [sum(graph.values[value].nbytes for value in alive) for alive in cuts],
        macs,
        [_can_travel(graph, alive, ends=False) for alive in cuts],
    )
    units = tuple(
        Unit(
            name=_unit_name(graph.operators[first:last], macs[first:last]),
            operators=last - first,
            macs=sum(macs[first:last]),
            weight_bytes=liveness.weight_bytes(first, last),
            peak_bytes=liveness.peak_bytes(first, last),
        )
        for first, last in pairwise(borders)
    )
    return ModelStructure(units, tuple(boundary_of(graph, cuts[border]) for border in borders))


def boundary_of(graph: TorchGraph, alive: Sequence[int]) -> Boundary:
    """The boundary at a cut where the values ``alive`` live."""
    return tuple(TensorSpec(v.name, v.dtype, v.shape) for v in (graph.values[value] for value in alive))


def restored_layout(value: Value) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shape and strides of what ``value`` holds once in memory; None when it overlaps otherwise.

    An expanded tensor (stride 0) holds each element once per repetition; a window that slides over its
    storage (``unfold``) cannot be told apart from independent elements once it has been sent.
    """
    shape = tuple(1 if step == 0 else size for size, step in zip(value.shape, value.strides))
    reach = 0
    for step, size in sorted((step, size) for size, step in zip(shape, value.strides) if size > 1):
        if step <= reach:
            return None
        reach += (size - 1) * step
    return shape, value.strides


def _can_travel(graph: TorchGraph, alive: Sequence[int], *, ends: bool) -> bool:
    """Whether these values may cross a cut; at the ``ends`` of a model any layout in memory may."""
    values = [graph.values[value] for value in alive]
    return 1 <= len(values) <= limits.TENSORS and all(
        len(value.shape) <= limits.RANK
        and value.nbytes <= limits.TENSOR_BYTES
        and (ends or restored_layout(value) is not None)
        for value in values
    )


def _unit_name(operators: Sequence[Operator], macs: Sequence[int]) -> str:
    """The name of the operator that computes most, or of the first."""
    return operators[max(range(len(operators)), key=lambda index: (macs[index], -index))].name
