"""The operator graph: JSON and back, what is refused, what is alive where."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import DecodeError, EdgemeshError, ModelError
from edgemesh.model.torch_compute import operator_macs
from edgemesh.model.torch_graph import Named, Operator, Ref, Value, decode_graph, encode_graph, is_dense
from edgemesh.model.torch_structure import Liveness, structure_of
from tests.model.torch_graphs import graph, operator, plain_graph

_SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=20)
_ARGUMENTS = (
    _SCALARS
    | st.floats(allow_nan=False)
    | st.builds(Named, st.sampled_from(["dtype", "device", "layout", "memory_format"]), st.text(max_size=9))
    | st.lists(st.just(Ref(2)) | _SCALARS, max_size=4).map(tuple)
)


@given(st.lists(_ARGUMENTS, max_size=5), st.dictionaries(st.text(max_size=9), _ARGUMENTS, max_size=3))
def test_decode_of_encode_is_identity(arguments: list[Any], keywords: dict[str, Any]) -> None:
    first = operator("relu.default", (), 3, arguments=tuple(arguments), keywords=keywords)
    whole = graph(operators=(first, *graph().operators[1:]))

    decoded = decode_graph(encode_graph(whole))

    assert decoded == whole
    # 1, 1.0 and True are equal in Python and different to an operator.
    assert repr(decoded) == repr(whole)


def test_nan_and_infinity_survive_as_arguments() -> None:
    first = operator("relu.default", (), 3, arguments=(math.inf, -math.inf, math.nan))

    decoded = decode_graph(encode_graph(graph(operators=(first, *graph().operators[1:]))))

    assert repr(decoded.operators[0].arguments) == "(inf, -inf, nan)"


_CALL = {"name": "n", "target": "aten.relu.default", "arguments": [{"value": 2}], "outputs": [3]}
_DAMAGES: dict[str, dict[str, Any]] = {
    "forward reference": {"operators": [{**_CALL, "arguments": [{"value": 7}]}]},
    "reference to itself": {"operators": [{**_CALL, "arguments": [{"value": 3}]}]},
    "reference out of range": {"operators": [{**_CALL, "arguments": [{"value": 1 << 40}]}]},
    "negative reference": {"operators": [{**_CALL, "arguments": [{"value": -1}]}]},
    "boolean reference": {"operators": [{**_CALL, "arguments": [{"value": True}]}]},
    "value made twice": {"operators": [_CALL, _CALL]},
    "output of an operator out of range": {"operators": [{**_CALL, "outputs": [99]}]},
    "operator without outputs": {"operators": [{**_CALL, "outputs": []}]},
    "several outputs of one result": {"operators": [{**_CALL, "outputs": [3, 4]}]},
    "arguments that are no list": {"operators": [{**_CALL, "arguments": {"value": 2}}]},
    "keywords that are no map": {"operators": [{**_CALL, "keywords": [1]}]},
    "unknown kind of argument": {"operators": [{**_CALL, "arguments": [{"eval": "1"}]}]},
    "two kinds of argument": {"operators": [{**_CALL, "arguments": [{"value": 2, "dtype": "float32"}]}]},
    "nested too deep": {"operators": [{**_CALL, "arguments": [[[[[1]]]]]}]},
    "huge number": {"operators": [{**_CALL, "arguments": [1 << 64]}]},
    "float that is none": {"operators": [{**_CALL, "arguments": [{"float": "1e400"}]}]},
    "constant that reads an input": {"constants": [{**_CALL, "outputs": [1]}]},
    "no operators": {"operators": []},
    "no inputs": {"inputs": []},
    "output never made": {"outputs": [7, 3, 50]},
    "output twice": {"outputs": [7, 7]},
    "operators that are no list": {"operators": {"0": _CALL}},
    "missing values": {"values": None},
    "unknown dtype": {"values": [{"name": "x", "dtype": "bfloat16", "shape": [1]}] * 8},
    "negative size": {"values": [{"name": "x", "dtype": "float32", "shape": [-1]}] * 8},
    "huge size": {"values": [{"name": "x", "dtype": "float32", "shape": [1 << 20, 1 << 20]}] * 8},
    "huge stride": {"values": [{"name": "x", "dtype": "int8", "shape": [9], "stride": [1 << 28]}] * 8},
    "huge rank": {"values": [{"name": "x", "dtype": "int8", "shape": [1] * 17}] * 8},
    "strides of another rank": {"values": [{"name": "x", "dtype": "int8", "shape": [1], "stride": []}] * 8},
    "two outputs of one name": {"values": [{"name": "x", "dtype": "int8", "shape": [1]}] * 8},
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_malformed_graph_is_refused(damage: str) -> None:
    plain = {**plain_graph(), **_DAMAGES[damage]}

    with pytest.raises(DecodeError):
        decode_graph(json.dumps(plain))


def test_a_graph_of_a_later_release_is_refused_by_version() -> None:
    with pytest.raises(ModelError, match="version 2, this release reads 1"):
        decode_graph(json.dumps({**plain_graph(), "version": 2}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(plain_graph())), _JSON)
def test_any_replaced_field_decodes_or_gives_the_one_error(key: str, value: Any) -> None:
    with suppress(EdgemeshError):
        decode_graph(json.dumps({**plain_graph(), key: value}))


@pytest.mark.parametrize(("key", "value", "wanted"), [("name", "other", "other"), ("outputs", [3], (3,))])
def test_a_field_replaced_by_a_good_one_is_taken(key: str, value: Any, wanted: Any) -> None:
    """Found by a reader: were everything refused, the test of replaced fields would pass."""
    found = decode_graph(json.dumps({**plain_graph(), key: value}))

    assert found == graph(**{key: wanted})


def test_an_output_made_early_stays_alive_and_constants_never_cross() -> None:
    liveness = Liveness(graph())

    assert [liveness.alive(cut) for cut in range(5)] == [(2,), (2, 3), (3, 4), (3, 5), (7, 3)]
    assert liveness.all_alive() == [liveness.alive(cut) for cut in range(5)]


def test_a_range_takes_only_the_weights_and_constants_it_reads() -> None:
    liveness = Liveness(graph())

    none, both = liveness.operator_range(2, 3), liveness.operator_range(3, 4)

    assert (none.weights, none.constants) == ((), ())
    # The constant is made of the weight, so whoever reads it needs both.
    assert both.weights == (0,) and [o.target for o in both.constants] == ["aten.amax.default"]
    assert (both.inputs, both.outputs) == ((3, 5), (7, 3))


def test_the_structure_counts_operators_weights_and_peaks() -> None:
    structure = structure_of(graph())

    assert sum(unit.operators for unit in structure.units) == 4
    assert sum(unit.macs for unit in structure.units) == 2 * 8 * 4
    assert structure.boundaries[0][0].name == "x"
    assert [tensor.name for tensor in structure.boundaries[-1]] == ["output", "early"]
    assert max(unit.weight_bytes for unit in structure.units) == 8 * 4 * 4
    # relu: x and early; linear: x, early, hidden; chunk: early, hidden and its halves.
    assert max(unit.peak_bytes for unit in structure.units) == 4 * (8 + 16 + 8 + 8)


@pytest.mark.parametrize(
    ("shape", "strides", "dense"),
    [
        ((2, 3), (3, 1), True),
        ((2, 3), (1, 2), True),
        ((2, 3), (4, 1), False),
        ((2, 3), (0, 1), False),
        ((3, 3), (1, 1), False),
        ((1, 3), (99, 1), True),
        ((), (), True),
        ((0, 5), (7, 7), True),
    ],
)
def test_dense_means_without_gaps_or_overlaps(
    shape: tuple[int, ...], strides: tuple[int, ...], dense: bool
) -> None:
    assert is_dense(shape, strides) is dense


@pytest.mark.parametrize(
    ("target", "arguments", "shapes", "macs"),
    [
        ("conv2d.default", (Ref(1), Ref(2)), [(1, 8, 6, 6), (1, 4, 8, 8), (8, 2, 3, 3)], 8 * 36 * 18),
        ("conv_transpose2d.input", (Ref(1), Ref(2)), [(1, 2, 8, 8), (1, 4, 4, 4), (4, 2, 2, 2)], 64 * 8),
        ("convolution.default", (Ref(1), Ref(2)), [(1, 8, 6, 6), (1, 4, 8, 8), (8, 4, 3, 3)], 8 * 36 * 36),
        ("linear.default", (Ref(1), Ref(2)), [(5, 7), (5, 3), (7, 3)], 105),
        ("addmm.default", (Ref(0), Ref(1), Ref(2)), [(5, 7), (5, 3), (3, 7)], 105),
        ("matmul.default", (Ref(1), Ref(2)), [(2, 5, 7), (2, 5, 3), (3, 7)], 210),
        (
            "scaled_dot_product_attention.default",
            (Ref(1), Ref(2), Ref(3)),
            [(2, 5, 8), (2, 5, 4), (2, 6, 4), (2, 6, 8)],
            2 * 5 * 6 * 12,
        ),
        ("lstm.input", (Ref(1), (), (Ref(2), Ref(3))), [(9, 4), (9, 3), (16, 3), (16, 4)], 9 * (48 + 64)),
        ("einsum.default", ("ij,jk->ik", (Ref(1), Ref(2))), [(5, 7), (5, 3), (3, 7)], 105),
        ("relu.default", (Ref(1),), [(5, 7), (5, 7)], 0),
        ("linear.default", ("hostile",), [(5, 7)], 0),
        ("einsum.default", (3, 4), [(5, 7)], 0),
    ],
)
def test_multiply_accumulates_of_an_operator(
    target: str, arguments: tuple[Any, ...], shapes: list[tuple[int, ...]], macs: int
) -> None:
    values = [Value(f"v{i}", "float32", shape) for i, shape in enumerate(shapes)]
    call = Operator("n", f"aten.{target}", arguments, {}, (0,), unpack=False)

    assert operator_macs(call, values) == macs
