"""Builders of graphs by hand, without torch."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgemesh.model.torch_file import GRAPH_KEY, StoredTensor, write_model
from edgemesh.model.torch_graph import Operator, Ref, TorchGraph, Value, Weight, encode_graph


def operator(target: str, reads: tuple[int, ...], *makes: int, name: str = "", **changes: Any) -> Operator:
    """``values[makes] = aten.target(*values[reads])``."""
    made = Operator(
        name or target, f"aten.{target}", tuple(Ref(v) for v in reads), {}, makes, unpack=len(makes) > 1
    )
    return replace(made, **changes)


def graph(**changes: Any) -> TorchGraph:
    """x -> linear -> (chunk -> left, right) -> add with a constant; ``early`` is an output made first.

    Values: 0 weight, 1 constant, 2 x, 3 early, 4 hidden, 5 left, 6 right, 7 output.
    """
    values = (
        Value("weight", "float32", (8, 4)),
        Value("constant", "float32", (1, 4), stride=(4, 1)),
        Value("x", "float32", (2, 4)),
        Value("early", "float32", (2, 4)),
        Value("hidden", "float32", (2, 8)),
        Value("left", "float32", (2, 4), stride=(8, 1)),
        Value("right", "float32", (2, 4), stride=(8, 1), offset=4),
        Value("output", "float32", (2, 4)),
    )
    whole = TorchGraph(
        name="hand-made",
        values=values,
        inputs=(2,),
        weights=(Weight(0, "layer.weight"),),
        constants=(operator("amax.default", (0,), 1),),
        operators=(
            operator("relu.default", (2,), 3),
            operator("linear.default", (2, 0), 4),
            operator("chunk.default", (4,), 5, 6, arguments=(Ref(4), 2, 1)),
            operator("add.Tensor", (5, 1), 7),
        ),
        outputs=(7, 3),
    )
    return replace(whole, **changes)


def plain_graph() -> Any:
    """The graph as decoded JSON, for damaging it."""
    return json.loads(encode_graph(graph()))


def content(text: str | None = None, **header: Any) -> bytes:
    """A file with the weight of ``graph()`` whose graph text and header entries are as given."""
    entries: dict[str, Any] = {
        "__metadata__": {GRAPH_KEY: encode_graph(graph()) if text is None else text},
        "layer.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]},
    }
    entries.update(header)
    data = json.dumps({key: entry for key, entry in entries.items() if entry is not None}).encode()
    return len(data).to_bytes(8, "little") + data + bytes(128)


def stream(data: bytes) -> tuple[io.BytesIO, int]:
    """``data`` as the reader of headers takes it."""
    return io.BytesIO(data), len(data)


def written(path: Path) -> bytes:
    """The bytes that ``write_model`` makes of ``graph()``."""
    write_model(path, graph(), {"layer.weight": StoredTensor("float32", (8, 4))}, lambda name: bytes(128))
    return path.read_bytes()
