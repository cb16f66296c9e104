"""``model check`` runs every cut; ``model show`` draws every unit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.cli.conftest import Commands
from tests.tflite_models import chain


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


def test_a_file_is_shown_without_a_broker(offline: Commands, small_model: Path, tmp_path: Path) -> None:
    png = tmp_path / "small.png"

    ran = offline("model", "show", small_model, "--png", png)

    assert ran.status == 0, ran.err
    assert ran.out.startswith("small-net (tflite): 6 units")
    assert len(ran.out.splitlines()) == 1 + 1 + 1 + 6 + 1
    assert png.read_bytes().startswith(b"\x89PNG")
    shown = json.loads(offline("model", "show", small_model, "--json").out)
    assert len(shown["manifest"]["units"]) == 6
