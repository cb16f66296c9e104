"""Names and places of a device: its default id, its directories."""

from __future__ import annotations

import os
import re
import socket
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from edgemesh.protocol.ids import is_role

HOME_VARIABLE = "EDGEMESH_HOME"
"""When set, configuration, data and cache all lie below it."""

_FALLBACK_ID = "device"
_ID_CHARS = 63


def default_device_id(hostname: str | None = None) -> str:
    """The id of a device nobody named: the first label of its host name, made to fit ``protocol.ids``.

    Two boards of one image have one host name, hence one id: whoever joins a mesh must still check that
    the id is free.
    """
    label = (socket.gethostname() if hostname is None else hostname).split(".")[0]
    ascii_label = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode("ascii")
    text = re.sub(r"[^a-z0-9]+", "-", ascii_label.lower()).strip("-")
    if is_role(text):
        text = f"{_FALLBACK_ID}-{text}"  # in front, because whatever begins with gateway- may be a gateway's
    return text[:_ID_CHARS].rstrip("-") or _FALLBACK_ID


def config_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a person's own settings and boards are read; not created."""
    return _directory(environ, "config", "XDG_CONFIG_HOME", ".config")


def data_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what must not be lost lies: the history, and the store of ``edgemesh broker``; not created."""
    return _directory(environ, "data", "XDG_DATA_HOME", ".local/share")


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a device keeps what it can get or measure again, such as models and profiles; not created."""
    return _directory(environ, "cache", "XDG_CACHE_HOME", ".cache")


def _directory(environ: Mapping[str, str], kind: str, variable: str, below_home: str) -> Path:
    own = environ.get(HOME_VARIABLE)
    if own:
        return Path(own).expanduser().absolute() / kind
    base = Path(environ.get(variable, ""))
    # The XDG base directory specification: a relative path is invalid and to be ignored.
    if not base.is_absolute():
        base = _home(environ) / below_home
    return base / "edgemesh"


def _home(environ: Mapping[str, str]) -> Path:
    # Path.home() raises when the user has no entry and HOME is unset, as in some service units.
    home = environ.get("HOME")
    return Path(home) if home else Path(os.path.expanduser("~"))
