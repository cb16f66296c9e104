"""Results drawn on the photograph they belong to."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from edgemesh.observe.lettering import (
    ACCENT,
    FAINT,
    INK,
    PAPER,
    RULE,
    Colour,
    column_widths,
    draw_table,
    font,
    legible,
    shortened,
    text_width,
    wrapped,
)
from edgemesh.runtime.images import require_pillow, upright_picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SMALLEST: Final = 720
"""Longer side in pixels below which a picture is enlarged: letters on it must be readable."""
LARGEST: Final = 1600
"""And above which it is reduced: PNG of a 12-megapixel photograph takes 20 MB and seconds."""

_MARK: Final[Colour] = (255, 214, 10)
_BOX: Final[tuple[Colour, ...]] = (
    (64, 220, 120),
    (255, 150, 60),
    (90, 190, 255),
    (255, 120, 190),
    (230, 230, 90),
)
_Area = tuple[float, float, float, float]


def annotate(picture: bytes | Image, result: Mapping[str, Any], caption: Sequence[str] = ()) -> bytes:
    """PNG of the picture with the detections and classes of ``result``, which ``model.outputs.results`` made.

    ``caption`` is set below it, each line wrapped. Raises InputError when the bytes are no picture,
    MissingExtraError without Pillow.
    """
    require_pillow()
    from PIL import ImageDraw

    canvas = _sized(upright_picture(picture) if isinstance(picture, bytes) else picture.convert("RGB"))
    draw = ImageDraw.Draw(canvas)
    size = _letter(canvas)
    _draw_detections(draw, canvas.size, result.get("detections", ()), size)
    _draw_classes(canvas, result.get("classes", ()), size)
    return _png(_captioned(canvas, caption, size) if caption else canvas)


def side_by_side(
    picture: bytes | Image, title: str, rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> bytes:
    """PNG of a picture (most often from ``annotate``) with a table at its right.

    The first of ``rows`` is the heading; a row of one cell runs across; columns of numbers are set flush
    right. ``notes`` follow below, wrapped. Raises as ``annotate``.
    """
    require_pillow()
    import PIL.Image
    from PIL import ImageDraw

    shown = _sized(upright_picture(picture) if isinstance(picture, bytes) else picture.convert("RGB"))
    size = max(round(min(_letter(shown), shown.height / 26)), 15)
    gap, margin = round(size * 1.3), round(size * 1.6)
    widths = column_widths(rows, size)
    across = [text_width(legible(row[0]), size) for row in rows if len(row) == 1]
    wanted = max([sum(widths) + gap * max(len(widths) - 1, 0), round(22 * size), *across])
    heading = wrapped(title, round(size * 1.4), wanted)
    lines = [line for note in notes for line in wrapped(note, size, wanted)]
    needed = round(size * (2.0 * len(heading) + 1.6 * len(rows) + 1.45 * len(lines) + 1.3)) + 2 * margin
    canvas = PIL.Image.new("RGB", (shown.width + wanted + 2 * margin, max(shown.height, needed)), PAPER)
    canvas.paste(shown, (0, (canvas.height - shown.height) // 2))
    draw = ImageDraw.Draw(canvas)
    x, y = shown.width + margin, margin
    for line in heading:
        draw.text((x, y), line, ACCENT, font(round(size * 1.4)))
        y += round(size * 2.0)
    y += round(size * 0.6)
    y += draw_table(draw, (x, y), rows, size, gap)[1] + round(size * 0.7)
    for line in lines:
        draw.text((x, y), line, FAINT, font(size))
        y += round(size * 1.45)
    return _png(canvas)


def _sized(picture: Image) -> Image:
    from PIL.Image import Resampling

    longer = max(picture.size)
    factor = max(SMALLEST / longer, 1.0) if longer < SMALLEST else min(LARGEST / longer, 1.0)
    if factor == 1.0:
        return picture.copy()
    size = (max(round(picture.width * factor), 1), max(round(picture.height * factor), 1))
    return picture.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def _letter(picture: Image) -> int:
    longer: int = max(picture.size)
    return max(round(longer / 42), 15)


def _draw_detections(
    draw: ImageDraw, extent: tuple[int, int], found: Sequence[Mapping[str, Any]], size: int
) -> None:
    width, height = extent
    line = max(size // 5, 2)
    colours: dict[str, Colour] = {}
    areas: list[tuple[_Area, str, Colour]] = []
    for item in found:
        colour = colours.setdefault(item["label"], _BOX[len(colours) % len(_BOX)])
        left, top = item["x"] * width, item["y"] * height
        right, bottom = left + item["width"] * width, top + item["height"] * height
        # A dark rim keeps the box visible on a background of its own colour.
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), None, INK, line + 2)
        draw.rectangle((left, top, right, bottom), None, colour, line)
        for x, y in item.get("landmarks", {}).values():
            _dot(draw, x * width, y * height, max(item["width"] * width / 45, 2.5))
        areas.append(((left, top, right, bottom), f"{item['label']} {item['score']:.0%}", colour))
    taken: list[_Area] = []
    for area, text, colour in areas:  # after all boxes, so that no box crosses a tag
        _draw_tag(draw, extent, area, legible(text), colour, size, taken)


def _dot(draw: ImageDraw, x: float, y: float, radius: float) -> None:
    draw.ellipse((x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1), INK)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), _MARK)


def _draw_tag(
    draw: ImageDraw,
    extent: tuple[int, int],
    area: _Area,
    text: str,
    colour: Colour,
    size: int,
    taken: list[_Area],
) -> None:
    """Draw the tag above its box, else below, else inside it; in a crowd without room it is left out."""
    left, top, right, bottom = area
    size = max(min(size, round((right - left) / 9)), 14)  # a tag must not hide a small object
    wide, high = text_width(text, size) + size * 0.7, size * 1.35
    x = min(max(left - 1, 0.0), max(extent[0] - wide, 0.0))
    for y in (top - high, bottom, top):
        place = (x, y, x + wide, y + high)
        if y < 0 or y + high > extent[1] or any(_meet(place, other) for other in taken):
            continue
        draw.rectangle(place, colour)
        draw.text((x + size * 0.35, y + high / 2), text, INK, font(size), anchor="lm")
        taken.append(place)
        return


def _meet(a: _Area, b: _Area) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw_classes(canvas: Image, found: Sequence[Mapping[str, Any]], size: int) -> None:
    """Draw the classes as rows of label, bar and score on a dark panel in the left lower corner."""
    if not found:
        return
    import PIL.Image
    from PIL import ImageDraw

    pitch, pad = round(size * 1.5), round(size * 0.7)
    room = max((canvas.height - 2 * pad) // pitch, 1)
    shown = list(found)[: min(len(found), room)]
    scores = [f"{item['score']:.3g}" for item in shown]
    score_width = max(text_width(score, size) for score in scores)
    bar = round(size * 5)
    label_width = min(
        max(text_width(legible(item["label"]), size) for item in shown),
        max(canvas.width - bar - score_width - 6 * pad, size * 4),
    )
    wide, high = label_width + bar + score_width + 4 * pad, pitch * len(shown) + pad
    panel = PIL.Image.new("RGB", (wide, high), INK)
    draw = ImageDraw.Draw(panel)
    top = max(1.0, *(item["score"] for item in shown))  # probabilities keep their scale, logits fill the bar
    for row, item in enumerate(shown):
        y = pad // 2 + row * pitch + pitch // 2
        label = shortened(legible(item["label"]), size, label_width)
        draw.text((pad, y), label, PAPER, font(size), anchor="lm")
        x = label_width + 2 * pad
        length = round(bar * max(item["score"], 0.0) / top)
        draw.rectangle((x, y - size * 0.35, x + max(length, 1), y + size * 0.35), _BOX[0])
        draw.text((wide - pad, y), scores[row], PAPER, font(size), anchor="rm")
    corner = (pad, max(canvas.height - high - pad, 0))
    behind = canvas.crop((*corner, corner[0] + wide, corner[1] + high))
    canvas.paste(PIL.Image.blend(behind, panel, 0.82), corner)


def _captioned(canvas: Image, caption: Sequence[str], size: int) -> Image:
    import PIL.Image
    from PIL import ImageDraw

    margin, pitch = size, round(size * 1.45)
    lines = [line for text in caption for line in wrapped(text, size, canvas.width - 2 * margin)]
    whole = PIL.Image.new("RGB", (canvas.width, canvas.height + pitch * len(lines) + 2 * margin), PAPER)
    whole.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(whole)
    draw.line((0, canvas.height, canvas.width, canvas.height), RULE, 2)
    for row, line in enumerate(lines):
        draw.text(
            (margin, canvas.height + margin + row * pitch), line, INK if row == 0 else FAINT, font(size)
        )
    return whole


def _png(canvas: Image) -> bytes:
    out = io.BytesIO()
    canvas.save(out, "PNG", compress_level=4)
    return out.getvalue()
