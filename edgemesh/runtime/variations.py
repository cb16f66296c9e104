"""Variations of a photograph: what a camera might have seen instead, for measuring on more than one input."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np

from edgemesh.runtime.images import upright_picture

if TYPE_CHECKING:
    from PIL.Image import Image

_SEED: Final = 1
_CROPS: Final = 3
_LEAST_CROP: Final = 0.7
"""Smallest side of a crop, as a share of the photograph's: what is on it mostly stays on it."""
_BRIGHTNESS: Final = (0.5, 0.75, 1.4)


def varied_photographs(payload: bytes) -> list[bytes]:
    """Pictures (PNG): the photograph, mirrored, crops at random places, darker and brighter ones.

    The same for the same photograph at any time. Raises InputError, MissingExtraError.
    """
    photograph = upright_picture(payload)
    import PIL.ImageEnhance
    import PIL.ImageOps

    generator = np.random.default_rng(_SEED)
    pictures = [photograph, PIL.ImageOps.mirror(photograph)]
    pictures += [_cropped(photograph, generator) for _ in range(_CROPS)]
    pictures += [PIL.ImageEnhance.Brightness(photograph).enhance(share) for share in _BRIGHTNESS]
    return [_png(picture) for picture in pictures]


def _cropped(picture: Image, generator: np.random.Generator) -> Image:
    share = generator.uniform(_LEAST_CROP, 1.0)
    width, height = max(round(picture.width * share), 1), max(round(picture.height * share), 1)
    left = int(generator.integers(0, picture.width - width, endpoint=True))
    top = int(generator.integers(0, picture.height - height, endpoint=True))
    return picture.crop((left, top, left + width, top + height))


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
