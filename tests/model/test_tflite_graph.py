"""What is read from a ``.tflite``, and what is refused."""

from __future__ import annotations

import random
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import ModelError
from edgemesh.model.flatbuffer import flatbuffer_of, read_flatbuffer
from edgemesh.model.tflite_graph import read_graph
from edgemesh.model.tflite_schema import SCHEMA
from edgemesh.model.tflite_slice import slice_model
from edgemesh.model.tflite_structure import graph_structure, structure_of
from tests.tflite_models import ModelBuilder, chain, int32


def _convolution() -> ModelBuilder:
    builder = ModelBuilder()
    image, result, activated = (
        builder.tensor((1, 4, 4, 3)),
        builder.tensor((1, 4, 4, 8)),
        builder.tensor((1, 128)),
    )
    weights, bias = builder.tensor(data=[[[[0.5] * 3]]] * 8), builder.tensor(data=[1.0] * 8)
    shape = builder.tensor(dtype="int32", data=[1, 128])
    options = {"padding": 0, "stride_w": 1, "stride_h": 1}
    builder.operator("CONV_2D", [image, weights, bias], [result], ("Conv2DOptions", options))
    builder.operator("RESHAPE", [result, shape], [activated])
    builder.ends([image], [activated])
    return builder


def test_units_count_compute_weights_and_activations() -> None:
    structure = structure_of(_convolution().content())

    (unit,) = structure.units
    assert (unit.name, unit.operators) == ("conv_2d +1", 2)
    assert unit.macs == 4 * 4 * 8 * 3
    assert unit.weight_bytes == (24 + 8 + 2) * 4
    assert unit.peak_bytes == (128 + 128) * 4
    assert [tensor.name for tensor in structure.boundaries[0] + structure.boundaries[1]] == ["t0", "t2"]


def test_a_tensor_without_a_name_of_its_own_is_named_by_its_number() -> None:
    builder = chain("ABS", "NEG", "COS", "EXP")
    for index, name in enumerate([b"same", b"same", b"", b"same#1", b"other"]):
        builder.graphs[0]["tensors"][index]["name"] = name

    names = [tensor.name for tensor in read_graph(builder.content()).tensors]

    assert names == ["same#0", "same#1#", "#2", "same#1", "other"]


def test_a_result_used_late_crosses_every_cut_until_then() -> None:
    builder = chain("ABS", "NEG", "COS")
    total = builder.tensor()
    builder.operator("ADD", [1, 3], [total])
    builder.ends([0], [2, total])

    structure = structure_of(builder.content())

    alive = [[tensor.name for tensor in boundary] for boundary in structure.boundaries]
    assert alive == [["t0"], ["t1"], ["t1", "t2"], ["t1", "t2", "t3"], ["t2", "t4"]]


def test_operators_out_of_order_are_put_in_one_that_runs() -> None:
    builder = chain("ABS", "NEG", "COS")
    builder.graphs[0]["operators"].reverse()

    graph = read_graph(builder.content())

    assert [graph.operators[number].kind for number in graph.order] == ["ABS", "NEG", "COS"]


def test_an_operator_on_constants_belongs_to_its_consumer() -> None:
    builder = ModelBuilder()
    start, middle, end = builder.tensor(), builder.tensor(), builder.tensor()
    half, whole = builder.tensor(dtype="float16", data=[[1.5] * 4] * 2), builder.tensor()
    builder.operator("DEQUANTIZE", [half], [whole])
    builder.operator("ABS", [start], [middle])
    builder.operator("ADD", [middle, whole], [end])
    builder.ends([start], [end])

    structure = structure_of(builder.content())

    assert [unit.operators for unit in structure.units] == [1, 1]
    assert [unit.weight_bytes for unit in structure.units] == [0, 16]
    assert [tensor.name for tensor in structure.boundaries[1]] == ["t1"]


def test_random_numbers_are_not_constant_though_their_inputs_are() -> None:
    builder = ModelBuilder()
    start, noise, end = builder.tensor(), builder.tensor(), builder.tensor()
    shape = builder.tensor(dtype="int32", data=[2, 4])
    builder.operator("RANDOM_UNIFORM", [shape], [noise], ("RandomOptions", {"seed": 1}))
    builder.operator("ADD", [start, noise], [end])
    builder.ends([start], [end])

    assert len(read_graph(builder.content()).order) == 2


def _circle() -> bytes:
    builder = chain("ABS", "NEG")
    builder.operator("ADD", [2, 0], [3])
    builder.tensor()
    builder.graphs[0]["operators"][0]["inputs"] = int32(3)
    return builder.content()


def _calls(*callees: int) -> bytes:
    """A main graph that runs graph 1, and for each of ``callees`` a graph that runs it."""
    builder = ModelBuilder()
    for callee in (1, *callees):
        a, b = builder.tensor(), builder.tensor()
        builder.operator("CALL", [a], [b], ("CallOptions", {"subgraph": callee}))
        builder.ends([a], [b])
        builder.graph()
    builder.ends([], [])
    return builder.content()


def _with_input(**fields: object) -> bytes:
    builder = chain("ABS")
    builder.graphs[0]["tensors"][0].update(fields)
    return builder.content()


def _without_writer() -> bytes:
    builder = chain("ABS")
    builder.operator("ADD", [1, builder.tensor()], [builder.tensor()])
    return builder.content()


def _written_twice() -> bytes:
    builder = chain("ABS")
    builder.operator("NEG", [0], [1])
    return builder.content()


