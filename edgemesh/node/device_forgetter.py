"""Clears what a device that left for good has retained on the broker."""

from __future__ import annotations

import asyncio

from edgemesh.errors import SettingsError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.transport.address import BrokerAddress

_HEARD_SECONDS = 10.0
"""For a first heartbeat; a mesh takes a device for silent sooner."""


def forget_device(mesh: str, address: BrokerAddress, name: str) -> list[str]:
    """Clear the device's retained topics; the names of models whose profiles of it went.

    Raises SettingsError for a device that is online or not known, OperatorError where the broker refuses,
    BrokerError.
    """
    return asyncio.run(_forget(mesh, address, name))


async def _forget(mesh: str, address: BrokerAddress, name: str) -> list[str]:
    async with MeshReader(mesh, address) as reader:
        devices = reader.reading.view.devices
        if name not in devices:
            known = ", ".join(sorted(devices)) or "none"
            raise SettingsError(f"no device {name} in mesh {mesh}; it has: {known}")
        if await _is_heard(reader, name):
            raise SettingsError(f"{name} is online: stop its agent first, or it would say everything again")
        profiles = sorted(model for device, model in reader.reading.profiles if device == name)
        for model in profiles:
            await reader.publish_retained("profile", b"", device=name, model=model)
        for kind in ("about", "resources", "meter", "state"):
            await reader.publish_retained(kind, b"", device=name)
        return profiles


async def _is_heard(reader: MeshReader, name: str) -> bool:
    """Whether the device is online, and not only said to be.

    Where its power was cut and the broker restarted meanwhile, nobody has published its Will.
    """
    reading = reader.reading

    def decided() -> bool:
        return reading.view.devices[name].heartbeat is not None or name not in reading.online()

    await reader.until(decided, _HEARD_SECONDS)
    return name in reading.online()
