"""edgemesh: one neural network across the devices a person already has, over MQTT."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgemesh.node.client import AsyncClient, Client
    from edgemesh.node.prepared_job import Result

__all__ = ["AsyncClient", "Client", "Result", "__version__"]


def __getattr__(name: str) -> object:
    # Late, so that `edgemesh --help` and the pure half do not pay for paho and numpy.
    if name in {"AsyncClient", "Client"}:
        from edgemesh.node import client

        return getattr(client, name)
    if name == "Result":
        from edgemesh.node.prepared_job import Result

        return Result
    raise AttributeError(f"module 'edgemesh' has no attribute {name!r}")
