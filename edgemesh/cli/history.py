"""``edgemesh history``: what was decided, what came of it, and who changed what is kept to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.amounts import age
from edgemesh.cli.output import json_option, print_json
from edgemesh.cli.settings import Settings
from edgemesh.cli.writable import cannot_write
from edgemesh.errors import SettingsError
from edgemesh.observe.plan_table import route_text
from edgemesh.planning.wording import as_joules
from edgemesh.protocol.ids import APP_ORIGIN, checked_id
from edgemesh.protocol.limits import HISTORY

if TYPE_CHECKING:
    from edgemesh.protocol.history import HistoryEntry


@click.command()
@click.argument("model", required=False)
@click.option("--since", metavar="1h", help="Nothing older: 90s, 30min, 1h or 2d.")
@click.option("--origin", metavar="DEVICE", help="Of this origin only: a device, or app.")
@click.option(
    "--limit", type=click.IntRange(1, HISTORY), default=200, show_default=True, help="Most of them."
)
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw latency and energy.")
@json_option
@click.pass_obj
def history(
    settings: Settings,
    model: str | None,
    since: str | None,
    origin: str | None,
    limit: int,
    png: Path | None,
    as_json: bool,
) -> None:
    """Show plans, failures, outcomes and changes of policy, newest last; kept by the decision node."""
    from edgemesh.node.plan_questions import asked_history

    seconds = None if since is None else age(since)
    if since is not None and seconds is None:
        raise SettingsError(f"--since {since!r} is no time: write it as 90s, 30min, 1h or 2d")
    if png is not None and model is None:
        raise SettingsError("name the model too:  edgemesh history MODEL --png FILE")
    name = None if model is None else checked_id(model, "model name")
    origin = None if origin is None else checked_id(origin, "--origin")
    # The decision node does not know of origins here: whoever wants one must not have others spend the limit.
    asked = limit if origin is None else HISTORY
    answer = asked_history(settings.mesh, settings.address, name, seconds, asked)
    # Records of a policy have no origin: they are of all.
    found = [entry for entry in answer.entries if origin in (None, entry.record.origin or origin)]
    entries, truncated = found[:limit], answer.truncated or len(found) > limit
    if png is not None:
        _draw(entries, name or "", origin, png)
    if as_json:
        print_json({"entries": [_plain(entry) for entry in entries], "truncated": truncated})
    else:
        nothing = _nothing_text(name, origin, since)
        _show(entries, nothing, truncated=truncated)


def _nothing_text(model: str | None, origin: str | None, since: str | None) -> str:
    asked = [f"{word} {value}" for word, value in (("of", model), ("for", origin), ("since", since)) if value]
    yet = [] if origin or since else ["yet"]
    return f"the decision node remembers {' '.join(['nothing', *asked, *yet])}: see  edgemesh plan"


def _show(entries: Sequence[HistoryEntry], nothing: str, *, truncated: bool) -> None:
    if not entries:
        click.echo(nothing, err=True)
        return
    for line in history_lines(entries, time.time()):
        click.echo(line)
    if truncated:
        click.echo(
            "older entries are left out: ask for more with --limit, or for less with --since", err=True
        )


def history_lines(entries: Sequence[HistoryEntry], now: float) -> list[str]:
    """Oldest first: one line of figures for each, the reason below it; ``now`` is the time of day."""
    from edgemesh.cli.plan_text import moment_text, wrapped

    lines: list[str] = []
    for entry in reversed(entries):
        r = entry.record
        head = [moment_text(now - entry.age, now), r.model]
        if r.origin is not None:
            head.append("for apps" if r.origin == APP_ORIGIN else f"for {r.origin}")
        lines += wrapped(f"{' '.join(head)}: {_what(entry)}")
        lines += wrapped(r.text if r.before is None else f"{r.text} (before: {r.before})", "    ")
    return lines


def _what(entry: HistoryEntry) -> str:
    r = entry.record
    if r.kind == "policy":
        return f"policy changed by {r.who or 'somebody'}"
    if r.kind == "failure":
        kept = f"; {route_text(r.route)} stays" if r.route else ""
        return f"no plan{kept}"
    figures = [] if r.seconds is None else [f"{r.seconds * 1e3:.1f} ms predicted"]
    if r.measured is not None:
        figures.append(f"{r.measured * 1e3:.1f} ms measured")
    if r.joules is not None:
        figures.append(as_joules(r.joules))
    if r.kind == "outcome":
        return f"{r.jobs or 0} jobs, {r.failed or 0} failed: {', '.join(figures)}"
    return f"plan {route_text(r.route)}: {', '.join(figures)}"


def _plain(entry: HistoryEntry) -> dict[str, Any]:
    from edgemesh.protocol.fields import to_plain

    plain: dict[str, Any] = {"age": entry.age, **to_plain(entry.record)}
    return plain


def _draw(entries: Sequence[HistoryEntry], model: str, origin: str | None, png: Path) -> None:
    from edgemesh.observe.history_chart import history_png

    origins = sorted({entry.record.origin for entry in entries if entry.record.origin is not None})
    chosen = origin or (APP_ORIGIN if APP_ORIGIN in origins else origins[0] if origins else APP_ORIGIN)
    drawn = [entry for entry in entries if entry.record.origin == chosen]
    if not drawn:
        raise SettingsError(
            f"nothing to draw: no plan of {model} for {chosen} is remembered (origins: "
            f"{', '.join(origins) or 'none'})"
        )
    where = "inputs published by apps" if chosen == APP_ORIGIN else f"inputs of {chosen}"
    try:
        history_png(drawn, f"{model} for {where}", png)
    except OSError as error:
        raise cannot_write(png, error) from None
    click.echo(f"{png}: {len(drawn)} entries of {model} for {where}", err=True)
