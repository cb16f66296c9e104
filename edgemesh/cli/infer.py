"""``edgemesh infer``: run a model on files, folders or standard input."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.finite_range import FiniteRange
from edgemesh.cli.output import Progress, json_option, print_json, print_text
from edgemesh.cli.result_files import ResultFiles
from edgemesh.cli.settings import Settings
from edgemesh.errors import EdgemeshError, InputError, SettingsError, SupersededError, UnknownModelError
from edgemesh.protocol.ids import APP_ORIGIN, checked_id

if TYPE_CHECKING:
    from edgemesh.node.client import Client, PendingResult
    from edgemesh.node.prepared_job import Result

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
_WINDOW = 4
"""Jobs under way at once: hides the way of the messages, and leaves the queue short for others."""


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    name: str
    payload: bytes
    result: Result | None
    error: EdgemeshError | None


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="DIR", help="Annotated pictures or npy files go here."
)
@click.option(
    "--origin",
    default=APP_ORIGIN,
    show_default=True,
    metavar="DEVICE",
    help="Device of this machine where inputs arise.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="With --origin: the --directory that its agent was started with (default: as that has).",
)
@click.option(
    "--timeout", type=FiniteRange(0.1, 3600), default=30.0, show_default=True, help="Seconds per job."
)
@click.option("--latest", is_flag=True, help="A newer input replaces an older one that still waits.")
@json_option
@click.pass_obj
def infer(
    settings: Settings,
    model: str,
    inputs: tuple[str, ...],
    save: Path | None,
    origin: str,
    directory: Path | None,
    timeout: float,
    latest: bool,
    as_json: bool,
) -> int:
    """Run MODEL on each INPUT: a picture, an npy file, a folder of these, or - for standard input.

    Exit status 1 when an input failed.
    """
    from edgemesh.node.client import Client
    from edgemesh.node.mesh_reader import check_reachable

    checked_id(model, "model name")
    if directory is not None and origin == APP_ORIGIN:
        raise SettingsError("--directory is that of a device's agent: name the device with --origin")
    address = settings.address
    if origin == APP_ORIGIN:
        check_reachable(address)
    names = list(expanded_inputs(inputs))
    files = None if save is None else ResultFiles(save, names)
    failed = 0
    with (
        Client(
            address, mesh=settings.mesh, origin=origin, device_directory=directory, timeout=timeout
        ) as client,
        Progress() as progress,
    ):
        client.manifest(model)
        for done, outcome in enumerate(_outcomes(client, model, names, latest=latest), 1):
            saved, error = _saved(files, outcome)
            # A frame that a newer one replaced is what --latest asks for.
            failed += error is not None and not isinstance(error, SupersededError)
            if as_json:
                print_json(_plain(outcome.name, outcome.result, error, saved))
            elif error is not None:
                progress.say(f"{outcome.name}: {error}")
            else:
                print_text(_line(outcome.name, outcome.result, saved))
            # On one terminal the results themselves show how far it is.
            if done < len(names) and sys.stderr.isatty() and not sys.stdout.isatty():
                progress.show(f"{done} of {len(names)}")
    return 1 if failed else 0


def expanded_inputs(inputs: Sequence[str]) -> Iterator[str]:
    """Files of folders in order of name; everything else as it is.

    Raises InputError for an empty folder, SettingsError for an empty name.
    """
    for given in inputs:
        if not given:  # a variable that is not set; as a path it would be the current folder
            raise SettingsError("an input has an empty name: name a file, a folder, or - for standard input")
        path = Path(given)
        if not path.is_dir():
            yield given
            continue
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in _PICTURES | {".npy"} and f.is_file())
        if not files:
            raise InputError(
                f"the folder {given} holds no picture and no npy file: name the files themselves"
            )
        yield from map(str, files)


def _outcomes(client: Client, model: str, names: Sequence[str], *, latest: bool) -> Iterator[Outcome]:
    """What becomes of each input, in order; one that fails does not stop the others."""
    from edgemesh.node.client import new_stream

    stream = new_stream() if latest else None
    under_way: deque[tuple[str, bytes, PendingResult | EdgemeshError]] = deque()
    gone: EdgemeshError | None = None
    for name in names:
        if len(under_way) >= _WINDOW:
            yield _ended(*under_way.popleft())
        begun = _begun(client, model, name, stream) if gone is None else (name, b"", gone)
        if isinstance(begun[2], UnknownModelError):
            gone = begun[2]  # each further input would wait for seconds whether the model comes back
        under_way.append(begun)
    while under_way:
        yield _ended(*under_way.popleft())


def _begun(
    client: Client, model: str, name: str, stream: str | None
) -> tuple[str, bytes, PendingResult | EdgemeshError]:
    from edgemesh.node.input_files import file_bytes

    payload = b""
    try:
        payload = _standard_input() if name == "-" else file_bytes(Path(name))
        return name, payload, client.begin(model, payload, stream=stream)
    except EdgemeshError as error:
        return name, payload, error


def _standard_input() -> bytes:
    from edgemesh.node.input_files import stream_bytes

    if sys.stdin is None:
        raise InputError("standard input is closed")
    try:
        return stream_bytes(sys.stdin.buffer, "standard input")
    except OSError as error:
        raise InputError(f"cannot read standard input: {error.strerror}") from None


def _ended(name: str, payload: bytes, pending: PendingResult | EdgemeshError) -> Outcome:
    if isinstance(pending, EdgemeshError):
        return Outcome(name, payload, None, pending)
    try:
        result = pending.result()
        _ = result.outputs  # worked out now: where they are not what the manifest says, this input has failed
        return Outcome(name, payload, result, None)
    except EdgemeshError as error:
        return Outcome(name, payload, None, error)


# --- printing ----------------------------------------------------------------------------


def _plain(name: str, result: Result | None, error: EdgemeshError | None, saved: list[str]) -> dict[str, Any]:
    plain: dict[str, Any] = {"input": name}
    if result is not None:
        plain |= {
            "model": result.model,
            "seconds": result.seconds,
            "predicted": result.predicted,
            "attempts": result.attempts,
            "alone": result.alone,
            "outputs": result.outputs,
            "route": result.route,
            "timings": result.timings,
        }
    if error is not None:
        plain |= {"code": error.code, "error": str(error)}
    if saved:
        plain["saved"] = saved
    return plain


def _line(name: str, result: Result | None, saved: list[str]) -> str:
    assert result is not None, "only a failed input has no result"
    from edgemesh.observe.amounts import seconds_text
    from edgemesh.observe.plan_table import route_text

    parts = [outputs_text(result.outputs), seconds_text(result.seconds), route_text(result.route)]
    if result.attempts > 1:
        parts.append(f"{result.attempts} attempts")
    if result.alone:
        parts.append(f"without the broker: all of it ran on {result.route[0].device}")
    if saved:
        parts.append(f"saved {', '.join(saved)}")
    return f"{name}: {'; '.join(parts)}"


def outputs_text(outputs: dict[str, Any]) -> str:
    """``2 faces (0.93, 0.88)``, ``tabby 0.71, tiger cat 0.12`` or the shapes of tensors."""
    parts = []
    if "detections" in outputs:
        found: dict[str, list[str]] = {}
        for item in outputs["detections"]:
            found.setdefault(str(item["label"]), []).append(f"{item['score']:.2f}")
        texts = [f"{len(scores)} {label} ({', '.join(scores[:5])})" for label, scores in found.items()]
        parts.append(", ".join(texts) or "nothing found")
    if "classes" in outputs:
        best = [f"{item['label']} {item['score']:.2f}" for item in outputs["classes"][:3]]
        parts.append(", ".join(best) or "no class")
    for tensor in outputs.get("tensors", [])[:4]:
        parts.append(f"{tensor['name']} {tensor['dtype']}{tensor['shape']}")
    return ", ".join(parts) or "no outputs"


def _saved(files: ResultFiles | None, outcome: Outcome) -> tuple[list[str], EdgemeshError | None]:
    """Files written, and the error of the outcome or of writing it."""
    if files is None or outcome.result is None:
        return [], outcome.error
    try:
        return files.save(outcome.name, outcome.payload, outcome.result), None
    except EdgemeshError as error:
        return [], error
