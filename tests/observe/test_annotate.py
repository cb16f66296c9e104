from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from edgemesh.errors import InputError
from edgemesh.observe.annotate import LARGEST, SMALLEST, annotate, side_by_side
from edgemesh.observe.lettering import legible, numeric_columns, text_width, wrapped

GREY, BOX, DOT = (90, 90, 90), (64, 220, 120), (255, 214, 10)


def grey(width: int, height: int) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (width, height), GREY)


def drawn(png: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(png)))


def face(x: float, y: float, width: float, height: float, **landmarks: list[float]) -> dict:
    box = {"x": x, "y": y, "width": width, "height": height}
    return {"label": "face", "score": 0.8, **box, "landmarks": landmarks}


def extent(pixels: np.ndarray, colour: tuple[int, int, int]) -> list[float]:
    """Left, top, right, bottom of the pixels of one colour, in fractions of the picture."""
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    height, width = pixels.shape[:2]
    return [
        columns.min() / width,
        rows.min() / height,
        (columns.max() + 1) / width,
        (rows.max() + 1) / height,
    ]


@pytest.mark.parametrize("size", [(40, 30), (800, 600), (4000, 3000)])
def test_the_box_is_drawn_where_the_object_is_at_any_size(size):
    # Its upper edge at the picture's, so that the tag has to go below.
    pixels = drawn(annotate(grey(*size), {"detections": [face(0.25, 0.0, 0.5, 0.5)]}))

    left, top, right, bottom = extent(pixels, BOX)
    assert (left, top, right) == pytest.approx((0.25, 0.0, 0.75), abs=0.005)
    assert 0.5 < bottom < 0.6


def test_a_landmark_is_a_dot_at_its_place():
    pixels = drawn(annotate(grey(800, 800), {"detections": [face(0.2, 0.2, 0.6, 0.6, nose=[0.5, 0.6])]}))

    left, top, right, bottom = extent(pixels, DOT)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((0.5, 0.6), abs=0.003)


def test_small_pictures_are_enlarged_and_large_ones_reduced():
    assert max(drawn(annotate(grey(30, 10), {})).shape) == SMALLEST
    assert max(drawn(annotate(grey(5000, 10), {})).shape) == LARGEST
    assert drawn(annotate(grey(1000, 900), {})).shape == (900, 1000, 3)


def test_a_picture_with_nothing_found_stays_as_it_is():
    assert (drawn(annotate(grey(800, 600), {"detections": [], "classes": []})) == GREY).all()


def test_classes_are_a_panel_in_the_lower_left_with_the_longest_bar_first():
    classes = [{"index": i, "label": f"class {i}", "score": s} for i, s in enumerate((0.8, 0.4))]

    changed = (drawn(annotate(grey(800, 600), {"classes": classes})) != GREY).any(axis=-1)

    rows, columns = np.nonzero(changed)
    assert columns.max() < 400 and rows.min() > 400


def test_classes_with_negative_scores_and_long_labels_fit_the_picture():
    classes = [{"index": i, "label": "a very long label " * 20, "score": -3.5 - i} for i in range(100)]

    pixels = drawn(annotate(grey(100, 60), {"classes": classes}))

    assert pixels.shape == (432, 720, 3)


def test_a_caption_adds_lines_below_and_leaves_the_picture_alone():
    pixels = drawn(annotate(grey(800, 600), {}, ["one line", "and another that is long enough to wrap " * 4]))

    assert pixels.shape[0] > 650 and (pixels[:600] == GREY).all()


def test_a_crowd_gets_tags_that_do_not_cover_each_other():
    crowd = [face(0.3 + 0.001 * i, 0.3, 0.3, 0.3) for i in range(12)]

    pixels = drawn(annotate(grey(800, 800), {"detections": crowd}))

    # Above, below and inside: three tags of one letter's height each, and no more.
    assert extent(pixels, BOX)[3] < 0.66


def test_text_named_jpg_cannot_be_annotated():
    with pytest.raises(InputError, match="not a readable picture"):
        annotate(b"hello", {})


def test_the_table_stands_at_the_right_of_the_picture():
    rows = [["device", "units", "time"], ["pi-zero-2w", "0-4", "18.2 ms"], ["total 18.2 ms"]]

    pixels = drawn(side_by_side(grey(800, 600), "model face", rows, ["emulated boards"]))

    assert pixels.shape[0] == 600 and pixels.shape[1] > 1100
    assert (pixels[:, :800] == GREY).all() and (pixels[:, 820:].min(axis=-1) < 60).sum() > 200


def test_a_long_table_makes_the_picture_taller_and_nothing_is_lost():
    rows = [["unit", "time"]] + [[str(i), "1 ms"] for i in range(60)]

    pixels = drawn(side_by_side(grey(800, 300), "t", rows))

    dark = np.nonzero((pixels[:, 810:] < 60).all(axis=-1))[0]
    assert pixels.shape[0] > 1000 and dark.max() < pixels.shape[0] - 10


def test_numbers_are_set_flush_right_and_names_are_not():
    rows = [
        ["device", "units", "time", "sends"],
        ["pi-4b", "0-4", "1.5 ms", "-"],
        ["desk", "4-9", "0.2 s", "3 KB"],
    ]

    assert numeric_columns(rows) == {2, 3}


def test_text_is_spelled_in_the_letters_of_the_font():
    assert legible("Größe → 5 µs, naïve 猫") == "Grosse -> 5 us, naive ?"


def test_wrapped_lines_are_never_wider_than_the_room():
    lines = wrapped("short words and one-" + "x" * 300, 16, 200)

    assert len(lines) >= 2 and all(text_width(line, 16) <= 200 for line in lines)
