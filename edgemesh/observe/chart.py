"""Units of a model drawn as a picture: time or arithmetic per unit, bytes at each cut, weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgemesh.observe.amounts import bytes_text, count_text, seconds_text
from edgemesh.observe.lettering import (
    FAINT,
    INK,
    PAPER,
    RULE,
    SERIES,
    Colour,
    font,
    legible,
    shortened,
    text_width,
)
from edgemesh.protocol.manifest import Manifest, boundary_bytes
from edgemesh.runtime.images import require_pillow

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIZE: Final = 20
_TITLE: Final = 30
_LEFT, _RIGHT, _TOP, _PANEL, _GAP, _NAMES = 130, 40, 120, 250, 84, 190
_SAVES: Final[Colour] = (0, 158, 115)
_COSTS: Final[Colour] = (176, 182, 190)


@dataclass(frozen=True)
class _Axis:
    """Values to the height of one panel; on a logarithmic axis ``low`` is above 0."""

    low: float
    high: float
    logarithmic: bool
    text: Callable[[float], str]

    def share(self, value: float) -> float:
        """Height of ``value`` as a fraction of the panel, held to 0 to 1."""
        if not value > 0.0 or not math.isfinite(value):
            return 0.0
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Round values to write beside the axis."""
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            step = max(math.ceil((last - first) / 5), 1)
            return [10.0**power for power in range(first, last + 1, step)]
        return [self.high * part / 2 for part in range(3)]


def model_chart_png(manifest: Manifest, seconds: Mapping[str, Sequence[float]] | None, path: Path) -> None:
    """Write a PNG to ``path``: three panels over the units, left to right in the order they run.

    ``seconds[device][unit]`` become bars for one device, lines for several; without them the first panel
    shows multiply-accumulates. Raises MissingExtraError without Pillow, OSError when it cannot write.
    """
    require_pillow()
    import PIL.Image
    from PIL import ImageDraw

    units = manifest.unit_count
    names = _NAMES if units <= 48 else 44
    plot = min(max(units * 26, 1060), 1600)
    extent = (plot + _LEFT + _RIGHT, _TOP + 3 * _PANEL + 3 * _GAP + names - 20)
    canvas = PIL.Image.new("RGB", extent, PAPER)
    draw = ImageDraw.Draw(canvas)
    panels = [_Panel(draw, units, plot, _TOP + row * (_PANEL + _GAP)) for row in range(3)]
    macs, weights = sum(u.macs for u in manifest.units), sum(u.weight_bytes for u in manifest.units)
    draw.text((_LEFT, 22), legible(f"model {manifest.name} ({manifest.format})"), INK, font(_TITLE))
    figures = f"{units} units, {count_text(macs)} multiply-accumulates, {bytes_text(weights)} of weights"
    draw.text((extent[0] - _RIGHT, 30), figures, FAINT, font(_SIZE), anchor="ra")
    if seconds:
        _draw_seconds(panels[0], seconds)
    else:
        panels[0].bars("multiply-accumulates of each unit", [u.macs for u in manifest.units], count_text)
    _draw_cuts(panels[1], [boundary_bytes(boundary) for boundary in manifest.boundaries])
    panels[2].bars("weights of each unit", [u.weight_bytes for u in manifest.units], bytes_text)
    panels[2].label_units([unit.name for unit in manifest.units] if units <= 48 else None)
    canvas.save(path, "PNG")


class _Panel:
    """One plot: ``top`` is its upper edge, unit ``i`` lies between ``x(i)`` and ``x(i + 1)``."""

    def __init__(self, draw: ImageDraw, units: int, width: int, top: int) -> None:
        self.draw, self.units, self.width, self.top = draw, units, width, top
        self.bottom = top + _PANEL

    def x(self, cut: float) -> float:
        return _LEFT + self.width * cut / self.units

    def y(self, share: float) -> float:
        return self.bottom - share * (_PANEL - 8)

    def frame(self, title: str, axis: _Axis) -> None:
        self.draw.text((_LEFT, self.top - 32), legible(title), INK, font(_SIZE))
        for value in axis.ticks():
            y = self.y(axis.share(value))
            self.draw.line((_LEFT, y, _LEFT + self.width, y), RULE, 1)
            self.draw.text((_LEFT - 12, y), axis.text(value), FAINT, font(_SIZE - 2), anchor="rm")
        self.draw.line((_LEFT, self.bottom, _LEFT + self.width, self.bottom), FAINT, 2)

    def bar(self, start: float, stop: float, share: float, colour: Colour) -> None:
        inset = min((self.x(stop) - self.x(start)) * 0.12, 6.0)
        left, right = self.x(start) + inset, self.x(stop) - inset
        if share > 0.0:
            self.draw.rectangle(
                (left, min(self.y(share), self.bottom - 2), max(right, left + 1), self.bottom), colour
            )

    def bars(self, title: str, values: Sequence[float], text: Callable[[float], str]) -> None:
        """One bar per unit on a linear axis from 0."""
        axis = _Axis(
            0.0, _round_above(max((v for v in values if math.isfinite(v)), default=0.0)), False, text
        )
        self.frame(title, axis)
        for unit, value in enumerate(values):
            self.bar(unit, unit + 1, axis.share(value), SERIES[0])

    def label_units(self, names: Sequence[str] | None) -> None:
        """Numbers below the axis as dense as they fit; below them the names, upright where they are long."""
        step = _label_step(self.units, self.width)
        for unit in range(0, self.units, step):
            middle = (self.x(unit) + self.x(unit + 1)) / 2
            self.draw.text((middle, self.bottom + 8), str(unit), FAINT, font(_SIZE - 2), anchor="ma")
        if names is None:
            self.draw.text((_LEFT - 12, self.bottom + 8), "unit", FAINT, font(_SIZE - 2), anchor="ra")
            return
        across = all(text_width(legible(name), _SIZE - 4) < self.width / self.units - 12 for name in names)
        for unit, name in enumerate(names):
            middle = (self.x(unit) + self.x(unit + 1)) / 2
            if across:
                self.draw.text((middle, self.bottom + 36), legible(name), FAINT, font(_SIZE - 4), anchor="ma")
            else:
                _draw_upright(self.draw, (round(middle), self.bottom + 36), name, _NAMES - 40)


