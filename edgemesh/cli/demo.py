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

if TYPE_CHECKING:
    from edgemesh.node.demonstration import ModelDemonstration


@click.command()
@click.option("--image", type=click.Path(path_type=Path), help="A photograph of your own.")
@click.option("--save", type=click.Path(path_type=Path), default="edgemesh-demo.png", show_default=True)
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
    for "all on the camera" and "all on the fastest board".
    """
    from edgemesh.node.demonstration import Demonstration, as_plain
    from edgemesh.node.parent_death import end_with_parent

    began = time.monotonic()
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
    _save_picture(photograph, found, save)
    say(f"picture in {save}; all processes have ended")
    if as_json:
        click.echo(json.dumps({"models": [as_plain(each) for each in found], "picture": str(save)}))
    else:
        for each in found:
            click.echo(_text(each))


def _photograph(image: Path | None) -> bytes:
    if image is None:
        from edgemesh.zoo.photograph import demo_photograph

        image = demo_photograph()
    from edgemesh.node.client import file_bytes
    from edgemesh.runtime.images import upright_picture

    content = file_bytes(image)
    upright_picture(content)  # no picture: say so now, and not after half a minute
    return content


def _rows(found: ModelDemonstration) -> list[tuple[str, ...]]:
    from edgemesh.observe.plan_table import HEADING, hop_rows, way_row

    plan, *others = found.ways
    rows = hop_rows(found.manifest, found.assignment, plan.result.timings, plan.measured)
    return [HEADING, *rows, *(way_row(way.label, way.predicted, way.measured) for way in others)]


def _text(found: ModelDemonstration) -> str:
    heading, *rows = _rows(found)
    lines = [
        "",
        f"{found.manifest.name}: {found.manifest.unit_count} units, input on {found.assignment.origin}",
        table_text(heading, rows),
    ]
    lines += [f"idle: {idle.device}: {idle.reason}" for idle in found.assignment.idle]
    lines += [f"why: {found.assignment.reason}", _emulated(found)]
    return "\n".join(lines)


def _emulated(found: ModelDemonstration) -> str:
    boards = ", ".join(found.assignment.emulated)
    return f"emulated: {boards} (times, links and watts are the boards'; this machine did the computing)"


def _save_picture(photograph: bytes, found: list[ModelDemonstration], save: Path) -> None:
    from edgemesh.observe.annotate import annotate, side_by_side

    first = found[0]
    picture = annotate(photograph, first.ways[0].result.outputs)
    rows = _rows(first)
    for other in found[1:]:
        rows += [(f"{other.manifest.name}:",), *_rows(other)[1:]]
    title = f"{first.manifest.name} across {len(first.whole_seconds)} boards"
    save.write_bytes(side_by_side(picture, title, rows, notes=[_emulated(first)]))
