"""Variations of a photograph are pictures, each another, and the same every time."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from edgemesh.errors import InputError
from edgemesh.runtime.variations import varied_photographs


def photograph() -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_photograph_becomes_itself_and_different_others_of_its_kind() -> None:
    original = photograph()

    pictures = [PIL.Image.open(io.BytesIO(made)) for made in varied_photographs(original)]

    assert np.array_equal(np.asarray(pictures[0]), np.asarray(PIL.Image.open(io.BytesIO(original))))
    assert len({picture.tobytes() for picture in pictures}) == len(pictures) >= 6
    assert all(picture.mode == "RGB" for picture in pictures)
    assert all(picture.width >= 0.7 * 60 - 1 and picture.height >= 0.7 * 40 - 1 for picture in pictures)


def test_the_variations_are_the_same_every_time() -> None:
    assert varied_photographs(photograph()) == varied_photographs(photograph())


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="picture"):
        varied_photographs(b"no picture")
