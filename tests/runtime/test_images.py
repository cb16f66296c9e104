from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.errors import InputError, MissingExtraError
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import ImageInput
from edgemesh.runtime import images
from edgemesh.runtime.images import image_tensor, upright_picture

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(picture: PIL.Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def painted(rows: list[list[tuple[int, int, int]]], **options: object) -> bytes:
    return encoded(PIL.Image.fromarray(np.array(rows, np.uint8)), **options)


def pixels(payload: bytes, **settings: object) -> list:
    tensor, _ = image_tensor(payload, ImageInput(**{"scale": (1.0,), **settings}), "uint8")
    return [[tuple(pixel) for pixel in row] for row in tensor[0].tolist()]


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_a_picture_of_the_inputs_size_arrives_unchanged():
    rows = [[RED, GREEN], [BLUE, (1, 2, 3)]]

    assert pixels(painted(rows), width=2, height=2) == rows


def test_letterbox_draws_black_bars_around_the_whole_picture():
    black = (0, 0, 0)

    drawn = pixels(painted([[RED, GREEN, BLUE, RED]] * 2), width=4, height=4, fit="letterbox")

    assert drawn == [[black] * 4, [RED, GREEN, BLUE, RED], [RED, GREEN, BLUE, RED], [black] * 4]


def test_crop_draws_the_centre():
    assert (
        pixels(painted([[RED, GREEN, BLUE, RED]] * 2), width=2, height=2, fit="crop") == [[GREEN, BLUE]] * 2
    )


def test_stretch_draws_the_whole_picture_whatever_its_shape():
    assert pixels(painted([[RED, GREEN]]), width=2, height=3) == [[RED, GREEN]] * 3


def test_gray_takes_the_luminance():
    tensor, _ = image_tensor(
        painted([[(255, 255, 255), RED]]), ImageInput(2, 1, channels="gray", scale=(1.0,)), "float32"
    )

    # ITU-R 601: red weighs 0.299.
    assert tensor.ravel().tolist() == [255.0, 76.0]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, [[RED, GREEN], [BLUE, BLUE]]),
        (2, [[GREEN, RED], [BLUE, BLUE]]),
        (3, [[BLUE, BLUE], [GREEN, RED]]),
        (4, [[BLUE, BLUE], [RED, GREEN]]),
        (5, [[RED, BLUE], [GREEN, BLUE]]),
        (6, [[BLUE, RED], [BLUE, GREEN]]),
        (7, [[BLUE, GREEN], [BLUE, RED]]),
        (8, [[GREEN, BLUE], [RED, BLUE]]),
    ],
)
def test_a_picture_is_turned_as_its_camera_was_held(orientation, upright):
    # EXIF 2.3, tag 0x0112: which edges of the picture the stored first row and column are.
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation

    assert pixels(painted([[RED, GREEN], [BLUE, BLUE]], exif=exif), width=2, height=2) == upright


def test_the_placement_is_that_of_the_upright_picture():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored_wide = painted([[RED] * 40] * 20, form="JPEG", exif=exif)

    _, placement = image_tensor(stored_wide, ImageInput(10, 10, fit="letterbox"), "float32")

    # Upright it is 20 wide and 40 high: five columns between bars of two and three.
    assert (placement.width, placement.height) == (2.0, 1.0)
    assert upright_picture(stored_wide).size == (20, 40)


def test_a_large_jpeg_read_at_reduced_scale_looks_like_the_whole_one():
    y, x = np.mgrid[0:1500, 0:2000]
    plain = PIL.Image.fromarray(np.stack([x / 8, y / 6, (x + y) / 14], axis=-1).astype(np.uint8))
    image = ImageInput(96, 96, fit="letterbox", scale=(1.0,))

    reduced, there = image_tensor(encoded(plain, "JPEG", quality=95), image, "float32")
    whole, here = image_tensor(encoded(plain, "BMP"), image, "float32")

    assert there == here and np.abs(reduced - whole).max() <= 4.0


