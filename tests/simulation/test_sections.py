"""Stand-ins count as what they stand for, wherever they travel."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.protocol.activation import Activation, Hop, encode_activation
from edgemesh.simulation.sections import modelled_bytes, section_bytes, stand_in
from edgemesh.simulation.unit_tables import MODELS, unit_table


@given(st.integers(0, 1 << 40))
def test_a_stand_in_keeps_its_size_inside_an_activation(nbytes: int) -> None:
    header = Activation("j", "pi", "m", "0" * 64, 0, (Hop("pi", 1),), 0, 1.0, "pi")
    empty = encode_activation(header, (b"",))

    payload = encode_activation(header, (stand_in(nbytes),))

    assert modelled_bytes(payload) == len(empty) + nbytes and len(payload) == len(empty) + 16


@given(st.binary(max_size=64))
def test_any_other_payload_counts_as_it_is_long(payload: bytes) -> None:
    assert modelled_bytes(payload) == len(payload)


def test_lossy_codecs_shorten_floats_as_the_codecs_do() -> None:
    boundary = unit_table("vgg16").boundaries[3]
    raw, half, quarter = (section_bytes(boundary, codec) for codec in ("raw", "f16", "q8"))

    assert raw > 100_000 and abs(half / raw - 0.5) < 0.01 and abs(quarter / raw - 0.25) < 0.01


def test_unit_tables_have_the_published_sizes() -> None:
    """Multiply-accumulates and parameters of the papers: 0.7, 0.3, 15.5 G; 61, 3.5, 138 M."""
    for model, macs, parameters in zip(MODELS, (0.714e9, 0.301e9, 15.47e9), (61.1e6, 3.5e6, 138.4e6)):
        units = unit_table(model).units
        assert abs(sum(unit.macs for unit in units) / macs - 1.0) < 0.02, model
        assert abs(sum(unit.weight_bytes for unit in units) / 4 / parameters - 1.0) < 0.02, model
