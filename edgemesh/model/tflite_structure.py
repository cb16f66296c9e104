"""Cuts and units of a TensorFlow Lite graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise

from edgemesh.errors import ModelError
from edgemesh.model.structure import ModelStructure
from edgemesh.model.tflite_graph import Graph, Operator, Tensor, read_graph
from edgemesh.model.units import unit_borders
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import Boundary, DType, TensorSpec, Unit


def structure_of(content: bytes | memoryview) -> ModelStructure:
    """Units and boundaries of a ``.tflite`` content; raises ModelError naming what cannot be used."""
    return graph_structure(read_graph(content))


def graph_structure(graph: Graph) -> ModelStructure:
    """Units and boundaries of ``graph``, whose operators are those of ``graph.order``; raises ModelError."""
    for index in graph.inputs + graph.outputs:
        tensor = graph.tensors[index]
        if not tensor.sendable:
            raise ModelError(
                f"{tensor.name[:60]!r} ({tensor.dtype}, {list(tensor.shape)}) goes in or out of the model, "
                "but its size is not fixed or its type cannot be sent: convert the model with fixed sizes"
            )
    if not (graph.order and graph.inputs and graph.outputs):
        raise ModelError("the model computes nothing from an input")
    cuts = Cuts(graph)
    macs = [operator_macs(graph, number) for number in graph.order]
    borders = unit_borders(cuts.nbytes, macs, [reason is None for reason in cuts.refusals])
    peaks = [
        nbytes + sum(graph.tensors[index].nbytes for index in graph.operators[number].outputs)
        for nbytes, number in zip(cuts.nbytes, graph.order, strict=False)
    ]
    units = tuple(
        Unit(
            name=_unit_name(graph, macs, first, last),
            operators=last - first,
            macs=min(sum(macs[first:last]), _MAX_MACS),
            weight_bytes=weight_bytes(graph, graph.order[first:last]),
            peak_bytes=max(peaks[first:last]),
        )
        for first, last in pairwise(borders)
    )
    return ModelStructure(units, tuple(_boundary(graph, cuts.live(cut)) for cut in borders))


class Cuts:
    """What is alive at each cut between the operators of ``graph.order``, and where no cut may be.

    For ``c`` in ``0..n``, ``nbytes[c]`` is what crosses the cut before operator ``c`` and ``refusals[c]`` why
    it may not be cut there (None: it may).
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._last = len(graph.order)
        self._born, self._dies = _lifetimes(graph)
        changes = [0] * (self._last + 2)
        for index, born in self._born.items():
            changes[born] += graph.tensors[index].nbytes
            changes[self._dies[index] + 1] -= graph.tensors[index].nbytes
        self.nbytes = list(accumulate(changes))[: self._last + 1]
        self.refusals = self._refusals()

    def live(self, cut: int) -> tuple[int, ...]:
        """Tensors alive at ``cut``: inputs or outputs in the model's order, between them as they are made."""
        if cut == 0:
            return self._graph.inputs
        if cut == self._last:
            return self._graph.outputs
        return tuple(index for index, born in self._born.items() if born <= cut <= self._dies[index])

    def _refusals(self) -> list[str | None]:
        graph = self._graph
        counts = [0] * (self._last + 2)
        refusals: list[str | None] = [None] * (self._last + 1)
        for index, born in self._born.items():
            tensor, dies = graph.tensors[index], self._dies[index]
            counts[born] += 1
            counts[dies + 1] -= 1
            if not tensor.sendable:
                reason = f"{tensor.name[:60]!r} of type {tensor.dtype} has no fixed size or cannot be sent"
                refusals[born : dies + 1] = [reason] * (dies + 1 - born)
        for reason, first, last in _inseparable(graph):
            refusals[first + 1 : last + 1] = [reason] * (last - first)
        for cut, count in enumerate(accumulate(counts[:-1])):
            if not 1 <= count <= limits.TENSORS and refusals[cut] is None:
                refusals[cut] = f"{count} tensors are alive there, not 1 to {limits.TENSORS}"
        return refusals


def _lifetimes(graph: Graph) -> tuple[dict[int, int], dict[int, int]]:
    """First and last cut at which each tensor is alive, in the order in which they are made.

    Left out: constants and state, which never cross a cut, and results that nobody reads.
    """
    last = len(graph.order)
    made_at = dict.fromkeys(graph.inputs, 0)
    dies: dict[int, int] = {}
    for position, number in enumerate(graph.order):
        operator = graph.operators[number]
        dies.update((index, position) for index in operator.reads if index in made_at)
        made_at.update((index, position + 1) for index in operator.outputs)
    # A constant output exists at the end only.
    made_at.update((index, last) for index in graph.outputs if index not in made_at)
    dies.update(dict.fromkeys(graph.outputs, last))
    for index in graph.inputs:
        dies.setdefault(index, 0)
    alive = (index for index in made_at if index in dies and not graph.tensors[index].variable)
    return {index: made_at[index] for index in alive}, dies


