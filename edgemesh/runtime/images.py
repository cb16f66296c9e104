"""Pictures as pixels (Pillow): hostile bytes decoded within limits, upright, fitted to a model's input."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgemesh.errors import InputError, missing_extra
from edgemesh.model.inputs import Fit, Placement, fitted, pixel_tensor
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import ImageInput

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Pillow's other readers stay closed to received bytes: some start programs (EPS) or are little tested."""

BAND_PIXELS: Final = 1 << 20
"""Of a picture with transparency, how much of it is drawn on white at a time."""

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to the ``PIL.Image.Transpose`` that undoes it."""


def image_tensor(payload: bytes, image: ImageInput, dtype: str) -> tuple[np.ndarray[Any, Any], Placement]:
    """The model's input made from an encoded picture, and where it lies on the upright picture.

    Raises InputError when the bytes are no picture or exceed the limits, MissingExtraError without Pillow.
    """
    picture, size = _opened(payload)
    fit = fitted(image, *size)
    picture = _decoded(picture, wanted=fit)
    pixels = np.asarray(_drawn(picture, image, fit, size))
    return pixel_tensor(pixels, image, dtype), fit.placement


def upright_picture(payload: bytes) -> Image:
    """The whole picture in RGB, turned as its camera was held; raises as ``image_tensor``."""
    picture, _ = _opened(payload)
    return _decoded(picture, wanted=None)


def require_pillow() -> None:
    """Raise MissingExtraError where Pillow is not installed; its users import it after this."""
    if importlib.util.find_spec("PIL") is None:
        raise missing_extra("Pillow", "image")


def _opened(payload: bytes) -> tuple[Image, tuple[int, int]]:
    """``(picture, its upright width and height)``; of one that is too large only the header is read."""
    require_pillow()
    import PIL.Image

    if len(payload) > limits.IMAGE_BYTES:
        raise InputError(
            f"the picture has {len(payload)} bytes, more than {limits.IMAGE_BYTES}: send it smaller"
        )
    try:
        picture = PIL.Image.open(io.BytesIO(payload), formats=FORMATS)
        width, height = picture.size
        # To look for the turn of a PNG is to decode it: what follows its pixels may say it.
        if width * height <= limits.IMAGE_PIXELS and _turn(picture) in (2, 4, 5, 6):
            width, height = height, width
    # The decoders are fed hostile bytes and raise whatever broke in them, so everything is caught here.
    except Exception as error:
        raise InputError(f"the input is not a readable picture: {_reason(error)}") from None
    if width * height > limits.IMAGE_PIXELS:
        raise InputError(
            f"the picture has {width} x {height} pixels, more than {limits.IMAGE_PIXELS}: send it smaller"
        )
    return picture, (width, height)


def _decoded(picture: Image, wanted: Fit | None) -> Image:
    """Pixels in RGB, upright; possibly smaller by a power of two where ``wanted`` needs no more."""
    try:
        turn = _turn(picture)
        if wanted is not None:
            # JPEG decodes to 1/2, 1/4 or 1/8 by itself, which saves most of the time and memory of a large
            # photograph; asking for twice the size that is needed leaves the quality to the resizer.
            left, top, right, bottom = wanted.source
            share = 2.0 * max(wanted.size[0] / (right - left), wanted.size[1] / (bottom - top))
            picture.draft(None, tuple(max(round(side * share), 1) for side in picture.size))
        picture.load()
        plain = _rgb(picture)
        return plain if turn is None else plain.transpose(turn)
    except Exception as error:  # as in _opened
        raise InputError(f"the picture is damaged: {_reason(error)}") from None


def _turn(picture: Image) -> int | None:
    return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))


def _rgb(picture: Image) -> Image:
    import PIL.Image

    if picture.mode.startswith("I"):  # 16 bit per pixel: Pillow's own conversion clips instead of scaling
        return PIL.Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in picture.mode or "transparency" in picture.info:
        return _on_white(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _on_white(picture: Image) -> Image:
    """In RGB as viewers show it: the colour under transparent pixels is arbitrary."""
    import PIL.Image

    plain = PIL.Image.new("RGB", picture.size)
    # Band by band: each step makes a copy, and a picture has up to 256 MB in each of them.
    rows = max(BAND_PIXELS // picture.width, 1)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height))).convert("RGBA")
        white = PIL.Image.new("RGBA", band.size, "white")
        plain.paste(PIL.Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return plain


def _drawn(picture: Image, image: ImageInput, fit: Fit, size: tuple[int, int]) -> Image:
    import PIL.Image

    # The decoder may have made the picture smaller than its header says.
    x, y = picture.width / size[0], picture.height / size[1]
    left, top, right, bottom = fit.source
    box = (left * x, top * y, min(right * x, picture.width), min(bottom * y, picture.height))
    if image.channels == "gray":
        picture = picture.convert("L")
    drawn = picture.resize(fit.size, PIL.Image.Resampling.BILINEAR, box, reducing_gap=3.0)
    if fit.size == (image.width, image.height):
        return drawn
    canvas = PIL.Image.new(drawn.mode, (image.width, image.height))
    canvas.paste(drawn, fit.offset)
    return canvas


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    # Pillow's text for unknown bytes names a BytesIO object.
    return "unknown format" if "cannot identify" in text else (text[:120] or type(error).__name__)
