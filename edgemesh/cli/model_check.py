"""``edgemesh model check``: what becomes of a model when it is cut, and what codecs do to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.model_source import content_of, is_in_mesh, name_of
from edgemesh.cli.output import Progress, json_option, print_json, print_text
from edgemesh.cli.settings import Settings
from edgemesh.errors import ModelError, UnknownModelError

if TYPE_CHECKING:
    from edgemesh.node.codec_errors import Published
    from edgemesh.protocol.manifest import Manifest


@click.command()
@click.argument("source", metavar="NAME|FILE")
@click.option(
    "--input", "given", type=click.Path(path_type=Path), help="Picture or npy file (default: noise)."
)
@click.option(
    "--codecs", is_flag=True, help="Measure instead what each lossy codec at each cut does to the outputs."
)
@click.option(
    "--sample", "samples", multiple=True, metavar="FILE|FOLDER",
    help="With --codecs, repeatable: inputs to measure on (default: the demo's photograph, varied).",
)  # fmt: skip
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Threads of the runtime that computes.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    source: str,
    given: Path | None,
    codecs: bool,
    samples: tuple[str, ...],
    threads: int,
    as_json: bool,
) -> int:
    """Run a model cut at every place and compare with the whole: exact, close or refused.

    With --codecs, what is measured of a model of the mesh is published with it: the decision node uses a
    lossy codec only where its measured error is within the policy's budget. Exit status 1 when a cut, or the
    model, is refused.
    """
    if codecs:
        if given is not None:
            raise click.UsageError("--codecs measures on several inputs: name them with --sample")
        return _check_codecs(ctx.obj, source, samples, threads, as_json=as_json)
    if samples:
        raise click.UsageError("--sample is for --codecs; one input is named with --input")
    return _check_cuts(ctx.obj, source, given, threads, as_json=as_json)


def _check_cuts(settings: Settings, source: str, given: Path | None, threads: int, *, as_json: bool) -> int:
    from edgemesh.cli.check_tables import check_plain, check_text
    from edgemesh.node.model_check import ModelCheck, check_model

    with Progress() as progress:
        try:
            with content_of(settings, source, progress) as (path, manifest):
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
        print_json(check_plain(found))
    else:
        print_text(check_text(found))
    return 0 if found.holds else 1


def _check_codecs(
    settings: Settings, source: str, samples: tuple[str, ...], threads: int, *, as_json: bool
) -> int:
    from edgemesh.cli.check_tables import codecs_plain, codecs_text
    from edgemesh.cli.infer import expanded_inputs
    from edgemesh.model.codec_accuracy import allowed_codecs, lossy_codecs
    from edgemesh.node.codec_check import check_codecs
    from edgemesh.node.codec_errors import Published, publish_codec_errors
    from edgemesh.node.samples import default_samples, given_samples
    from edgemesh.protocol.requests import Policy

    with Progress() as progress, content_of(settings, source, progress) as (path, manifest):
        paths = [Path(name) for name in expanded_inputs(samples)]
        tried = given_samples(manifest, paths) if paths else default_samples(manifest)
        count = manifest.unit_count - 1
        found = check_codecs(
            path,
            manifest,
            tried,
            threads,
            lambda cut: progress.show(f"{manifest.name}: cut {cut} of {count}"),
        )
    published = Published(changed=False, policy=Policy())
    try:
        if found.codec_errors and is_in_mesh(source):
            published = publish_codec_errors(
                settings.mesh, settings.address, source, found.digest, found.codec_errors
            )
    finally:
        # Minutes of measuring are not lost with the broker.
        measured = replace(manifest, codec_errors=found.codec_errors)
        budget = published.policy.accuracy
        allowed = allowed_codecs(measured, lossy_codecs(), budget)
        if as_json:
            print_json({**codecs_plain(found, budget, allowed), "published": published.changed})
        else:
            print_text(codecs_text(found, budget, allowed))
    if found.codec_errors and not as_json:
        click.echo(_published_text(source, published))
    return 0 if found.refused is None else 1


def _published_text(source: str, published: Published) -> str:
    from edgemesh.model.codec_accuracy import lossy_codecs

    if not is_in_mesh(source):
        return "not published: add the model, and check it by its name, for the decision node to use this"
    text = "published with the model" if published.changed else "the model has these very figures already"
    named = {codec.partition("+")[0] for codec in published.policy.codecs}
    if named.isdisjoint(lossy_codecs()):
        text += f"; none is used until the policy names it:  edgemesh plan {source} --codecs raw,f16,q8"
    return text


def _inputs(manifest: Manifest, given: Path | None) -> list[Any]:
    if given is None:
        from edgemesh.runtime.made_up import made_up_inputs

        return made_up_inputs(manifest.boundaries[0])
    from edgemesh.node.input_files import file_bytes
    from edgemesh.runtime.payloads import input_tensors

    return input_tensors(manifest, file_bytes(given)).tensors


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