def test_transparency_is_shown_on_white():
    clear = PIL.Image.new("RGBA", (1, 1), (0, 0, 0, 0))

    assert pixels(encoded(clear), width=1, height=1) == [[(255, 255, 255)]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_picture_is_drawn_on_white_a_band_at_a_time_as_if_at_once(mode, monkeypatch):
    """Found by a reader: 64 million transparent pixels took four copies of 256 MB."""
    colours = np.random.default_rng(0).integers(0, 255, (13, 10, 4), np.uint8)
    if mode == "P":
        payload = encoded(PIL.Image.fromarray(colours[:, :, :3]).convert("P"), transparency=7)
    else:
        payload = encoded(PIL.Image.fromarray(colours).convert(mode))
    at_once = upright_picture(payload)
    composite, sizes = PIL.Image.alpha_composite, []

    def recorded(below, above):
        sizes.append(above.size)
        return composite(below, above)

    monkeypatch.setattr(images, "BAND_PIXELS", 35)
    monkeypatch.setattr(PIL.Image, "alpha_composite", recorded)

    by_bands = upright_picture(payload)

    assert sizes == [(10, 3)] * 4 + [(10, 1)]
    assert by_bands.mode == "RGB" and by_bands.tobytes() == at_once.tobytes()


def test_sixteen_bits_per_pixel_are_scaled_and_not_clipped():
    deep = PIL.Image.fromarray(np.array([[0, 0x8000, 0xFFFF]], np.uint16))

    assert pixels(encoded(deep), width=3, height=1) == [[(0,) * 3, (128,) * 3, (255,) * 3]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_all_formats_are_read(form):
    drawn = pixels(painted([[RED] * 16] * 16, form=form), width=1, height=1)

    assert np.abs(np.array(drawn[0][0]) - RED).max() < 8


def test_a_decompression_bomb_is_refused_by_its_header():
    for width, height in ((60_000, 60_000), (limits.IMAGE_PIXELS + 1, 1)):
        with pytest.raises(InputError, match=r"pixels|picture"):
            image_tensor(png_header(width, height), ImageInput(8, 8), "float32")


def test_a_png_of_too_many_pixels_is_refused_undecoded():
    """Found by a reader: a PNG was decoded whole (700 MB) to find its turn before its size was looked at."""
    # Its pixels begin and then it ends: whoever decodes it finds it damaged.
    payload = png_header(13_300, 13_400) + bytes(4) + b"IDAT"

    with pytest.raises(InputError, match="13300 x 13400 pixels, more than"):
        image_tensor(payload, ImageInput(8, 8), "float32")


def test_a_picture_of_too_many_bytes_is_refused_unread():
    with pytest.raises(InputError, match="send it smaller"):
        image_tensor(b"\xff\xd8\xff" + bytes(limits.IMAGE_BYTES), ImageInput(8, 8), "float32")


def test_an_extremely_thin_picture_costs_no_more_than_the_input():
    # Scaling it before cropping would make 32 million columns of 224.
    thin = encoded(PIL.Image.new("L", (60_000, 1), 7))

    for fit in ("crop", "letterbox", "stretch"):
        tensor, _ = image_tensor(thin, ImageInput(224, 224, fit=fit), "float32")
        assert tensor.shape == (1, 224, 224, 3)


def test_a_truncated_picture_is_refused():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for form in ("JPEG", "PNG", "WEBP"):
        payload = encoded(PIL.Image.fromarray(noise), form)

        with pytest.raises(InputError, match="picture"):
            image_tensor(payload[: len(payload) // 2], ImageInput(8, 8), "float32")


def test_formats_that_start_other_programs_stay_closed():
    with pytest.raises(InputError, match="unknown format"):
        image_tensor(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", ImageInput(8, 8), "float32")


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]), st.data())
def test_a_damaged_picture_is_a_tensor_or_an_input_error(form, data):
    payload = bytearray(painted([[RED, GREEN, BLUE]] * 3, form=form))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))

    try:
        tensor, _ = image_tensor(bytes(payload), ImageInput(4, 4, fit="crop"), "float32")
    except InputError as error:
        assert str(error)
    else:
        assert tensor.shape == (1, 4, 4, 3) and np.isfinite(tensor).all()


def test_without_pillow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(MissingExtraError, match=r"edgemesh\[image\]"):
        image_tensor(b"", ImageInput(8, 8), "float32")
