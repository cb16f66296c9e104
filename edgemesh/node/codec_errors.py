"""Publishes measured codec errors with the manifest of the model that they belong to."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from edgemesh.errors import ModelError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.protocol.accuracy import CodecErrors
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import Policy
from edgemesh.transport.address import BrokerAddress


@dataclass(frozen=True)
class Published:
    """What became of it, and the model's policy."""

    changed: bool
    """False when the manifest has the very same figures already."""
    policy: Policy


def publish_codec_errors(
    mesh: str, address: BrokerAddress, name: str, digest: str, figures: tuple[CodecErrors, ...]
) -> Published:
    """Retain the model's manifest with ``figures``.

    Its digest stays: devices keep the content, and the decision node plans again. Raises UnknownModelError,
    ModelError when the name has other content by now, OperatorError where the broker refuses, BrokerError.
    """
    return asyncio.run(_publish(mesh, address, name, digest, figures))


async def _publish(
    mesh: str, address: BrokerAddress, name: str, digest: str, figures: tuple[CodecErrors, ...]
) -> Published:
    async with MeshReader(mesh, address) as reader:
        # Read now: what was read before the measurement is minutes old.
        manifest = reader.reading.manifest(name)
        if manifest.digest != digest:
            raise ModelError(
                f"{name} was replaced by other content ({manifest.digest[:12]}) while {digest[:12]} was "
                "measured: check it again"
            )
        policy = reader.reading.policies.get(name, Policy())
        if manifest.codec_errors == figures:
            return Published(False, policy)
        measured = replace(manifest, codec_errors=figures).revised(manifest, time.time())
        await reader.publish_retained("model", encode_json(measured), model=name)
        return Published(True, policy)
