"""Keys that a person wrote into a file and nobody would read: a mistyped one must not be ignored.

Messages are another thing: a field that is not known is of a later version, and ignored.
"""

from __future__ import annotations

from collections.abc import Iterable


def unknown_key(place: str, key: str, known: Iterable[str]) -> str:
    """``image.means is not known; image has mean, scale``; ``place`` is empty for the file itself."""
    at, has = (f"{place}.{key}", place) if place else (key, "it")
    return f"{at} is not known; {has} has {', '.join(sorted(set(known))) or 'nothing'}"
