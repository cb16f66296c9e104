"""Text on drawn pictures: the bundled font, what it can show, wrapping and columns."""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
INK: Final[Colour] = (28, 32, 38)
FAINT: Final[Colour] = (104, 112, 124)
PAPER: Final[Colour] = (250, 250, 248)
RULE: Final[Colour] = (214, 217, 222)
ACCENT: Final[Colour] = (0, 98, 155)
SERIES: Final[tuple[Colour, ...]] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233),
)  # fmt: skip
"""Told apart by colour-blind people too (Okabe and Ito 2008); the first two are the farthest apart."""

_SPELLED: Final = {
    "\N{RIGHTWARDS ARROW}": "->", "\N{EM DASH}": "-", "\N{EN DASH}": "-", "\N{MINUS SIGN}": "-",
    "\N{MULTIPLICATION SIGN}": "x", "\N{MICRO SIGN}": "u", "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=", "\N{LATIN SMALL LETTER SHARP S}": "ss", "\N{DEGREE SIGN}": " deg ",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
_NUMBER: Final = re.compile(r"[-+<>~]*\d[\d.,]*( ?(%|[kMGTum]?[a-zA-Z]{0,3}(/[a-z]+)?))?")


@lru_cache(maxsize=32)
def font(size: int) -> FreeTypeFont:
    """Pillow's bundled font with letters ``size`` pixels high; the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def legible(text: str) -> str:
    """``text`` in the characters that the bundled font has (ASCII): accents go, the rest becomes ``?``."""
    spelled = "".join(_SPELLED.get(character, character) for character in text)
    plain = unicodedata.normalize("NFKD", spelled)
    return "".join(c if " " <= c <= "~" else "?" for c in plain if not unicodedata.combining(c))


def text_width(text: str, size: int) -> int:
    """Pixels that ``text`` takes in one line."""
    length: float = font(size).getlength(text)
    return math.ceil(length)


def shortened(text: str, size: int, width: int) -> str:
    """``text``, cut with an ellipsis where it is wider than ``width`` pixels."""
    if text_width(text, size) <= width:
        return text
    kept = bisect_right(range(len(text)), width, key=lambda n: text_width(text[:n] + "...", size)) - 1
    return text[: max(kept, 0)] + "..."


def wrapped(text: str, size: int, width: int) -> list[str]:
    """Lines of at most ``width`` pixels, broken at spaces; one word that is wider is cut."""
    lines = [""]
    for word in legible(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(word, size, width))
    return [line for line in lines if line] or [""]


def column_widths(rows: Sequence[Sequence[str]], size: int) -> list[int]:
    """Pixels of the widest cell of each column; a row of one cell runs across and does not count."""
    columns = max((len(row) for row in rows), default=0)
    widths = [0] * columns
    for row in rows:
        for column, cell in enumerate(row if len(row) > 1 else ()):
            widths[column] = max(widths[column], text_width(legible(cell), size))
    return widths


def numeric_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """Columns whose cells below the first row are all numbers (with a unit): they are set flush right."""
    body = [row for row in rows[1:] if len(row) > 1]
    columns = max((len(row) for row in body), default=0)
    cells = [
        [row[c].strip() for row in body if c < len(row) and row[c].strip() not in ("", "-")]
        for c in range(columns)
    ]
    return {c for c in range(columns) if cells[c] and all(_NUMBER.fullmatch(cell) for cell in cells[c])}


def draw_table(
    draw: ImageDraw, at: tuple[int, int], rows: Sequence[Sequence[str]], size: int, gap: int
) -> tuple[int, int]:
    """Draw ``rows`` (the first is the heading) with their left upper corner at ``at``; the extent in pixels.

    A row of one cell is drawn across the columns.
    """
    widths, right = column_widths(rows, size), numeric_columns(rows)
    pitch = round(size * 1.6)
    extent = max(sum(widths) + gap * max(len(widths) - 1, 0), 0)
    y = at[1]
    for index, row in enumerate(rows):
        colour = FAINT if index == 0 and len(row) > 1 else INK
        x = at[0]
        for column, cell in enumerate(row):
            text = legible(cell)
            slack = widths[column] - text_width(text, size) if len(row) > 1 and column in right else 0
            draw.text((x + slack, y), text, colour, font(size))
            x += widths[column] + gap
        y += pitch
        if index == 0 and len(row) > 1:
            draw.line(
                (at[0], y - round(size * 0.25), at[0] + extent, y - round(size * 0.25)),
                RULE,
                max(size // 12, 1),
            )
    return extent, y - at[1]
