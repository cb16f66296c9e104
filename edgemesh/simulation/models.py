"""Made-up models whose outputs tell which units ran on which input, in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edgemesh.protocol.manifest import Boundary, Format, Manifest, TensorSpec, Unit

_HASH = 32


def made_up_model(
    name: str = "face",
    *,
    cut_bytes: Sequence[int] = (48_000, 64_000, 16_000, 4_000, 256),
    content_bytes: int = 200_000,
    chunk_bytes: int = 64_000,
    version: str = "",
    kind: Format = "tflite",
) -> tuple[Manifest, bytes]:
    """Manifest and content of a model with one unit between each two of ``cut_bytes``.

    Each ``version`` has other content under the same name.
    """
    seed = hashlib.sha256(f"{name}{version}".encode()).digest()
    content = (seed * (content_bytes // _HASH + 1))[:content_bytes]
    chunks = [content[at : at + chunk_bytes] for at in range(0, content_bytes, chunk_bytes)]
    units = len(cut_bytes) - 1
    manifest = Manifest(
        name,
        hashlib.sha256(content).hexdigest(),
        kind,
        content_bytes,
        tuple(Unit(f"unit{i}", 1, 1_000_000, content_bytes // units, 100_000) for i in range(units)),
        tuple(_boundary(cut, nbytes) for cut, nbytes in enumerate(cut_bytes)),
        chunk_bytes,
        tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks),
    )
    return manifest, content


def _boundary(cut: int, nbytes: int) -> Boundary:
    return (TensorSpec(f"t{cut}", "uint8", (nbytes,)),)


def section_at(manifest: Manifest, cut: int, value: bytes) -> bytes:
    """A section of the size that cut ``cut`` has, holding ``value`` (at most 32 bytes)."""
    return value.ljust(max(_HASH, manifest.boundaries[cut][0].nbytes), b"\0")


def after_units(manifest: Manifest, start: int, stop: int, section: bytes | memoryview) -> bytes:
    """What units ``[start, stop)`` make of a section: a chain of hashes, so that no unit goes unnoticed."""
    value = bytes(section[:_HASH])
    for unit in range(start, stop):
        value = hashlib.sha256(f"{manifest.digest} {unit}".encode() + value).digest()
    return section_at(manifest, stop, value)


def hashed_outputs(
    manifest: Manifest, start: int, stop: int, section: bytes | memoryview, codec: str
) -> bytes:
    """``after_units`` whatever the codec."""
    return after_units(manifest, start, stop, section)


def input_of(manifest: Manifest, text: str) -> bytes:
    """The input section that ``text`` is for this content, and for no other: inputs are prepared for one."""
    return section_at(manifest, 0, hashlib.sha256(f"{manifest.digest} {text}".encode()).digest())


def result_of(manifest: Manifest, text: str) -> bytes:
    """The output section for that input."""
    return after_units(manifest, 0, manifest.unit_count, input_of(manifest, text))
