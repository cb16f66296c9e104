"""A codec carries a cut only where its measured error is within the budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import DecodeError
from edgemesh.model.codec_accuracy import allowed_codecs, lossy_codecs, route_error
from edgemesh.protocol.accuracy import AccuracyBudget, CodecErrors
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest, TensorSpec, Unit

CUTS = 5
CODEC_NAMES = ("raw", "raw+zstd", "f16", "q8", "q8+zstd")


def figures(
    codec: str, error: list[float | None], agreement: list[float | None] | None = None
) -> CodecErrors:
    return CodecErrors(codec, tuple(error), tuple(error), tuple(agreement or [None] * len(error)), samples=8)


def model(*measured: CodecErrors, cuts: int = CUTS) -> Manifest:
    units = tuple(Unit(f"u{i}", 1, 0, 0, 0) for i in range(cuts - 1))
    boundaries = tuple((TensorSpec(f"t{i}", "float32", (4,)),) for i in range(cuts))
    return Manifest(
        "net", "0" * 64, "tflite", 1, units, boundaries, 1, ("0" * 64,), codec_errors=tuple(measured)
    )


def test_an_unmeasured_lossy_codec_is_not_used() -> None:
    allowed = allowed_codecs(model(), CODEC_NAMES, AccuracyBudget(max_error=math.inf, min_agreement=0.0))

    assert allowed[:, 0].all()
    assert allowed[:, 1].tolist() == [False, True, True, True, False]
    assert not allowed[:, 2:].any()


def test_a_measured_codec_is_used_where_error_and_agreement_are_within_the_budget() -> None:
    f16 = figures("f16", [None, 0.0, 0.001, 0.0101, None])
    q8 = figures("q8", [None, 0.01, 0.001, None, None], [None, 1.0, 0.875, None, None])

    allowed = allowed_codecs(model(f16, q8), CODEC_NAMES, AccuracyBudget())

    assert allowed[:, 2].tolist() == [False, True, True, False, False]
    assert allowed[:, 3].tolist() == [False, True, False, False, False]
    assert allowed[:, 4].tolist() == allowed[:, 3].tolist()
    relaxed = allowed_codecs(model(f16, q8), CODEC_NAMES, AccuracyBudget(0.02, 0.5))
    assert relaxed[:, 2].tolist() == [False, True, True, True, False]
    assert relaxed[:, 3].tolist() == [False, True, True, False, False]


def test_input_and_output_travel_raw_whatever_was_measured() -> None:
    allowed = allowed_codecs(model(figures("q8", [0.0] * CUTS)), CODEC_NAMES, AccuracyBudget(1.0, 0.0))

    assert allowed[[0, -1]].tolist() == [[True, False, False, False, False]] * 2


def test_names_that_this_version_does_not_know_are_ignored() -> None:
    found = decode_json(Manifest, encode_json(model(figures("q4", [0.0] * CUTS))))

    assert not allowed_codecs(found, ("raw", "q4"), AccuracyBudget(1.0, 0.0))[:, 1].any()
    assert route_error(found, [(1, "nonsense")]) == math.inf


@given(
    st.lists(st.none() | st.floats(0.0, 0.1), min_size=CUTS, max_size=CUTS),
    st.floats(0.0, 0.1),
    st.integers(1, 4),
    st.data(),
)
def test_crossings_that_share_a_budget_stay_within_it_together(
    error: list[float | None], budget: float, crossings: int, data: st.DataObject
) -> None:
    net = model(figures("f16", error))
    allowed = allowed_codecs(net, ("raw", "f16"), AccuracyBudget(budget), lossy_crossings=crossings)
    usable = [int(cut) for cut in np.flatnonzero(allowed[:, 1])]

    used = data.draw(st.lists(st.sampled_from(usable), max_size=crossings)) if usable else []

    assert route_error(net, [(cut, "f16") for cut in used]) <= budget * (1 + 1e-12)
    assert route_error(net, [(2, "raw"), (3, "raw+zstd")]) == 0.0


def test_every_lossy_codec_of_the_table_is_measured_once() -> None:
    assert set(lossy_codecs()) == {
        name.removesuffix("+zstd") for name, codec in CODECS.items() if not codec.lossless
    }


@pytest.mark.parametrize(
    "measured, said",
    [
        ((figures("q8", [0.0]),), "1 cuts, not 5"),
        ((figures("q8", [0.0] * CUTS), figures("q8", [0.0] * CUTS)), "twice"),
        (tuple(figures(f"c{i}", [0.0] * CUTS) for i in range(17)), "17 codecs"),
    ],
)
def test_figures_that_do_not_fit_the_model_are_refused(measured: tuple[CodecErrors, ...], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        model(*measured)


def test_figures_of_one_codec_must_be_of_the_same_cuts() -> None:
    with pytest.raises(DecodeError, match="cuts"):
        CodecErrors("q8", (0.0,), (0.0, 0.0), (None,), 1)


def test_a_manifest_from_before_there_were_figures_is_read() -> None:
    payload = encode_json(model()).replace(b',"codec_errors":[]', b"")

    assert b"codec_errors" not in payload
    assert decode_json(Manifest, payload).codec_errors == ()
