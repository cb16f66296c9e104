"""The pinned face detectors on a photograph, its regions read off by eye."""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from edgemesh.errors import OperatorError, UnknownModelError
from edgemesh.model.outputs import results
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.manifest import Manifest, TensorSpec, Unit
from edgemesh.runtime.payloads import input_tensors
from edgemesh.zoo.catalogue import ZooEntry, zoo_entry, zoo_names
from edgemesh.zoo.wheels import wheel_member

CACHE = Path(os.environ.get("EDGEMESH_TEST_CACHE") or Path.home() / ".cache" / "edgemesh-tests")

# Grace Hopper, 512 x 600 pixels: left, top, right, bottom of the face from brim to chin; then single points.
FACE = np.array([168, 135, 366, 335]) / (512, 600, 512, 600)
POINTS = {
    "right eye": (222, 190), "left eye": (306, 190), "nose tip": (266, 238), "mouth centre": (266, 280),
    "right ear": (176, 218), "left ear": (358, 216),
}  # fmt: skip


class Detector:
    """One pinned model, whole, in one interpreter."""

    def __init__(self, name: str, tflite: object) -> None:
        entry = zoo_entry(name)
        try:
            content = wheel_member(entry.wheel, CACHE)
        except OperatorError as error:
            if "neither cached nor downloadable" not in str(error):
                raise
            pytest.skip(str(error))
        self.interpreter = tflite.Interpreter(model_content=content, num_threads=1)
        self.interpreter.allocate_tensors()
        self.outputs = self.interpreter.get_output_details()
        ends = [
            tuple(TensorSpec(d["name"], "float32", tuple(map(int, d["shape"]))) for d in details)
            for details in (self.interpreter.get_input_details(), self.outputs)
        ]
        unit = Unit("all", 1, 1, 1, 1)
        self.manifest = Manifest(
            name,
            "0" * 64,
            "tflite",
            1,
            (unit,),
            tuple(ends),
            1,
            ("0" * 64,),
            entry.image,
            None,
            entry.detections,
        )

    def faces(self, picture: PIL.Image.Image, **options: object) -> list[dict]:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=92, **options)
        given = input_tensors(self.manifest, out.getvalue(), "image/jpeg")
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], given.tensors[0])
        self.interpreter.invoke()
        arrays = [self.interpreter.get_tensor(detail["index"]) for detail in self.outputs]
        return results(self.manifest, arrays, given.placement)["detections"]


@pytest.fixture(scope="module", params=["face", "face-short"])
def detector(request: pytest.FixtureRequest) -> Detector:
    try:
        tflite = importlib.import_module("tflite_runtime.interpreter")
    except ImportError:  # its successor, for Python 3.12 on
        tflite = pytest.importorskip("ai_edge_litert.interpreter")
    return Detector(request.param, tflite)


@pytest.fixture(scope="module")
def photograph() -> PIL.Image.Image:
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return PIL.Image.open(path).convert("RGB")


def check_face(face: dict, shift: tuple[float, float] = (0, 0), scale: tuple[float, float] = (1, 1)) -> None:
    """The face and its landmarks are where they are by eye, the photograph having been scaled and shifted."""

    def seen(x: float, y: float) -> np.ndarray:
        return (np.array([x, y]) - shift) / scale

    low = seen(face["x"], face["y"])
    high = seen(face["x"] + face["width"], face["y"] + face["height"])
    shared = np.minimum(high, FACE[2:]) - np.maximum(low, FACE[:2])
    union = (high - low).prod() + (FACE[2:] - FACE[:2]).prod() - shared.prod()
    assert shared.prod() / union > 0.7
    for name, point in POINTS.items():
        # A tenth of the face's width; the ears are the detector's roughest points.
        within = 30 if "ear" in name else 20
        assert np.abs(seen(*face["landmarks"][name]) * (512, 600) - point).max() < within, name


def test_the_face_its_eyes_nose_mouth_and_ears_are_found(detector, photograph):
    (face,) = detector.faces(photograph)

    assert face["label"] == "face" and face["score"] > 0.7
    check_face(face)


def test_a_photograph_stored_on_its_side_gives_the_upright_face(detector, photograph):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise to stand upright

    (face,) = detector.faces(photograph.transpose(PIL.Image.Transpose.ROTATE_90), exif=exif)

    check_face(face)


def test_the_face_is_found_in_the_corner_of_a_wide_photograph(detector, photograph):
    wide = PIL.Image.new("RGB", (1200, 700), (90, 120, 90))
    wide.paste(photograph, (650, 60))

    (face,) = detector.faces(wide)

    check_face(face, (650 / 1200, 60 / 700), (512 / 1200, 600 / 700))


def test_two_faces_are_two_detections(detector, photograph):
    both = PIL.Image.new("RGB", (1024, 600))
    both.paste(photograph, (0, 0))
    both.paste(photograph, (512, 0))

    left, right = sorted(detector.faces(both), key=lambda face: face["x"])

    check_face(left, (0, 0), (0.5, 1))
    check_face(right, (0.5, 0), (0.5, 1))


def test_there_is_no_face_in_noise_or_sky(detector):
    noise = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)

    assert detector.faces(PIL.Image.fromarray(noise)) == []
    assert detector.faces(PIL.Image.new("RGB", (300, 200), (110, 160, 220))) == []


@pytest.mark.parametrize("name", zoo_names())
def test_each_catalogue_entry_survives_the_wire_and_bears_its_file_name(name):
    entry = zoo_entry(name)

    assert entry.name == name and from_plain(ZooEntry, to_plain(entry)) == entry


def test_an_unknown_entry_is_refused_with_those_there_are():
    with pytest.raises(UnknownModelError, match="it has: face, face-short"):
        zoo_entry("../face")
