"""``edgemesh demo``: the whole of it in one command."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemesh.cli.broker_choice import broker_for, broker_url
from edgemesh.cli.output import table_text
from edgemesh.cli.settings import Settings
from edgemesh.cli.up import board_list
from edgemesh.cli.writable import cannot_write, check_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgemesh.node.busy_board import BusyBoard, Period
    from edgemesh.node.demonstration import Acts, ModelDemonstration
    from edgemesh.node.killed_board import Kill, KilledBoard


@click.command()
@click.option("--image", type=click.Path(path_type=Path), help="A photograph of your own.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    default="edgemesh-demo.png",
    show_default=True,
    help="Where the annotated picture goes.",
)
@click.option(
    "--emulate",
    "boards",
    metavar="BOARDS",
    default="pi-4b,laptop,desktop",
    show_default=True,
    callback=board_list,
    help="Boards to emulate; the first is the camera.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.pass_obj
def demo(settings: Settings, image: Path | None, save: Path, boards: tuple[str, ...], as_json: bool) -> None:
    """Run one network across emulated boards on this machine and show who did what.

    A photograph goes in at the first board; the annotated picture and the plan come out, beside the figures
    for "all on the camera" and "all on the fastest board". Then a board of the plan gets busy, and the plan
    changes if another one is better now. Last, a board is killed in the middle of a job, and the answer still
    comes.
    """
    from edgemesh.node.demonstration import Demonstration, as_plain
    from edgemesh.node.parent_death import end_with_parent

    began = time.monotonic()
    check_writable(save)
    photograph = _photograph(image)

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {text}", file=sys.stderr, flush=True)

    end_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what ends the processes and files
    with broker_for(settings, private=True) as running:
        say(f"{running.kind} broker at {running.address}")
        found = Demonstration(
            running.address,
            broker_url(settings, running),
            boards,
            photograph,
            say,
            quiet=settings.verbose == 0,
        ).run()
    if as_json:
        click.echo(json.dumps({**as_plain(found), "picture": str(save)}))
    else:
        for each in found.models:
            click.echo(_text(each))
        click.echo(_busy_text(found.busy))
        click.echo(_killed_text(found.killed))
    _save_picture(photograph, found, save)
    say(f"picture in {save}; all processes have ended")


def _photograph(image: Path | None) -> bytes:
    if image is None:
        from edgemesh.zoo.photograph import demo_photograph

        image = demo_photograph()
    from edgemesh.node.input_files import file_bytes
    from edgemesh.runtime.images import upright_picture

    content = file_bytes(image)
    upright_picture(content)  # no picture: say so now, and not after half a minute
    return content


def _rows(found: ModelDemonstration) -> list[tuple[str, ...]]:
    from edgemesh.observe.plan_table import HEADING, hop_rows, way_row

    plan, *others = found.ways
    rows = hop_rows(found.manifest, found.assignment, plan.result.timings, plan.measured)
    ways = (way_row(way.label, way.predicted, way.measured, way.joules) for way in others)
    return [HEADING, *rows, *ways]


def _text(found: ModelDemonstration) -> str:
    from edgemesh.observe.plan_table import route_text

    heading, *rows = _rows(found)
    assignment = found.assignment
    lines = [
        "",
        f"{found.manifest.name}: {found.manifest.unit_count} units, input on {assignment.origin}, "
        f"objective {assignment.objective}",
        table_text(heading, rows),
    ]
    lines += [f"{way.label}: {route_text(way.route)}" for way in found.ways[1:] if way.label[-1] != ")"]
    lines += [f"idle: {idle.device}: {idle.reason}" for idle in assignment.idle]
    lines += [f"why: {assignment.reason}", _emulated(found)]
    return "\n".join(lines)


def _periods_text(periods: Sequence[Period]) -> str:
    from edgemesh.observe.plan_table import PERIOD_HEADING, period_row

    rows = [period_row(p.label, p.route, p.jobs, p.predicted, p.measured, p.joules) for p in periods]
    return table_text(PERIOD_HEADING, rows)


def _busy_text(found: BusyBoard) -> str:
    lines = ["", _busy_title(found), _periods_text(found.periods), _noticed(found)]
    if found.failed:
        lines.append(f"{found.failed} jobs failed")
    return "\n".join(lines)


def _busy_title(found: BusyBoard) -> str:
    return f"{found.model} while {found.device} is busy, {found.times:g} times slower (emulated)"


def _noticed(found: BusyBoard) -> str:
    if found.noticed is None:
        return f"the plan stays: {found.reason}"
    return f"new plan {found.noticed:.1f} s after the load came: {found.reason}"


def _killed_text(found: KilledBoard) -> str:
    lines = ["", _killed_title(found)]
    if found.periods:
        lines.append(_periods_text(found.periods))
    return "\n".join([*lines, *_survived(found)])


def _killed_title(found: KilledBoard) -> str:
    kept_out = ", the camera kept from running units" if found.without_camera else ""
    if found.kill is None:
        return f"{found.model}{kept_out}: no board was killed"
    return f"{found.model} while {found.kill.device} is killed under a job{kept_out}"


def _survived(found: KilledBoard) -> list[str]:
    """Sentences: who was killed when, what became of the job, and the plan since."""
    from edgemesh.planning.wording import as_milliseconds

    kill = found.kill
    if kill is None:
        return [found.note]
    lines = [f"{kill.device} got SIGKILL {kill.after * 1e3:.0f} ms into a job: {_answer(kill, found.note)}"]
    if kill.replanned is not None:
        soon = as_milliseconds(kill.replanned)
        lines.append(f"the plan without {kill.device} was there {soon} after it was killed")
    return lines


def _answer(kill: Kill, note: str) -> str:
    if kill.seconds is None:
        return note
    if kill.late is None:
        return "it had left the board already, so no job was hit"
    same = "the same bit for bit" if kill.difference == 0.0 else f"off by {kill.difference:.2g} at most"
    return (
        f"its answer came in attempt {kill.attempts}, {kill.late * 1e3:.0f} ms later than jobs before, {same}"
    )


def _emulated(found: ModelDemonstration) -> str:
    boards = ", ".join(found.assignment.emulated)
    return f"emulated: {boards} (times, links and watts are the boards'; this machine did the computing)"


def _save_picture(photograph: bytes, found: Acts, save: Path) -> None:
    from edgemesh.observe.annotate import annotate, side_by_side
    from edgemesh.observe.plan_table import route_text, way_row

    first, *others = found.models
    picture = annotate(photograph, first.ways[0].result.outputs)
    rows = _rows(first)
    for other in others:
        rows += [(f"{other.manifest.name}:",), *_rows(other)[1:]]
    heading = f"{first.manifest.name} across {len(first.whole_seconds)} boards"
    for title, periods in (
        (_busy_title(found.busy), found.busy.periods),
        (_killed_title(found.killed), found.killed.periods),
    ):
        rows.append((f"{title}:",))
        for period in periods:
            label = f"{period.label}: {route_text(period.route)}"
            rows.append(way_row(label, period.predicted, period.measured, period.joules))
    notes = [_noticed(found.busy), *_survived(found.killed), _emulated(first)]
    drawn = side_by_side(picture, heading, rows, notes=notes)
    try:
        save.write_bytes(drawn)
    except OSError as error:
        raise cannot_write(save, error) from None