def _draw_seconds(panel: _Panel, seconds: Mapping[str, Sequence[float]]) -> None:
    if len(seconds) == 1:
        ((device, values),) = seconds.items()
        panel.bars(f"time of each unit on {device}", values, _tick_seconds)
        return
    positive = [v for values in seconds.values() for v in values if v > 0.0 and math.isfinite(v)]
    axis = _decades(positive, _tick_seconds)
    panel.frame("time of each unit (logarithmic)", axis)
    x = panel.x(panel.units)
    for index, (device, values) in reversed(list(enumerate(seconds.items()))):
        colour = SERIES[index % len(SERIES)]
        points = [
            (panel.x(u + side), panel.y(axis.share(v))) for u, v in enumerate(values) for side in (0, 1)
        ]
        panel.draw.line(points, colour, 3, joint="curve")
        label = legible(device)
        x -= text_width(label, _SIZE) + 20
        panel.draw.text((x, panel.top - 32), label, colour, font(_SIZE))
        panel.draw.line((x - 30, panel.top - 20, x - 8, panel.top - 20), colour, 4)
        x -= 40


def _draw_cuts(panel: _Panel, carried: Sequence[int]) -> None:
    """Bars centred on the cuts; those that carry less than the input, hence are worth a thought, in green."""
    axis = _decades([float(n) for n in carried if n > 0], _tick_bytes)
    panel.frame("bytes at each cut (logarithmic)", axis)
    entering = carried[0]
    for cut, size in enumerate(carried):
        inner = 0 < cut < panel.units
        colour = SERIES[0] if not inner else _SAVES if size < entering else _COSTS
        panel.bar(max(cut - 0.5, 0), min(cut + 0.5, panel.units), axis.share(size), colour)
    y = panel.y(axis.share(entering))
    for dash in range(_LEFT, _LEFT + panel.width, 14):
        panel.draw.line((dash, y, dash + 7, y), SERIES[0], 2)
    x = panel.x(panel.units)
    for text, colour in reversed(
        (("input, output", SERIES[0]), ("less than the input", _SAVES), ("as much or more", _COSTS))
    ):
        x -= text_width(text, _SIZE) + 10
        panel.draw.text((x, panel.top - 32), text, INK, font(_SIZE))
        panel.draw.rectangle((x - 24, panel.top - 28, x - 8, panel.top - 12), colour)
        x -= 40


def _draw_upright(draw: ImageDraw, at: tuple[int, int], name: str, room: int) -> None:
    """The end of ``name`` reading upwards, centred on ``at[0]``, ending at ``at[1]``."""
    import PIL.Image
    import PIL.ImageDraw

    size = _SIZE - 4
    text = shortened(legible(name), size, room)
    strip = PIL.Image.new("L", (text_width(text, size), size + 6))
    PIL.ImageDraw.Draw(strip).text((0, (size + 6) / 2), text, 255, font(size), anchor="lm")
    turned = strip.rotate(90, expand=True)
    draw.bitmap((at[0] - turned.width // 2, at[1]), turned, FAINT)


def _decades(positive: Sequence[float], text: Callable[[float], str]) -> _Axis:
    """A logarithmic axis over whole powers of ten around the values."""
    low = 10.0 ** math.floor(math.log10(min(positive, default=1.0)))
    high = 10.0 ** math.ceil(math.log10(max(positive, default=1.0)))
    # A power of ten itself must not vanish at height 0, nor the axis have no length.
    low = low / 10.0 if low >= min(positive, default=1.0) * 0.999 else low
    return _Axis(low, high, True, text)


def _round_above(value: float) -> float:
    """The next of some round steps times a power of ten that is not below ``value``."""
    if value <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        power * step
        for step in (1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
        if power * step >= value * 0.999999
    )


def _label_step(units: int, width: int) -> int:
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 200) if width * step / units >= 30)


def _tick_seconds(value: float) -> str:
    return seconds_text(value) if value else "0"


def _tick_bytes(value: float) -> str:
    return bytes_text(value)
