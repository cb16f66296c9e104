"""Fetches a model's content from whoever holds it in a mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from edgemesh.errors import NoRouteError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.protocol.manifest import Manifest
from edgemesh.roles.content import ContentKeeper
from edgemesh.transport.address import BrokerAddress

STALL_SECONDS = 15.0


def fetch_model(
    mesh: str, address: BrokerAddress, name: str, directory: Path, watch: Callable[[float], None]
) -> tuple[Path, Manifest]:
    """Verified content in ``directory``, and its manifest; ``watch`` is told the fraction that is here.

    Raises UnknownModelError, NoRouteError when nobody sends it, BrokerError.
    """
    return asyncio.run(_fetch(mesh, address, name, directory, watch))


async def _fetch(
    mesh: str, address: BrokerAddress, name: str, directory: Path, watch: Callable[[float], None]
) -> tuple[Path, Manifest]:
    async with MeshReader(mesh, address, content=directory) as reader:
        manifest = reader.reading.manifest(name)
        keeper, store = reader.reading.keeper, reader.store
        assert keeper is not None and store is not None
        reader.shell.carry_out(keeper.reconsider(manifest))
        here = 0.0
        while manifest.digest not in keeper.held:

            def moved(before: float = here) -> bool:
                return manifest.digest in keeper.held or _fraction(keeper, manifest) > before

            if not await reader.until(moved, STALL_SECONDS):
                holders = ", ".join(reader.reading.holders(manifest.digest)) or "no device online"
                raise NoRouteError(
                    f"the content of {name} does not arrive (held by {holders}): add it again, or give "
                    "its file"
                )
            here = _fraction(keeper, manifest)
            watch(here)
        return store.path(manifest.digest), manifest


def _fraction(keeper: ContentKeeper, manifest: Manifest) -> float:
    return 1.0 if manifest.digest in keeper.held else keeper.progress().get(manifest.digest, 0.0)
