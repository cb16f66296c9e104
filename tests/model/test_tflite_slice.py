"""What a slice of a ``.tflite`` holds, and which cuts are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgemesh.errors import ModelError
from edgemesh.model.flatbuffer import Table, read_flatbuffer
from edgemesh.model.structure import ModelStructure
from edgemesh.model.tflite_graph import read_graph
from edgemesh.model.tflite_schema import SCHEMA
from edgemesh.model.tflite_slice import Slice, slice_model
from edgemesh.model.tflite_structure import graph_structure
from tests.tflite_models import ModelBuilder, chain, int32


def _slice(content: bytes, start: int, stop: int) -> Slice:
    graph = read_graph(content)
    return slice_model(graph, graph_structure(graph), start, stop)


def _read(part: Slice) -> Table:
    return read_flatbuffer(memoryview(part.content), SCHEMA, "Model", b"TFL3")


def _kinds(part: Slice) -> list[str]:
    graph = read_graph(part.content)
    return [operator.kind for operator in graph.operators]


def _three_layers() -> ModelBuilder:
    """ADD and MUL with the same float16 constant, then SUB with one of its own (tensor 5)."""
    builder = ModelBuilder()
    start, added, multiplied = builder.tensor(), builder.tensor(), builder.tensor()
    half, whole = builder.tensor(dtype="float16", data=[[1.5] * 4] * 2), builder.tensor()
    own, end = builder.tensor(data=[[2.0] * 4] * 2), builder.tensor()
    builder.operator("DEQUANTIZE", [half], [whole])
    builder.operator("ADD", [start, whole], [added], ("AddOptions", {"fused_activation_function": 1}))
    builder.operator("MUL", [added, whole], [multiplied])
    builder.operator("SUB", [multiplied, own], [end])
    builder.ends([start], [end])
    return builder


def test_a_slice_holds_its_operators_with_their_options_and_only_the_weights_they_need() -> None:
    content = _three_layers().content()

    first, last = _slice(content, 0, 1), _slice(content, 2, 3)

    assert _kinds(first) == ["DEQUANTIZE", "ADD"]
    assert _read(first)["subgraphs"][0]["operators"][1]["builtin_options"] == {"fused_activation_function": 1}
    assert [len(buffer.get("data", b"")) for buffer in _read(first)["buffers"]] == [0, 16]
    assert _kinds(last) == ["SUB"]
    assert [len(buffer.get("data", b"")) for buffer in _read(last)["buffers"]] == [0, 32]


def test_a_dequantized_weight_is_copied_into_every_slice_that_uses_it() -> None:
    content = _three_layers().content()

    assert _kinds(_slice(content, 0, 1)) == ["DEQUANTIZE", "ADD"]
    assert _kinds(_slice(content, 1, 2)) == ["DEQUANTIZE", "MUL"]


def test_sparsity_and_quantisation_of_a_weight_are_kept() -> None:
    builder = _three_layers()
    own = builder.graphs[0]["tensors"][5]
    own["sparsity"] = {
        "traversal_order": int32(0, 1),
        "dim_metadata": [
            {"dense_size": 2},
            {"format": 1, "array_segments_type": 1, "array_segments": {"values": int32(0, 4, 8)}},
        ],
    }
    own["quantization"] = {"quantized_dimension": 1, "scale": memoryview(b"\0\0\0?").cast("f")}

    copied = _read(_slice(builder.content(), 2, 3))["subgraphs"][0]["tensors"]

    (tensor,) = (tensor for tensor in copied if "sparsity" in tensor)
    assert (tensor["sparsity"], tensor["quantization"]) == (own["sparsity"], own["quantization"])


def test_a_tensor_only_passed_through_does_not_enter_the_slice() -> None:
    builder = chain("ABS", "NEG", "COS")
    builder.operator("ADD", [1, 3], [builder.tensor()])
    builder.ends([0], [4])

    part = _slice(builder.content(), 1, 3)

    assert (part.takes, part.passes) == ((0,), (0, None))
    assert len(_read(part)["subgraphs"][0]["outputs"]) == 1


def test_a_range_whose_results_nobody_reads_needs_no_content() -> None:
    builder = chain("ABS", "NEG")
    builder.ends([0], [1])

    part = _slice(builder.content(), 1, 2)

    assert (part.content, part.takes, part.passes) == (b"", (), (0,))


def test_a_constant_output_arises_in_the_last_slice() -> None:
    builder = _three_layers()
    builder.graphs[0]["outputs"] = int32(4, 6)
    content = builder.content()

    assert _slice(content, 0, 2).passes == (None,)
    assert _kinds(_slice(content, 2, 3)) == ["DEQUANTIZE", "SUB"]
    assert _slice(content, 2, 3).passes == (None, None)


def test_graphs_that_an_operator_runs_go_with_it_under_new_numbers() -> None:
    builder = chain("ABS", "NEG", "COS", "EXP")
    calls = builder.graphs[0]["operators"]
    for position, callee in ((1, 2), (3, 3)):
        calls[position]["builtin_options_type"] = SCHEMA.unions["BuiltinOptions"].index("CallOptions")
        calls[position]["builtin_options"] = {"subgraph": callee}
    for kind in ("SIN", "TANH", "LOG"):
        builder.graph()
        builder.operator(kind, [builder.tensor()], [builder.tensor()])
        builder.ends([0], [1])
    graph = read_graph(builder.content())

    part = _read(slice_model(graph, graph_structure(graph), 2, 4))

    main, called = part["subgraphs"]
    assert main["operators"][1]["builtin_options"] == {"subgraph": 1}
    code = part["operator_codes"][called["operators"][0]["opcode_index"]]
    assert code == {"version": 1, "builtin_code": 73, "deprecated_builtin_code": 73}


def _sharing_state() -> bytes:
    builder = ModelBuilder()
    start, middle, end = builder.tensor(), builder.tensor(), builder.tensor()
    state = builder.tensor(is_variable=True, name=b"memory")
    builder.operator("ADD", [start, state], [middle])
    builder.operator("SUB", [middle, state], [end])
    builder.ends([start], [end])
    return builder.content()


def _sharing_variable() -> bytes:
    builder = chain("ABS", "NEG")
    handle = builder.tensor(dtype="resource")
    read = builder.tensor()
    builder.operator("VAR_HANDLE", [], [handle])
    builder.operator("ASSIGN_VARIABLE", [handle, 1], [])
    builder.operator("READ_VARIABLE", [handle], [read])
    builder.operator("COS", [read], [builder.tensor()])
    builder.ends([0], [5])
    return builder.content()


def test_operators_that_share_state_are_one_unit() -> None:
    assert [unit.operators for unit in graph_structure(read_graph(_sharing_state())).units] == [2]
    assert [unit.operators for unit in graph_structure(read_graph(_sharing_variable())).units] == [1, 1, 3, 1]


@pytest.mark.parametrize(
    ("content", "cut", "reason"),
    [
        (
            _sharing_state(),
            1,
            "before operator 1 .SUB.: operators that share the state 'memory' would be parted",
        ),
        (
            _sharing_variable(),
            3,
            "before operator 3 .ASSIGN_VARIABLE.: operators that share variables or tables",
        ),
    ],
)
def test_a_cut_that_would_part_state_is_refused_by_name(content: bytes, cut: int, reason: str) -> None:
    graph = read_graph(content)
    structure = graph_structure(graph)
    whole = structure.units[0]
    units = (replace(whole, operators=cut), replace(whole, operators=len(graph.order) - cut))
    boundary = structure.boundaries[0]

    with pytest.raises(ModelError, match=reason):
        slice_model(graph, ModelStructure(units, (boundary, boundary, structure.boundaries[-1])), 0, 1)


def test_a_manifest_of_another_model_is_refused() -> None:
    graph = read_graph(chain("ABS", "NEG").content())
    longer = graph_structure(read_graph(chain("ABS", "NEG", "COS").content()))
    wider = graph_structure(read_graph(chain("ABS", "NEG", shape=(3, 4)).content()))

    with pytest.raises(ModelError, match="counts 3 operators, the model has 2"):
        slice_model(graph, longer, 0, 1)
    with pytest.raises(ModelError, match="other tensors at cut 0"):
        slice_model(graph, wider, 0, 1)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (1, 0), (-1, 1), (0, 3)])
def test_what_is_no_range_of_units_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ModelError, match="not a range of a model of 2 units"):
        _slice(chain("ABS", "NEG").content(), start, stop)
