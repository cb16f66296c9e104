"""Code digest: what was played by other code is not the same, whatever else it has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def digest_of_code(places: Iterable[Path]) -> str:
    """SHA-256 of the Python in ``places``, files and folders, with the names that it has there."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{file.relative_to(place.parent)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
