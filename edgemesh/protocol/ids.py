"""Identifiers of meshes, devices, models and requesters."""

from __future__ import annotations

import re

from edgemesh.errors import SettingsError

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DIGEST = re.compile(r"[0-9a-f]{64}")

APP_ORIGIN = "app"
"""Origin of inputs that arise on a topic and not on a device."""


def is_id(text: str) -> bool:
    """Whether ``text`` may name a mesh, device, model or requester."""
    return ID.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether ``text`` is a SHA-256 in lower-case hexadecimal."""
    return DIGEST.fullmatch(text) is not None


def checked_id(text: str, what: str) -> str:
    """``text`` itself; raises SettingsError naming ``what`` when it cannot be an id."""
    if not is_id(text):
        raise SettingsError(
            f"{what} {text[:80]!r} is no valid name: use 1 to 63 of a-z, 0-9 and '-', not starting with '-'"
        )
    return text
