"""Writes the unit tables that the simulator reads in place of captured models.

``PYTHONPATH=tools python -m benchmarks.unit_tables [NAME ...]`` captures networks of the zoo (needs torch)
and keeps what a simulation needs of their manifests: units and boundaries, no weights.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import edgemesh.simulation
from edgemesh.node.model_import import ImportOptions, import_model
from edgemesh.protocol.fields import to_plain
from edgemesh.zoo.sources import NETWORKS

FOLDER = Path(edgemesh.simulation.__file__).parent / "models"


def main(names: list[str]) -> None:
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as cache:
            _, manifest = import_model(f"zoo:{name}", name, Path(cache), ImportOptions())
        lines = [
            f'"source": "zoo:{name}, captured by edgemesh; made by tools/benchmarks/unit_tables.py"',
            f'"format": "{manifest.format}"',
            f'"size": {manifest.size}',
            f'"units": [\n{_rows(manifest.units)}\n]',
            f'"boundaries": [\n{_rows(manifest.boundaries)}\n]',
        ]
        (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{name}: {manifest.unit_count} units")


def _rows(items: object) -> str:
    return ",\n".join(json.dumps(row) for row in to_plain(items))


if __name__ == "__main__":
    main(sys.argv[1:])
