"""Lines over time as a picture: one panel for each subject, one line for each way it was done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgemesh.observe.lettering import FAINT, INK, PAPER, RULE, SERIES, font, legible, shortened, text_width
from edgemesh.runtime.images import require_pillow

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIZE: Final = 20
_TITLE: Final = 28
_LEFT, _RIGHT, _TOP, _PANEL, _GAP, _PLOT = 130, 40, 96, 240, 110, 1200


@dataclass(frozen=True)
class Line:
    """One line: values at equal distances over the whole time, NaN where there is none."""

    label: str
    values: Sequence[float]
    marks: Sequence[float] = ()
    """Shares of the time, 0 to 1, at which something happened."""


@dataclass(frozen=True)
class Panel:
    """Lines on one logarithmic or linear axis from 0."""

    title: str
    lines: Sequence[Line]


def timeline_png(
    title: str, panels: Sequence[Panel], duration: float, text: Callable[[float], str], path: Path
) -> None:
    """Write a PNG to ``path``; ``duration`` in seconds labels the time, ``text`` writes values.

    Raises MissingExtraError without Pillow, OSError when it cannot write.
    """
    require_pillow()
    import PIL.Image
    from PIL import ImageDraw

    extent = (_LEFT + _PLOT + _RIGHT, _TOP + len(panels) * (_PANEL + _GAP))
    canvas = PIL.Image.new("RGB", extent, PAPER)
    draw = ImageDraw.Draw(canvas)
    heading = shortened(legible(title), _TITLE, _PLOT + _LEFT - 20)
    draw.text((40, 20), heading, INK, font(_TITLE))
    for number, panel in enumerate(panels):
        _draw(draw, panel, _TOP + number * (_PANEL + _GAP) + 30, duration, text)
    canvas.save(path, "PNG")


def _draw(draw: ImageDraw, panel: Panel, top: int, duration: float, text: Callable[[float], str]) -> None:
    bottom = top + _PANEL
    known = [value for line in panel.lines for value in line.values if math.isfinite(value)]
    high = 1.1 * max(known, default=1.0) or 1.0
    draw.text((_LEFT, top - 34), legible(panel.title), INK, font(_SIZE))
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _PANEL
        draw.line((_LEFT, y, _LEFT + _PLOT, y), RULE, 1)
        draw.text((_LEFT - 12, y), legible(text(share * high)), FAINT, font(_SIZE - 2), anchor="rm")
    for quarter in range(5):
        x = _LEFT + _PLOT * quarter / 4
        draw.text((x, bottom + 8), f"{duration * quarter / 240:.0f} min", FAINT, font(_SIZE - 2), anchor="ma")
    x = _LEFT + text_width(legible(panel.title), _SIZE) + 50
    for line, colour in zip(panel.lines, SERIES):
        draw.line((x, top - 22, x + 30, top - 22), colour, 4)
        draw.text((x + 38, top - 34), legible(line.label), INK, font(_SIZE))
        x += text_width(legible(line.label), _SIZE) + 80
        _draw_line(draw, line, colour, bottom, high)


def _draw_line(draw: ImageDraw, line: Line, colour: tuple[int, int, int], bottom: int, high: float) -> None:
    stretch: list[tuple[float, float]] = []
    for index, value in enumerate((*line.values, math.nan)):
        if math.isfinite(value):
            x = _LEFT + _PLOT * (index + 0.5) / len(line.values)
            stretch.append((x, bottom - _PANEL * value / high))
            continue
        if len(stretch) > 1:
            draw.line(stretch, colour, 3, joint="curve")
        elif stretch:
            (x, y) = stretch[0]
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour)
        stretch = []
    for share in line.marks:
        x = _LEFT + _PLOT * share
        draw.polygon(((x, bottom - 10), (x - 6, bottom), (x + 6, bottom)), colour)