def _inseparable(graph: Graph) -> list[tuple[str, int, int]]:
    """Stretches of operators that share state: why, and the positions of the first and last of each."""
    users: dict[str, list[int]] = {}
    for position, number in enumerate(graph.order):
        operator = graph.operators[number]
        for index in operator.reads + operator.outputs:
            if graph.tensors[index].variable:
                users.setdefault(f"the state {graph.tensors[index].name[:60]!r}", []).append(position)
    # Variables and tables are found by name at run time, so all of their users count as one.
    named = [position for position, number in enumerate(graph.order) if graph.is_stateful(number)]
    if named:
        kinds = sorted({graph.operators[graph.order[position]].kind for position in named})
        users[f"variables or tables ({', '.join(kinds)})"] = named
    return [
        (f"operators that share {state} would be parted", min(positions), max(positions))
        for state, positions in users.items()
    ]


def _boundary(graph: Graph, tensors: tuple[int, ...]) -> Boundary:
    return tuple(tensor_spec(graph.tensors[index]) for index in tensors)


def tensor_spec(tensor: Tensor) -> TensorSpec:
    """How the wire contract describes ``tensor``, which must be sendable."""
    dtype: DType = tensor.dtype  # type: ignore[assignment]  # sendable: one of the contract's
    return TensorSpec(tensor.name, dtype, tensor.shape)


def _unit_name(graph: Graph, macs: list[int], first: int, last: int) -> str:
    heaviest = max(range(first, last), key=lambda position: (macs[position], -position))
    others = last - first - 1
    kind = graph.operators[graph.order[heaviest]].kind.lower()
    return f"{kind} +{others}" if others else kind


def weight_bytes(graph: Graph, numbers: tuple[int, ...]) -> int:
    """Bytes of the constants that the operators ``numbers`` need, each once."""
    buffers = {
        graph.tensors[index].buffer
        for number in graph.with_constants(numbers)
        for index in graph.operators[number].reads
    }
    for subgraph in graph.reached_subgraphs(numbers):
        tables = graph.content["subgraphs"][subgraph].get("tensors", ())
        buffers.update(table.get("buffer", 0) for table in tables)
    return sum(graph.buffer_bytes[buffer] for buffer in buffers)


def operator_macs(graph: Graph, number: int) -> int:
    """Multiply-accumulates of one operator; 0 where it has none or its shapes do not fit its kind."""
    operator = graph.operators[number]
    count = _MACS.get(operator.kind)
    shapes = [graph.tensors[index].shape if index >= 0 else () for index in operator.inputs]
    if count is None or len(shapes) < 2 or not operator.outputs:
        return 0
    return count(operator, shapes, graph.tensors[operator.outputs[0]].shape)


_MAX_MACS = (1 << 53) - 1
"""What a manifest can say."""
_Shape = tuple[int, ...]
_Count = Callable[[Operator, list[_Shape], _Shape], int]


def _convolution_macs(_: Operator, shapes: list[_Shape], output: _Shape) -> int:
    # Filter [out, ..., in]: each output element sums over all but the first axis.
    return math.prod(output) * math.prod(shapes[1][1:])


def _volume_macs(_: Operator, shapes: list[_Shape], output: _Shape) -> int:
    # Filter [depth, height, width, in, out].
    return math.prod(output) * math.prod(shapes[1][:4])


def _depthwise_macs(_: Operator, shapes: list[_Shape], output: _Shape) -> int:
    # Filter [1, height, width, channels]: each channel by itself.
    return math.prod(output) * math.prod(shapes[1][1:3])


def _transposed_macs(_: Operator, shapes: list[_Shape], __: _Shape) -> int:
    # Inputs: output shape, filter [out, height, width, in], activation.
    return math.prod(shapes[2]) * math.prod(shapes[1][:3]) if len(shapes) > 2 else 0


def _product_macs(_: Operator, shapes: list[_Shape], output: _Shape) -> int:
    return math.prod(output) * (shapes[0][-1] if shapes[0] else 1)


_MACS: dict[str, _Count] = {
    "CONV_2D": _convolution_macs,
    "CONV_3D": _volume_macs,
    "DEPTHWISE_CONV_2D": _depthwise_macs,
    "FULLY_CONNECTED": _convolution_macs,
    "TRANSPOSE_CONV": _transposed_macs,
    "BATCH_MATMUL": _product_macs,
}
