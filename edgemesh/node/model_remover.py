"""Takes a model out of a mesh."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.transport.address import BrokerAddress


@dataclass(frozen=True)
class Removed:
    """What became of the content."""

    droppers: tuple[str, ...] = ()
    """Devices online that held it and drop it now."""
    stays_as: tuple[str, ...] = ()
    """Other names of the same content, for which devices keep it."""
    unreadable: bool = False
    """The manifest could not be read, so nobody here knows what its content was."""


def remove_model(mesh: str, address: BrokerAddress, name: str) -> Removed:
    """Clear its policy and its manifest, also one that cannot be read.

    Raises UnknownModelError, OperatorError where the broker refuses, BrokerError.
    """
    return asyncio.run(_remove(mesh, address, name))


async def _remove(mesh: str, address: BrokerAddress, name: str) -> Removed:
    async with MeshReader(mesh, address) as reader:
        reading = reader.reading
        # Before the removal: a device may have dropped it before we look again.
        removed = Removed(unreadable=True) if name in reading.unreadable else _removed(reading, name)
        await reader.publish_retained("model", b"", model=name)
        if name in reading.policies:
            await reader.publish_retained("policy", b"", model=name)
        if reading.decision is None or reading.decision.state != "online":
            # Nobody else would: the decision node clears what it published when it hears of the removal.
            for model, origin in list(reading.view.assignments):
                if model == name:
                    await reader.publish_retained("assignment", b"", model=model, origin=origin)
        return removed


def _removed(reading: MeshReading, name: str) -> Removed:
    digest = reading.manifest(name).digest
    others = [other for other, m in reading.view.manifests.items() if other != name and m.digest == digest]
    return Removed(() if others else tuple(reading.holders(digest)), tuple(sorted(others)))
