"""Latency against energy of the plans that are worth a thought, in the terminal and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgemesh.observe.amounts import seconds_text
from edgemesh.observe.axis import Axis, axis_around
from edgemesh.observe.lettering import (
    ACCENT,
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
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.what_if import FrontResponse, PlannedRoute
from edgemesh.runtime.images import require_pillow

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_ROWS: Final = 18
_LISTED: Final = 12
_LETTERS: Final = "ABCDEFGHIJKLMNPQRSTUVWXYZ"
_SIZE: Final = 20


@dataclass(frozen=True)
class Mark:
    """One plan on the plot."""

    sign: str
    """``*`` on the front, ``@`` in force, a letter for all units on one device."""
    label: str
    plan: PlannedRoute


def marks_of(front: FrontResponse) -> list[Mark]:
    """Front first, then the single devices by latency, then the plan in force: later ones are drawn over."""
    marks = [Mark("*", route_text(point.route), point) for point in front.points]
    singles = sorted(front.singles, key=lambda plan: plan.seconds)[: len(_LETTERS)]
    marks += [Mark(letter, f"all on {plan.route[0].device}", plan) for letter, plan in zip(_LETTERS, singles)]
    if front.in_force is not None:
        marks.append(Mark("@", route_text(front.in_force.route), front.in_force))
    return marks


def front_text(front: FrontResponse, width: int = 100) -> str:
    """A plot of ``width`` columns (60 at least) in plain ASCII, then what its signs stand for."""
    marks = marks_of(front)
    across = axis_around([m.plan.seconds for m in marks] + ([front.bound] if front.bound is not None else []))
    up = axis_around([m.plan.joules for m in marks])
    labels = {_row(up, tick): as_joules(tick) for tick in up.ticks(5)}
    margin = max((len(label) for label in labels.values()), default=4)
    columns = max(width, 60) - margin - 3
    grid = [[" "] * columns for _ in range(_ROWS)]
    if front.bound is not None:
        for row in grid:
            row[_column(across, front.bound, columns)] = "|"
    for mark in marks:
        grid[_row(up, mark.plan.joules)][_column(across, mark.plan.seconds, columns)] = mark.sign
    lines = [_title(front)]
    lines += [f"{labels.get(at, ''):>{margin}} |{''.join(row)}".rstrip() for at, row in enumerate(grid)]
    lines.append(" " * margin + " +" + "-" * columns)
    lines.append(_tick_line(across, columns, margin + 2))
    return "\n".join([*lines, *_legend(front, marks)])


def _title(front: FrontResponse) -> str:
    where = "inputs published by apps" if front.origin == APP_ORIGIN else f"inputs of {front.origin}"
    shown = f", {len(front.points)} of them drawn" if front.total > len(front.points) else ""
    joules = "weighted joules" if front.weighted else "joules"
    plans = "1 plan" if front.total == 1 else f"{front.total} plans"
    return f"{front.model} for {where}: {joules} against latency; {plans} that none beats in both{shown}"


def _tick_line(across: Axis, columns: int, indent: int) -> str:
    line = [" "] * (indent + columns + 12)
    free = 0
    for tick in across.ticks(6):
        text = seconds_text(tick)
        at = max(indent + _column(across, tick, columns) - len(text) // 2, 0)
        if at >= free:
            line[at : at + len(text)] = text
            free = at + len(text) + 2
    return "".join(line).rstrip()[: indent + columns]


def _legend(front: FrontResponse, marks: Sequence[Mark]) -> list[str]:
    lines = []
    if front.in_force is not None:
        lines.append(f"@ in force ({front.objective}): {_plan_line(marks[-1])}")
    if front.bound is not None:
        lines.append(f"| bound: {seconds_text(front.bound)} for a job")
    lines += [f"{mark.sign} {_plan_line(mark)}" for mark in marks if mark.sign in _LETTERS]
    points = [mark for mark in marks if mark.sign == "*"]
    step = max(-(-len(points) // _LISTED), 1)
    chosen = dict.fromkeys([*range(0, len(points), step), len(points) - 1] if points else [])
    lines += [f"* {_plan_line(points[index])}" for index in chosen]
    if step > 1:
        lines.append("(some plans of the front are left out of this list; --json has them all)")
    return lines


def _plan_line(mark: Mark) -> str:
    return f"{mark.label}: {seconds_text(mark.plan.seconds)}, {as_joules(mark.plan.joules)}"


def _row(up: Axis, joules: float) -> int:
    return round((1.0 - up.share(joules)) * (_ROWS - 1))


def _column(across: Axis, seconds: float, columns: int) -> int:
    return round(across.share(seconds) * (columns - 1))


# --- picture ---------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _PLOT = 1200, 980, 120, 50, 110, 560
_LEGEND: Final = 9
_COLOURS: Final[dict[str, Colour]] = {"*": SERIES[0], "@": SERIES[4]}


def front_png(front: FrontResponse, path: Path) -> None:
    """Write the plot to ``path``; raises MissingExtraError without Pillow, OSError when it cannot write."""
    require_pillow()
    import PIL.Image
    from PIL import ImageDraw

    marks = marks_of(front)
    across = axis_around([m.plan.seconds for m in marks] + ([front.bound] if front.bound is not None else []))
    up = axis_around([m.plan.joules for m in marks])
    canvas = PIL.Image.new("RGB", (_WIDTH, _HEIGHT), PAPER)
    draw = ImageDraw.Draw(canvas)

    def x(seconds: float) -> float:
        return _LEFT + across.share(seconds) * (_WIDTH - _LEFT - _RIGHT)

    def y(joules: float) -> float:
        return _TOP + (1.0 - up.share(joules)) * _PLOT

    draw.text((_LEFT, 20), legible(f"{front.model}: joules against latency of a job"), INK, font(28))
    draw.text((_LEFT, 62), legible(_title(front).partition("; ")[2]), FAINT, font(_SIZE))
    _frame(draw, across, up, x, y)
    if front.bound is not None:
        for dash in range(_TOP, _TOP + _PLOT, 16):
            draw.line((x(front.bound), dash, x(front.bound), dash + 8), ACCENT, 2)
    stairs = [(x(point.seconds), y(point.joules)) for point in front.points]
    steps = [place for a, b in pairwise(stairs) for place in (a, (b[0], a[1]), b)]
    if steps:
        draw.line(steps, SERIES[5], 2)
    if front.bound is not None:
        text = f"bound {seconds_text(front.bound)}"
        at = min(x(front.bound) + 8, _WIDTH - _RIGHT - text_width(text, _SIZE))
        # The halo keeps it legible where the front passes behind it.
        draw.text((at, _TOP + 4), text, ACCENT, font(_SIZE), stroke_width=4, stroke_fill=PAPER)
    for mark in marks:
        _draw_mark(draw, mark, x(mark.plan.seconds), y(mark.plan.joules))
    legend = [line for line in _legend(front, marks) if not line.startswith("|")]
    for index, line in enumerate(legend[:_LEGEND]):
        below = _TOP + _PLOT + 60 + index * 26
        colour = FAINT if line.startswith("*") else INK
        draw.text(
            (_LEFT, below),
            shortened(legible(line), _SIZE - 2, _WIDTH - _LEFT - _RIGHT),
            colour,
            font(_SIZE - 2),
        )
    canvas.save(path, "PNG")


def _frame(
    draw: ImageDraw, across: Axis, up: Axis, x: Callable[[float], float], y: Callable[[float], float]
) -> None:
    bottom, right = _TOP + _PLOT, _WIDTH - _RIGHT
    for tick in up.ticks():
        draw.line((_LEFT, y(tick), right, y(tick)), RULE, 1)
        draw.text((_LEFT - 12, y(tick)), as_joules(tick), FAINT, font(_SIZE - 2), anchor="rm")
    for tick in across.ticks():
        draw.line((x(tick), bottom, x(tick), bottom + 8), FAINT, 2)
        draw.text((x(tick), bottom + 14), seconds_text(tick), FAINT, font(_SIZE - 2), anchor="ma")
    draw.line((_LEFT, bottom, right, bottom), FAINT, 2)
    draw.line((_LEFT, _TOP, _LEFT, bottom), FAINT, 2)


def _draw_mark(draw: ImageDraw, mark: Mark, x: float, y: float) -> None:
    colour = _COLOURS.get(mark.sign, SERIES[1])
    radius = 5 if mark.sign == "*" else 9
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    if mark.sign == "@":
        draw.ellipse((x - 15, y - 15, x + 15, y + 15), outline=colour, width=3)
    elif mark.sign != "*":
        # Beyond the ring, which the same plan may have when it is in force.
        draw.text((x + 21, y), mark.sign, INK, font(_SIZE), anchor="lm")