def _with_buffers(*buffers: dict[str, object]) -> bytes:
    return chain("ABS").content(buffers=list(buffers))


REFUSED = {
    "custom operators .Convolution2DTransposeBias. that no device": chain(
        "Convolution2DTransposeBias"
    ).content(),
    "custom operators .FlexAbs, Other.": chain("FlexAbs", "Other").content(),
    "schema version 2": chain("ABS").content(version=2),
    "holds 0 graphs": chain("ABS").content(subgraphs=[]),
    "operator 999": chain("ABS").content(operator_codes=[{"builtin_code": 999}]),
    "code number 0 of 0": chain("ABS").content(operator_codes=[]),
    "in a circle": _circle(),
    "graphs .* of the model run each other in a circle": _calls(2, 1),
    "graph 0 runs graph 1 of 2|graph 1 runs graph 0": _calls(0),
    "graph 1 runs graph 7 of 3": _calls(7),
    "'t0' has type 99": _with_input(type=99),
    "lies in buffer 9 of 1": _with_input(buffer=9),
    "impossible shape .-1, 4.": _with_input(shape=int32(-1, 4)),
    "impossible shape .65536, 65536.": _with_input(shape=int32(65536, 65536)),
    "list of shape has": _with_input(shape=int32(*[1] * 70_000)),
    r"'t0' .float32, .2, 1.. goes in or out": _with_input(shape=int32(2, 1), shape_signature=int32(2, -1)),
    r"'t0' .string, .2, 4.. goes in or out": _with_input(type=5),
    "'t2', which nothing writes": _without_writer(),
    "'t1', which has a value already": _written_twice(),
    "behind its tables": _with_buffers({"offset": 4096, "size": 16}),
    "computes nothing": ModelBuilder().content(),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_run_is_refused_by_name(reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        structure_of(REFUSED[reason])


def test_an_unknown_batch_counts_as_one() -> None:
    builder = chain("ABS", shape=(1, 4))
    for tensor in builder.graphs[0]["tensors"]:
        tensor["shape_signature"] = int32(-1, 4)

    assert structure_of(builder.content()).boundaries[0][0].shape == (1, 4)


def test_a_field_of_a_newer_schema_is_refused() -> None:
    newer = {**SCHEMA.tables, "Tensor": (*SCHEMA.tables["Tensor"], SCHEMA.tables["Tensor"][2])}
    builder = chain("ABS")
    content = read_flatbuffer(memoryview(builder.content()), SCHEMA, "Model", b"TFL3")
    content["subgraphs"][0]["tensors"][0]["buffer"] = 0
    written = flatbuffer_of(content, type(SCHEMA)(newer, SCHEMA.unions), "Model", b"TFL3")

    with pytest.raises(ModelError, match="newer version of the format"):
        structure_of(written)


def test_reading_what_was_written_gives_the_same() -> None:
    content = _convolution().content()

    again = flatbuffer_of(
        read_flatbuffer(memoryview(content), SCHEMA, "Model", b"TFL3"), SCHEMA, "Model", b"TFL3"
    )

    assert again == content


def test_every_truncation_is_refused() -> None:
    content = _convolution().content()

    for length in range(len(content)):
        with pytest.raises(ModelError):
            structure_of(content[:length])


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(noise: bytes) -> None:
    for content in (noise, noise[:4] + b"TFL3" + noise[4:]):
        with pytest.raises(ModelError):
            structure_of(content)


def test_damaged_content_is_refused_or_can_be_sliced() -> None:
    # Seeded and written out as a loop: Hypothesis would spend the time on choosing 4,000 positions.
    content = _convolution().content()
    chance = random.Random(7)
    accepted = 0

    for _ in range(4000):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            value = chance.choice([0, 1, 2, 4, 127, 128, 255, chance.randrange(256)])
            damaged[chance.randrange(len(damaged))] = value
        try:
            graph = read_graph(bytes(damaged))
            structure = graph_structure(graph)
            slice_model(graph, structure, 0, len(structure.units))
            accepted += 1
        except ModelError:
            pass

    assert 0 < accepted < 4000


def test_a_small_file_cannot_stand_for_a_huge_one() -> None:
    # 20,000 buffers that all are the same 100 KB would be 2 GB once written.
    builder = chain("ABS")
    builder.buffers += [{"data": memoryview(bytes(100_000))}] + [{}] * 20_000
    content = bytearray(builder.content())
    slots = content.index(struct.pack("<I", len(builder.buffers))) + 4
    table = slots + 4 + struct.unpack_from("<I", content, slots + 4)[0]
    for slot in range(slots, slots + 4 * len(builder.buffers), 4):
        struct.pack_into("<I", content, slot, table - slot)

    with pytest.raises(ModelError, match="vector of 100000 bytes does not fit"):
        structure_of(bytes(content))


def test_weights_are_aligned_for_vector_instructions() -> None:
    builder = chain("ABS")
    for size in (1, 7, 16, 33):
        builder.buffers.append({"data": memoryview(array("B", [0xAB] * size))})

    content = builder.content()

    tables = read_flatbuffer(memoryview(content), SCHEMA, "Model", b"TFL3")["buffers"]
    for size, table in zip((1, 7, 16, 33), tables[1:]):
        assert bytes(table["data"]) == b"\xab" * size
        assert content.index(struct.pack("<I", size) + b"\xab" * size) % 16 == 12
