"""History of one model and origin as a picture: latency predicted and measured, joules, switches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgemesh.observe.amounts import seconds_text
from edgemesh.observe.axis import Axis, axis_around
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
from edgemesh.observe.plan_table import route_text
from edgemesh.planning.wording import as_joules
from edgemesh.protocol.history import HistoryEntry
from edgemesh.runtime.images import require_pillow

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SIZE: Final = 20
_WIDTH, _LEFT, _RIGHT, _TOP, _PANEL, _GAP = 1300, 120, 50, 120, 260, 70
_SWITCHES: Final = 12
_FAILURE: Final[Colour] = SERIES[4]


@dataclass(frozen=True)
class Series:
    """Values over time, oldest first; ``age`` in seconds before now."""

    points: tuple[tuple[float, float], ...]
    colour: Colour
    name: str
    steps: bool
    """Whether a value holds until the next one."""


def latency_series(entries: Sequence[HistoryEntry]) -> list[Series]:
    """Predicted by the assignments, and measured by the outcomes."""
    oldest_first = sorted(entries, key=lambda entry: -entry.age)
    predicted = [
        (e.age, e.record.seconds)
        for e in oldest_first
        if e.record.kind in ("assignment", "outcome") and e.record.seconds is not None
    ]
    measured = [(e.age, e.record.measured) for e in oldest_first if e.record.measured is not None]
    return [
        Series(tuple(predicted), SERIES[0], "predicted", True),
        Series(tuple(measured), SERIES[1], "measured", False),
    ]


def energy_series(entries: Sequence[HistoryEntry]) -> list[Series]:
    """Joules per job that the assignments predict."""
    oldest_first = sorted(entries, key=lambda entry: -entry.age)
    joules = [
        (e.age, e.record.joules)
        for e in oldest_first
        if e.record.kind in ("assignment", "outcome") and e.record.joules is not None
    ]
    return [Series(tuple(joules), SERIES[2], "predicted", True)]


def switches(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Assignments with another route than the one before, oldest first; the first one counts."""
    found: list[HistoryEntry] = []
    last = None
    for entry in sorted(entries, key=lambda entry: -entry.age):
        if entry.record.kind == "assignment" and entry.record.route != last:
            last = entry.record.route
            found.append(entry)
    return found


