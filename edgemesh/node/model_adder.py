"""Adds a model to a mesh: publishes its manifest and serves its content until devices hold it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgemesh.errors import DecodeError, ModelError, NoRouteError, OperatorError
from edgemesh.node.disk_errors import disk_errors
from edgemesh.node.mesh_reader import MeshReader, check_reachable
from edgemesh.protocol.fields import from_plain, to_plain
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.transport.address import BrokerAddress

STALL_SECONDS = 15.0
"""Once one device holds the model, the others have this long without any movement."""
_DISK_SECONDS = 60.0


@dataclass(frozen=True)
class Spread:
    """How far the content has come."""

    able: tuple[str, ...]
    """Devices online with the model's runtime."""
    holders: tuple[str, ...]
    sent: dict[str, int]
    """Chunks that went out to each device from here; devices also fetch from each other."""
    chunks: int
    unable: tuple[str, ...]
    """Devices online without the runtime."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Devices that should hold it and do not yet."""
        return tuple(device for device in self.able if device not in self.holders)


@dataclass(frozen=True)
class Added:
    """What became of it."""

    spread: Spread
    replaced: str | None
    """Digest of what had the name before, where it was other content."""


def add_model(
    mesh: str,
    address: BrokerAddress,
    manifest: Manifest,
    content: Path,
    *,
    wait: float,
    everyone: bool,
    watch: Callable[[Spread], None],
) -> Added:
    """Publish and serve until the devices online hold it; ``watch`` is told of every change.

    Ends when all devices with the runtime hold it, or (not with ``everyone``) when one does and nothing has
    moved for ``STALL_SECONDS``, or after ``wait`` seconds. Raises NoRouteError when too few hold it then,
    OperatorError where the broker refuses the manifest, ModelError where nobody could read it, BrokerError.
    """
    _check_readable(manifest)
    with contextlib.ExitStack() as stack:
        with _copying(manifest):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgemesh-add-"))
        check_reachable(address)
        return asyncio.run(_add(mesh, address, manifest, content, Path(directory), wait, everyone, watch))


def _check_readable(manifest: Manifest) -> None:
    # It was put together without the checks of a reader, and takes the place of one that works.
    try:
        from_plain(Manifest, to_plain(manifest))
        decode_json(Manifest, encode_json(manifest))
    except DecodeError as error:
        raise ModelError(f"{manifest.name} cannot be published: {error}") from None


def _copying(manifest: Manifest) -> contextlib.AbstractContextManager[None]:
    # A copy: the file is the person's, and may change while it is served.
    return disk_errors(
        f"cannot copy the content of {manifest.name} to serve it",
        "make room there, or name another folder with TMPDIR",
    )


async def _add(
    mesh: str,
    address: BrokerAddress,
    manifest: Manifest,
    content: Path,
    directory: Path,
    wait: float,
    everyone: bool,
    watch: Callable[[Spread], None],
) -> Added:
    with _copying(manifest):
        serving = MeshReader(mesh, address, content=directory)
    async with serving as reader:
        keeper, store = reader.reading.keeper, reader.store
        assert keeper is not None and store is not None
        with _copying(manifest):
            shutil.copyfile(content, store.path(manifest.digest))
        reader.shell.carry_out(keeper.reconsider(manifest))
        if not await reader.until(lambda: manifest.digest in keeper.held, _DISK_SECONDS):
            raise OperatorError(f"the content of {manifest.name} cannot be served from {directory}")
        before = reader.reading.view.manifests.get(manifest.name)
        manifest = with_kept_figures(manifest, before).revised(before, time.time())
        await reader.publish_retained("model", encode_json(manifest), model=manifest.name)
        await _serve(reader, manifest, wait, everyone, watch)
        replaced = before.digest if before is not None and before.digest != manifest.digest else None
        return Added(_spread(reader, manifest), replaced)


def with_kept_figures(manifest: Manifest, before: Manifest | None) -> Manifest:
    """``manifest`` with what was measured of the same content, cut and fed in the same way, before."""
    if before is None or manifest.codec_errors:
        return manifest
    same = replace(before, codec_errors=(), revision=manifest.revision) == manifest
    return replace(manifest, codec_errors=before.codec_errors) if same else manifest


async def _serve(
    reader: MeshReader,
    manifest: Manifest,
    wait: float,
    everyone: bool,
    watch: Callable[[Spread], None],
) -> None:
    loop = asyncio.get_running_loop()
    began = moved_at = loop.time()
    seen: Spread | None = None

    def over() -> bool:
        nonlocal seen, moved_at
        spread = _spread(reader, manifest)
        if spread != seen:
            seen, moved_at = spread, loop.time()
            watch(spread)
        if spread.able and not spread.missing:
            return True
        stalled = loop.time() > moved_at + STALL_SECONDS
        return bool(spread.holders) and stalled and not everyone

    await reader.until(over, wait)
    assert seen is not None
    if not seen.holders or (everyone and seen.missing):
        raise NoRouteError(_failure(seen, manifest, loop.time() - began))


def _spread(reader: MeshReader, manifest: Manifest) -> Spread:
    reading = reader.reading
    able = tuple(reading.able(manifest))
    holders = tuple(device for device in reading.holders(manifest.digest) if device in able)
    sent = {device: len(chunks) for device, chunks in reading.sent.items()}
    unable = tuple(device for device in reading.online() if device not in able)
    return Spread(able, holders, sent, len(manifest.chunks), unable)


def _failure(spread: Spread, manifest: Manifest, seconds: float) -> str:
    if spread.holders:
        return (
            f"{', '.join(spread.missing)} did not fetch {manifest.name} in {seconds:.0f} s: look at their "
            "logs, and run  edgemesh model add  again"
        )
    if spread.able:
        return (
            f"nobody holds {manifest.name} after {seconds:.0f} s, though {', '.join(spread.able)} could: "
            "look at their logs (memory, disk), and run  edgemesh model add  again"
        )
    others = f" ({', '.join(spread.unable)} has none)" if spread.unable else ""
    return (
        f"nobody holds {manifest.name} yet: no device with a {manifest.format} runtime came online in "
        f"{seconds:.0f} s{others}; run  edgemesh model add  again when one is up"
    )
