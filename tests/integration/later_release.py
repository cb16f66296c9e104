"""The program as a later release would be: ``python -m tests.integration.later_release minor device run``.

``minor``: its minor version is one higher, and every message, header and entry that it writes has fields that
this release does not know. ``major``: its major version is one higher, with a root and a preamble of its own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from edgemesh.protocol import topics

MARK = "x_later"
"""Name of the unknown field; what it holds is nested as a later release may do it."""
_HOLDS = {"since": "the next release", "figures": [1.5, {"a": None}], "on": True}


def with_more(message: object, plain: Any) -> Any:
    """``plain`` of ``message`` with an unknown field in the object of every dataclass."""
    if dataclasses.is_dataclass(message):
        told = {name: with_more(getattr(message, name), value) for name, value in plain.items()}
        return {MARK: _HOLDS, **told}
    if isinstance(message, (tuple, list)):
        return [with_more(item, value) for item, value in zip(message, plain)]
    if isinstance(message, Mapping):
        return {key: with_more(item, plain[key]) for key, item in message.items()}
    return plain


def _become_next_minor() -> None:
    topics.MINOR += 1  # type: ignore[misc]
    from edgemesh.protocol import frame, jsontext

    as_today = frame.to_plain

    def as_later(message: object) -> Any:
        return with_more(message, as_today(message))

    frame.to_plain = jsontext.to_plain = as_later


def _become_next_major() -> None:
    topics.MAJOR += 1  # type: ignore[misc]


if __name__ == "__main__":
    {"minor": _become_next_minor, "major": _become_next_major}[sys.argv.pop(1)]()
    from edgemesh.cli.main import main  # only now: modules take the version over when they are imported

    main()
