"""Models of a simulation: units and boundaries of real networks, without their weights."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from edgemesh.protocol import limits
from edgemesh.protocol.fields import from_plain
from edgemesh.protocol.jsontext import plain_json
from edgemesh.protocol.manifest import Manifest

MODELS = ("alexnet", "mobilenetv2", "vgg16")
"""Names of the tables beside this module; ``tools/benchmarks/unit_tables.py`` makes them."""


_others: dict[str, Manifest] = {}


def unit_table(model: str) -> Manifest:
    """The manifest of ``model``. Its digest is made up: there is no content, and nobody moves any."""
    return _others.get(model) or _shipped(model)


def use_unit_table(table: Manifest) -> None:
    """Let ``table``, which was measured elsewhere, stand for the model of its name in this process."""
    _others[table.name] = table


@cache
def _shipped(model: str) -> Manifest:
    assert model in MODELS, model
    file = resources.files("edgemesh.simulation") / "models" / f"{model}.json"
    table: Any = plain_json(file.read_bytes())
    digest = hashlib.sha256(f"simulated {model}".encode()).hexdigest()
    count = -(-table["size"] // limits.CHUNK_BYTES)
    return from_plain(
        Manifest,
        {
            "name": model,
            "digest": digest,
            "format": table["format"],
            "size": table["size"],
            "units": table["units"],
            "boundaries": table["boundaries"],
            "chunk_bytes": limits.CHUNK_BYTES,
            "chunks": [digest] * count,
        },
    )
