"""Manifests and inputs for tests that run ranges of a ``.tflite``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from edgemesh.model.tflite_structure import structure_of
from edgemesh.protocol.manifest import Boundary, Manifest
from edgemesh.runtime.executor import OpenModel
from edgemesh.runtime.tflite import TfliteRuntime

Array = np.ndarray[Any, Any]
_CHUNK = 1 << 19


def manifest_of(content: bytes) -> Manifest:
    """What a mesh would know of ``content``."""
    structure = structure_of(content)
    chunks = tuple(
        hashlib.sha256(content[at : at + _CHUNK]).hexdigest() for at in range(0, len(content), _CHUNK)
    )
    return Manifest(
        name="tested",
        digest=hashlib.sha256(content).hexdigest(),
        format="tflite",
        size=len(content),
        units=structure.units,
        boundaries=structure.boundaries,
        chunk_bytes=_CHUNK,
        chunks=chunks,
    )


def opened(content: bytes, directory: Path, *, threads: int = 1) -> tuple[Manifest, OpenModel]:
    """``content`` stored in ``directory`` and opened."""
    path = directory / "model.tflite"
    path.write_bytes(content)
    manifest = manifest_of(content)
    return manifest, TfliteRuntime().open(path, manifest, threads)


def random_inputs(boundary: Boundary, seed: int) -> list[Array]:
    """Values as images have them after scaling."""
    chance = np.random.default_rng(seed)
    return [chance.uniform(-1.0, 1.0, tensor.shape).astype(tensor.dtype) for tensor in boundary]


def same_bits(left: list[Array], right: list[Array]) -> bool:
    """Whether all tensors agree in type, shape and every bit."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(left, right)
    )
