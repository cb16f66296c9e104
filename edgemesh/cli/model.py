"""``edgemesh model``: add, list, show, check and remove models."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.finite_range import FiniteRange
from edgemesh.cli.model_check import check
from edgemesh.cli.model_source import imported, is_in_mesh, name_of
from edgemesh.cli.near_commands import NearGroup
from edgemesh.cli.output import Progress, json_option, print_json, print_text, table_text
from edgemesh.cli.settings import Settings
from edgemesh.cli.treatment_options import TreatmentFlags, treatment_options
from edgemesh.cli.writable import cannot_write
from edgemesh.protocol.ids import checked_id

if TYPE_CHECKING:
    from edgemesh.node.mesh_reading import MeshReading
    from edgemesh.node.model_adder import Spread
    from edgemesh.node.model_remover import Removed
    from edgemesh.protocol.accuracy import AccuracyBudget
    from edgemesh.protocol.manifest import Manifest


@click.group(cls=NearGroup, called={"ls": "edgemesh model list", "rm": "edgemesh model remove"})
def model() -> None:
    """Add, list, show, check and remove models."""


model.add_command(check)

# --- add --------------------------------------------------------------------------------------------------


@model.command()
@click.argument("source")
@click.option("--name", metavar="NAME", help="Name in the mesh (default: from the source).")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="safetensors state dict for a torch source; those of the zoo and of torchvision have random weights "
    "without it.",
)
@click.option(
    "--wheel", type=click.Path(path_type=Path), help="The wheel of a zoo: entry, already downloaded."
)
@click.option("--trust", is_flag=True, help="Load a .pt2 file, which may run code of whoever made it.")
@treatment_options
@click.option(
    "--wait", type=FiniteRange(0, 86_400), metavar="SECONDS", default=300.0, show_default=True,
    help="Give up when no device holds it after this time.",
)  # fmt: skip
@click.option(
    "--all", "everyone", is_flag=True, help="Succeed only when every device with the runtime holds it."
)
@click.pass_obj
def add(
    settings: Settings,
    source: str,
    name: str | None,
    weights: Path | None,
    wheel: Path | None,
    trust: bool,
    flags: TreatmentFlags,
    wait: float,
    everyone: bool,
) -> None:
    """Publish a model and serve its content until devices hold it.

    SOURCE is a .tflite file, zoo:NAME, torchvision:NAME, module:callable that returns a torch module, a
    captured .safetensors file, or a .pt2 file.
    """
    from edgemesh.node.mesh_reader import check_reachable
    from edgemesh.node.model_adder import add_model
    from edgemesh.node.model_import import ImportOptions
    from edgemesh.node.parent_death import end_with_parent

    end_with_parent()  # edgemesh up starts us, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the clean-up of temporary files
    name = checked_id(name, "model name") if name else name_of(source)
    options = ImportOptions(weights, wheel, trust, flags.from_file())
    check_reachable(settings.address)
    with imported(source, name, options) as (content, manifest), Progress() as progress:
        manifest = flags.applied(manifest, content)
        progress.say(f"{name}: {manifest.unit_count} units, {_size(manifest.size)} ({manifest.format})")
        watch = _SpreadLines(progress, manifest)
        added = add_model(
            settings.mesh, settings.address, manifest, content, wait=wait, everyone=everyone, watch=watch.show
        )
    if added.replaced is not None:
        click.echo(f"{name}: replaced other content of that name ({added.replaced[:12]})")
    click.echo(f"{name}: held by {', '.join(added.spread.holders)}")
    if added.spread.missing:
        click.echo(f"{name}: not fetched by {', '.join(added.spread.missing)}; they go on by themselves")


class _SpreadLines:
    """Progress of each device; the lines that stay are about devices that hold the model."""

    def __init__(self, progress: Progress, manifest: Manifest) -> None:
        self._progress = progress
        self._manifest = manifest
        self._told: set[str] = set()

    def show(self, spread: Spread) -> None:
        if not spread.able:
            self._tell(
                "",
                f"no device with a {self._manifest.format} runtime is online; serving until one comes "
                "(start one with  edgemesh device run)",
            )
        for device in spread.holders:
            self._tell(device, f"{device} holds {self._manifest.name}")
        parts = [f"{device} {spread.sent.get(device, 0)}/{spread.chunks}" for device in spread.missing]
        if parts:
            self._progress.show(f"chunks sent: {', '.join(parts)}")

    def _tell(self, about: str, text: str) -> None:
        if about not in self._told:
            self._told.add(about)
            self._progress.say(text)


# --- list -------------------------------------------------------------------------------------------------


@model.command("list")
@json_option
@click.pass_obj
def list_models(settings: Settings, as_json: bool) -> None:
    """List the models of the mesh."""
    from edgemesh.node.mesh_reader import read_mesh

    reading = read_mesh(settings.mesh, settings.address)
    rows = [_listed(reading, manifest) for _, manifest in sorted(reading.view.manifests.items())]
    if as_json:
        print_json(rows)
    elif rows:
        heading = ("model", "format", "units", "size", "input", "held by", "planned for", "digest")
        click.echo(table_text(heading, [_list_row(row) for row in rows]))
    else:
        click.echo(f"no models in mesh {settings.mesh}: add one with  edgemesh model add zoo:face", err=True)


def _listed(reading: MeshReading, manifest: Manifest) -> dict[str, Any]:
    from edgemesh.model.inputs import described

    image = manifest.image
    taken = f"picture {image.width}x{image.height}" if image else described(manifest.boundaries[0])
    return {
        "model": manifest.name,
        "digest": manifest.digest,
        "format": manifest.format,
        "units": manifest.unit_count,
        "size": manifest.size,
        "input": taken,
        "held_by": reading.holders(manifest.digest),
        "planned_for": sorted(origin for model, origin in reading.view.assignments if model == manifest.name),
    }


def _list_row(row: dict[str, Any]) -> tuple[str, ...]:
    held, planned = ", ".join(row["held_by"]) or "nobody online", ", ".join(row["planned_for"]) or "-"
    return (
        row["model"], row["format"], str(row["units"]), _size(row["size"]), row["input"], held, planned,
        row["digest"][:12],
    )  # fmt: skip


# --- show -------------------------------------------------------------------------------------------------


@model.command()
@click.argument("source", metavar="NAME|FILE")
@click.option("--png", type=click.Path(path_type=Path), help="Also draw it into this picture.")
@json_option
@click.pass_obj
def show(settings: Settings, source: str, png: Path | None, as_json: bool) -> None:
    """Draw the units of a model with seconds, and bytes and lossy codecs within the budget at each cut.

    A file or zoo: entry needs no broker; a NAME of the mesh is shown with the seconds of the devices online.
    """
    manifest, seconds, budget = _shown(settings, source)
    if png is not None:
        from edgemesh.observe.chart import model_chart_png

        try:
            model_chart_png(manifest, seconds, png)
        except OSError as error:
            raise cannot_write(png, error) from None
    codecs = _codecs_within(manifest, budget)
    if as_json:
        print_json({"manifest": manifest, "seconds": seconds, "accuracy": budget, "codecs": codecs})
        return
    from edgemesh.observe.textchart import model_chart_text

    encoding = sys.stdout.encoding or "ascii"
    width = min(_columns(), 140)
    # Where nothing was measured a column of blanks would read as a verdict.
    measured = codecs if manifest.codec_errors else None
    print_text(model_chart_text(manifest, seconds, width, encoding, measured))


def _shown(settings: Settings, source: str) -> tuple[Manifest, dict[str, tuple[float, ...]], AccuracyBudget]:
    from edgemesh.protocol.requests import Policy

    if is_in_mesh(source):
        from edgemesh.node.mesh_reader import read_mesh

        reading = read_mesh(settings.mesh, settings.address)
        manifest = reading.manifest(source)
        return manifest, reading.seconds(manifest), reading.policies.get(source, Policy()).accuracy
    from edgemesh.node.model_import import ImportOptions

    with imported(source, name_of(source), ImportOptions()) as (_, manifest):
        return manifest, {}, Policy().accuracy


def _codecs_within(manifest: Manifest, budget: AccuracyBudget) -> list[list[str]]:
    """Names of the lossy codecs that may carry each cut."""
    from edgemesh.model.codec_accuracy import allowed_codecs, lossy_codecs

    names = lossy_codecs()
    allowed = allowed_codecs(manifest, names, budget)
    return [[name for name, within in zip(names, row) if within] for row in allowed.tolist()]


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


# --- remove -----------------------------------------------------------------------------------------------


@model.command()
@click.argument("name")
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Take a model out of the mesh; devices drop its content."""
    from edgemesh.node.model_remover import remove_model

    removed = remove_model(settings.mesh, settings.address, checked_id(name, "model name"))
    click.echo(f"{name} removed; {_content_text(removed)}")


def _content_text(removed: Removed) -> str:
    """What became of its content."""
    if removed.unreadable:
        return "its manifest could not be read"
    if removed.stays_as:
        return f"its content stays, as {', '.join(removed.stays_as)}"
    return f"dropped by {', '.join(removed.droppers)}" if removed.droppers else "no device online held it"


def _size(nbytes: int) -> str:
    from edgemesh.observe.amounts import bytes_text

    return bytes_text(nbytes)
