"""TOML that people write, read alike by every Python that we run on."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of ``text``; raises ValueError for whatever is no TOML.

    That is a number of more digits than Python reads, too, and tables in tables without end.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None
