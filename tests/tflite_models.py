"""Small ``.tflite`` contents for tests, built operator by operator."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgemesh.model.flatbuffer import Table, flatbuffer_of
from edgemesh.model.tflite_schema import BUILTIN_OPERATORS, SCHEMA, TENSOR_TYPES


def int32(*numbers: int) -> memoryview:
    """A vector of a table."""
    return memoryview(array("i", numbers))


class ModelBuilder:
    """A model put together; ``graphs[0]`` is the main graph."""

    def __init__(self) -> None:
        self.buffers: list[Table] = [{}]
        self.codes: list[Table] = []
        self.graphs: list[Table] = []
        self.graph()

    def graph(self) -> int:
        """Number of a new graph, which the following calls fill."""
        self.graphs.append({"tensors": [], "operators": [], "inputs": int32(), "outputs": int32()})
        return len(self.graphs) - 1

    def tensor(
        self, shape: Sequence[int] = (2, 4), *, dtype: str = "float32", data: Any = None, **fields: Any
    ) -> int:
        """Number of a new tensor of the newest graph; with ``data`` a constant."""
        tensors = self.graphs[-1]["tensors"]
        table: Table = {"type": TENSOR_TYPES.index(dtype), "name": f"t{len(tensors)}".encode(), **fields}
        if data is not None:
            content = np.asarray(data, dtype)
            shape = content.shape
            table["buffer"] = len(self.buffers)
            self.buffers.append({"data": memoryview(content.tobytes())})
        table["shape"] = int32(*shape)
        tensors.append(table)
        return len(tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: Iterable[int],
        outputs: Iterable[int],
        options: tuple[str, Table] | None = None,
    ) -> None:
        """A new operator of the newest graph; a ``kind`` that is not built in is a custom one."""
        code: Table = {"version": 1, "builtin_code": BUILTIN_OPERATORS.index("CUSTOM")}
        if kind in BUILTIN_OPERATORS:
            code["builtin_code"] = BUILTIN_OPERATORS.index(kind)
            code["deprecated_builtin_code"] = min(code["builtin_code"], 127)
        else:
            code["custom_code"] = kind.encode()
        table: Table = {"opcode_index": len(self.codes), "inputs": int32(*inputs), "outputs": int32(*outputs)}
        if options is not None:
            table["builtin_options_type"] = SCHEMA.unions["BuiltinOptions"].index(options[0])
            table["builtin_options"] = options[1]
        self.codes.append(code)
        self.graphs[-1]["operators"].append(table)

    def ends(self, inputs: Iterable[int], outputs: Iterable[int], *, graph: int = -1) -> None:
        """Inputs and outputs of a graph, the newest unless told."""
        self.graphs[graph].update(inputs=int32(*inputs), outputs=int32(*outputs))

    def content(self, **fields: Any) -> bytes:
        """The ``.tflite``; ``fields`` replace those of the model."""
        model: Table = {
            "version": 3,
            "operator_codes": self.codes,
            "subgraphs": self.graphs,
            "buffers": self.buffers,
            **fields,
        }
        return flatbuffer_of(model, SCHEMA, "Model", b"TFL3")


def chain(*kinds: str, shape: Sequence[int] = (2, 4)) -> ModelBuilder:
    """Operators of one input and one output, one after the other."""
    builder = ModelBuilder()
    tensors = [builder.tensor(shape) for _ in range(len(kinds) + 1)]
    for position, kind in enumerate(kinds):
        builder.operator(kind, [tensors[position]], [tensors[position + 1]])
    builder.ends([tensors[0]], [tensors[-1]])
    return builder
