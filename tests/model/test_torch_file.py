"""The content file: its header is read without trust."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import DecodeError, EdgemeshError, ModelError
from edgemesh.model.torch_file import graph_of, read_graph
from edgemesh.protocol import limits
from tests.model.torch_graphs import content, graph, stream, written


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "net"

    data = written(path)

    assert read_graph(path) == graph()
    assert written(tmp_path / "again") == data


def test_every_truncation_gives_the_one_error() -> None:
    data = content()
    graph_of(*stream(data))

    for length in range(len(data)):
        with pytest.raises(DecodeError):
            graph_of(*stream(data[:length]))


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(DecodeError, match="should have"):
        graph_of(*stream(content() + b"x"))


_WEIGHT = {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        {**_WEIGHT, "dtype": "BF16"},
        {**_WEIGHT, "dtype": ["F32"]},
        {**_WEIGHT, "dtype": "F16"},
        {**_WEIGHT, "shape": [4, 8]},
        {**_WEIGHT, "shape": [-8, -4]},
        {**_WEIGHT, "shape": [True, 32]},
        {**_WEIGHT, "shape": [1 << 62, 4]},
        {**_WEIGHT, "shape": [1] * 500},
        {**_WEIGHT, "shape": "8,4"},
        {**_WEIGHT, "data_offsets": [4, 132]},
        {**_WEIGHT, "data_offsets": [128, 0]},
        {**_WEIGHT, "data_offsets": [0]},
        {**_WEIGHT, "data_offsets": [0, 128.0]},
    ],
)
def test_a_tensor_that_is_not_where_the_header_says_is_refused(entry: Any) -> None:
    with pytest.raises(DecodeError):
        graph_of(*stream(content(**{"layer.weight": entry})))


def test_tensors_that_share_bytes_are_refused() -> None:
    with pytest.raises(DecodeError, match="share"):
        graph_of(*stream(content(other=_WEIGHT)))


def test_a_header_longer_than_the_limit_is_not_read() -> None:
    length = limits.JSON_BYTES + 1

    with pytest.raises(DecodeError, match="header"):
        graph_of(*stream(length.to_bytes(8, "little") + b" " * (length + 10)))


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b'"x"', b"\xff\xfe", b"[" * 100, b'{"__metadata__": {"a": 1}}']
)
def test_a_header_that_is_no_map_is_refused(header: bytes) -> None:
    with pytest.raises(DecodeError):
        graph_of(*stream(len(header).to_bytes(8, "little") + header))


def test_weights_without_a_graph_are_refused_with_the_next_step(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))

    with pytest.raises(ModelError, match="--weights"):
        read_graph(path)
    with pytest.raises(ModelError, match="cannot read"):
        read_graph(tmp_path / "missing")


@given(st.binary(max_size=300))
def test_any_bytes_give_the_one_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        graph_of(*stream(data))


def damaged(position: int, damage: bytes) -> bytes:
    data = content()
    return data[:position] + damage + data[position + len(damage) :]


@given(st.integers(0, len(content()) - 129), st.binary(min_size=1, max_size=6))
def test_a_damaged_header_is_read_or_gives_an_error_of_ours(position: int, damage: bytes) -> None:
    with suppress(EdgemeshError):
        graph_of(*stream(damaged(position, damage)))


@pytest.mark.parametrize("name", ["hand-made", "HAND-made"])
def test_a_header_that_damage_leaves_good_is_read(name: str) -> None:
    """Found by a reader: were everything refused, the test of damaged headers would pass."""
    found = graph_of(*stream(damaged(content().index(b"hand-made"), name.encode())))

    assert found == graph(name=name)


@given(st.text(max_size=60))
def test_any_graph_text_gives_the_one_error(text: str) -> None:
    with pytest.raises(DecodeError):
        graph_of(*stream(content(text)))
