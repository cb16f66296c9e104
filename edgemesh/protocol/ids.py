"""Identifiers of meshes, devices, models and requesters."""

from __future__ import annotations

import re

from edgemesh.errors import SettingsError

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_ROLE = re.compile(r"app|decision|gateway-.*", re.DOTALL)

APP_ORIGIN = "app"
"""Origin of inputs that arise on a topic and not on a device."""


def is_id(text: str) -> bool:
    """Whether ``text`` may name a mesh, device, model or requester."""
    return ID.fullmatch(text) is not None


def is_role(text: str) -> bool:
    """Whether connections, jobs or topics of a role of the mesh have this name, so that no device may."""
    return _ROLE.fullmatch(text) is not None


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


def checked_device(text: str, what: str) -> str:
    """``text`` itself; raises SettingsError naming ``what`` when a device cannot have this name."""
    if is_role(checked_id(text, what)):
        raise SettingsError(
            f"{what} {text!r} is the name of a role of the mesh, and would take its connection or messages: "
            "give the device another with --id (not app, decision or gateway-...)"
        )
    return text
