"""Units of a model drawn in the terminal, one line each: time, bytes at the cut after it, weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from edgemesh.observe.amounts import bytes_text, count_text, seconds_text
from edgemesh.protocol.manifest import Manifest, boundary_bytes

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_NAME_CHARS: Final = 28
_BAR_CHARS: Final = 10
_CODECS_HEAD: Final = "cut as"
_DEVICES: Final = 3
"""Columns of seconds; more would leave no room for the bar."""


def model_chart_text(
    manifest: Manifest,
    seconds: Mapping[str, Sequence[float]] | None = None,
    width: int = 100,
    encoding: str = "utf-8",
    codecs: Sequence[Sequence[str]] | None = None,
) -> str:
    """Lines of at most ``width`` characters (60 at least): a heading, the input, one line per unit.

    ``seconds[device][unit]`` are shown in columns, the bar is drawn for the first device; without them it
    shows multiply-accumulates. ``*`` marks cuts that carry less than the input. Bars are drawn in block
    elements where ``encoding`` has them, else in ``#``. ``codecs[cut]`` are named in a last column.
    """
    shown = dict(list((seconds or {}).items())[:_DEVICES])
    amounts = next(iter(shown.values())) if shown else [float(unit.macs) for unit in manifest.units]
    top = max((a for a in amounts if math.isfinite(a)), default=0.0) or 1.0
    columns = [[seconds_text(t) for t in times] for times in shown.values()]
    columns = columns or [[count_text(unit.macs) for unit in manifest.units]]
    heads = [device[:12] for device in shown] or ["macs"]
    widths = [max(len(head), *map(len, column)) for head, column in zip(heads, columns)]
    digits = max(len(str(manifest.unit_count - 1)), len("unit"))
    named = [" ".join(names) or "-" for names in codecs or ()]
    within = max(map(len, (_CODECS_HEAD, *named))) + 2 if named else 0
    fixed = digits + 1 + sum(w + 2 for w in widths) + 2 + 10 + 2 + 9 + within
    name_chars = min(_NAME_CHARS, max(len(unit.name) for unit in manifest.units))
    name_chars = max(min(name_chars, max(width, 60) - fixed - _BAR_CHARS - 1), 4)
    bar_chars = max(max(width, 60) - fixed - name_chars - 1, 3)
    blocks = _EIGHTHS if _encodable(_EIGHTHS, encoding) else ""

    def line(
        index: str, name: str, bar: str, cells: Sequence[str], sends: str, weights: str, codecs: str
    ) -> str:
        figures = "".join(f"  {cell:>{w}}" for cell, w in zip(cells, widths))
        name = f"{_shortened(name, name_chars):<{name_chars}}"
        figures += f"  {sends:>10}  {weights:>9}  {codecs}"
        return f"{index:>{digits}} {name} {bar:<{bar_chars}}{figures}".rstrip()

    nothing = [""] * len(widths)
    entering = boundary_bytes(manifest.boundaries[0])
    lines = [
        _title(manifest),
        line("unit", "name", "", heads, "cut after", "weights", _CODECS_HEAD if named else ""),
        line("", "input", "", nothing, f"{bytes_text(entering)} ", "", ""),
    ]
    for index, unit in enumerate(manifest.units):
        leaving = boundary_bytes(manifest.boundaries[index + 1])
        mark = "*" if leaving < entering and index + 1 < manifest.unit_count else " "
        cells = [column[index] for column in columns]
        bar = _bar(amounts[index] / top, bar_chars, blocks)
        sends, weights = bytes_text(leaving) + mark, bytes_text(unit.weight_bytes)
        last = named[index + 1] if named and index + 1 < manifest.unit_count else ""
        lines.append(line(str(index), unit.name, bar, cells, sends, weights, last))
    lines.append("* sends less than the input" + "; cut as: lossy codecs within the budget" * bool(named))
    return "\n".join(text if _encodable(text, encoding) else _escaped(text, encoding) for text in lines)


def _title(manifest: Manifest) -> str:
    macs = sum(unit.macs for unit in manifest.units)
    weights = sum(unit.weight_bytes for unit in manifest.units)
    return (
        f"{manifest.name} ({manifest.format}): {manifest.unit_count} units, {count_text(macs)} macs, "
        f"{bytes_text(weights)} of weights"
    )


def _bar(share: float, chars: int, blocks: str) -> str:
    """A bar of ``share`` (0 to 1) of ``chars`` characters; what is above 0 shows at least a trace."""
    if not 0.0 < share <= 1.0:  # not known
        return ""
    if not blocks:
        return "#" * max(round(share * chars), 1)
    eighths = max(round(share * chars * 8), 1)
    return blocks[8] * (eighths // 8) + blocks[eighths % 8].strip()


def _shortened(name: str, chars: int) -> str:
    # The end of a layer's name tells more than its beginning.
    return name if len(name) <= chars else ".." + name[len(name) - chars + 2 :]


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str, encoding: str) -> str:
    return text.encode(encoding, "replace").decode(encoding)
