"""How commands print: JSON or a table on standard output, progress on standard error."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from edgemesh.observe.printable import printable, printable_lines
from edgemesh.protocol.fields import to_plain

_F = TypeVar("_F", bound=Callable[..., Any])
_REWRITE_SECONDS = 0.1
_LINE_SECONDS = 2.0


def json_option(function: _F) -> _F:
    """``--json`` as ``as_json``."""
    decorated: _F = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(
        function
    )
    return decorated


def print_json(value: object) -> None:
    """One line of JSON; message dataclasses become maps.

    Escaped where standard output cannot take it as it is: a file's name need not be UTF-8, nor the terminal.
    """
    plain = to_plain(value)
    text = json.dumps(plain, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(plain)
    click.echo(text)


def print_text(text: str) -> None:
    """Lines in which nothing steers the terminal; texts of other machines must not bring lines themselves."""
    click.echo(printable_lines(text))


def table_text(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, each row one line; columns that hold only figures are set flush right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(heading, *rows))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_figure(cell) for cell in column[1:]) for column in columns]
    lines = []
    for row in (heading, *rows):
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_figure(cell: str) -> bool:
    return cell in ("", "-") or cell[0].isdigit()


class Progress:
    """A line that is rewritten on a terminal; elsewhere a plain line every two seconds at most."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown_at = float("-inf")
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self._clear()

    def show(self, text: str) -> None:
        """Show the state of things, if the last one has been seen long enough."""
        now = time.monotonic()
        if now - self._shown_at < (_REWRITE_SECONDS if self._live else _LINE_SECONDS):
            return
        self._shown_at = now
        text = printable(text)
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r" + text.ljust(self._width))
            self._width = len(text)
            sys.stderr.flush()
        else:
            click.echo(text, err=True)

    def say(self, text: str) -> None:
        """One line, that stays."""
        self._clear()
        click.echo(printable(text), err=True)

    def _clear(self) -> None:
        if self._live and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0