def history_png(entries: Sequence[HistoryEntry], title: str, path: Path) -> None:
    """Write the picture to ``path``; ``entries`` are of one model and origin, and at least one.

    Raises MissingExtraError without Pillow, OSError when it cannot write.
    """
    assert entries
    require_pillow()
    import PIL.Image
    from PIL import ImageDraw

    moved = switches(entries)
    listed = moved[-_SWITCHES:]
    height = _TOP + 2 * _PANEL + _GAP + 90 + 28 * len(listed) + 30
    canvas = PIL.Image.new("RGB", (_WIDTH, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    span = max(1.0, *(entry.age for entry in entries))

    def x(age: float) -> float:
        return _LEFT + (1.0 - min(age / span, 1.0)) * (_WIDTH - _LEFT - _RIGHT)

    draw.text((_LEFT, 20), shortened(legible(title), 28, _WIDTH - _LEFT - _RIGHT - 250), INK, font(28))
    if any(entry.record.kind == "failure" for entry in entries):
        draw.text((_WIDTH - _RIGHT, 26), "thin lines: no plan", _FAILURE, font(_SIZE), anchor="ra")
    panels = (
        (_TOP, "latency of a job", latency_series(entries), seconds_text),
        (_TOP + _PANEL + _GAP, "energy of a job", energy_series(entries), as_joules),
    )
    for top, name, series, text in panels:
        for entry in moved:
            draw.line((x(entry.age), top, x(entry.age), top + _PANEL), RULE, 3)
        for entry in entries:
            if entry.record.kind == "failure":
                draw.line((x(entry.age), top, x(entry.age), top + _PANEL), _FAILURE, 1)
        _draw_panel(draw, top, name, series, text, x)
    _draw_ages(draw, span, x, _TOP + 2 * _PANEL + _GAP)
    _draw_switches(draw, listed, moved, x, _TOP + 2 * _PANEL + _GAP + 64)
    canvas.save(path, "PNG")


def _draw_panel(
    draw: ImageDraw,
    top: int,
    name: str,
    series: Sequence[Series],
    text: Callable[[float], str],
    x: Callable[[float], float],
) -> None:
    axis = axis_around((value for one in series for _, value in one.points), from_zero=True)
    bottom, right = top + _PANEL, _WIDTH - _RIGHT
    for tick in axis.ticks(4):
        y = bottom - axis.share(tick) * _PANEL
        draw.line((_LEFT, y, right, y), RULE, 1)
        draw.text((_LEFT - 12, y), text(tick) if tick else "0", FAINT, font(_SIZE - 2), anchor="rm")
    draw.line((_LEFT, bottom, right, bottom), FAINT, 2)
    draw.text((_LEFT, top - 34), name, INK, font(_SIZE))
    at = right
    for one in reversed(series):
        if one.points:
            at -= text_width(one.name, _SIZE)
            draw.text((at, top - 34), one.name, one.colour, font(_SIZE))
            at -= 30
            _draw_series(draw, one, axis, bottom, x)
    if not any(one.points for one in series):
        draw.text((_LEFT + 20, top + 20), "nothing known", FAINT, font(_SIZE))


def _draw_series(draw: ImageDraw, one: Series, axis: Axis, bottom: int, x: Callable[[float], float]) -> None:
    places = [(x(age), bottom - axis.share(value) * _PANEL) for age, value in one.points]
    if one.steps:
        held = [*places, (x(0.0), places[-1][1])]
        draw.line([p for a, b in pairwise(held) for p in (a, (b[0], a[1]))], one.colour, 3)
    else:
        for px, py in places:
            draw.ellipse((px - 4, py - 4, px + 4, py + 4), fill=one.colour)


def _draw_ages(draw: ImageDraw, span: float, x: Callable[[float], float], bottom: int) -> None:
    for part in range(5):
        age = span * (4 - part) / 4
        anchor = "ra" if part == 4 else "la" if part == 0 else "ma"
        label = "now" if part == 4 else f"{age_text(age)} ago"
        draw.text((x(age), bottom + 12), label, FAINT, font(_SIZE - 2), anchor=anchor)


def _draw_switches(
    draw: ImageDraw,
    listed: Sequence[HistoryEntry],
    moved: Sequence[HistoryEntry],
    x: Callable[[float], float],
    top: int,
) -> None:
    first = len(moved) - len(listed) + 1
    more = f" (the last {len(listed)} of {len(moved)})" if len(moved) > len(listed) else ""
    draw.text((_LEFT, top), f"plans{more}, each from its grey line on", FAINT, font(_SIZE - 2))
    places = rows_of(
        [(x(entry.age), text_width(f"{n} ", _SIZE - 4)) for n, entry in enumerate(listed, first)]
    )
    for number, (entry, row) in enumerate(zip(listed, places), first):
        draw.text((x(entry.age) + 4, _TOP + 2 + 18 * row), str(number), FAINT, font(_SIZE - 4))
        r = entry.record
        line = f"{number}  {age_text(entry.age)} ago  {route_text(r.route)}: {r.text}"
        below = top + 28 * (number - first + 1)
        text = shortened(legible(line), _SIZE - 2, _WIDTH - _LEFT - _RIGHT)
        draw.text((_LEFT, below), text, INK, font(_SIZE - 2))


def rows_of(labels: Sequence[tuple[float, float]]) -> list[int]:
    """The first row for each label in which it meets none before it; labels are left ends and widths."""
    ends: list[float] = []
    rows = []
    for left, width in labels:
        row = next((row for row, end in enumerate(ends) if end <= left), len(ends))
        ends[row : row + 1] = [left + width]
        rows.append(row)
    return rows


def age_text(age: float) -> str:
    """``90 s``, ``12 min``, ``3.5 h`` or ``2 d``."""
    if age < 120.0:
        return f"{age:.0f} s"
    if age < 7200.0:
        return f"{age / 60.0:.0f} min"
    return f"{age / 3600.0:.1f} h" if age < 172_800.0 else f"{age / 86_400.0:.0f} d"
