"""Takes a model out of a mesh."""

from __future__ import annotations

import asyncio

from edgemesh.node.mesh_reader import MeshReader
from edgemesh.transport.address import BrokerAddress


def remove_model(mesh: str, address: BrokerAddress, name: str) -> list[str]:
    """Clear its manifest and policy; devices online that held it and drop it now.

    Raises UnknownModelError, BrokerError.
    """
    return asyncio.run(_remove(mesh, address, name))


async def _remove(mesh: str, address: BrokerAddress, name: str) -> list[str]:
    async with MeshReader(mesh, address) as reader:
        reading = reader.reading
        manifest = reading.manifest(name)
        others = [m.digest for m in reading.view.manifests.values() if m.name != name]
        # Before the removal: a device may have dropped it before we look again.
        holders = [] if manifest.digest in others else reading.holders(manifest.digest)
        await reader.publish_retained("model", b"", model=name)
        if name in reading.policies:
            await reader.publish_retained("policy", b"", model=name)
        if reading.decision is None or reading.decision.state != "online":
            # Nobody else would: the decision node clears what it published when it hears of the removal.
            for model, origin in list(reading.view.assignments):
                if model == name:
                    await reader.publish_retained("assignment", b"", model=model, origin=origin)
        return holders
