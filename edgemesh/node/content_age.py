"""Which content on disk is old: what nobody has named or used for a long time.

It is kept so long because it is worth something: who adds the same file again, after a power cut of the whole
mesh, or a model that was removed for a while, finds it on the devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

KEPT_SECONDS: Final = 30 * 86400.0
RENEWED_SECONDS: Final = 86400.0
"""Between two renewals of a file's time: an SD card lives longer for each write that it is spared."""


def sort_by_age(
    times: Mapping[str, float], is_named: Callable[[str], bool], now: float
) -> tuple[list[str], list[str]]:
    """``(drop, renew)`` of files with the times when they were last named or used.

    A time that seems to lie ahead is left alone: a board without a clock begins in the past each time, and
    were the time put back, its content would be old as soon as somebody tells it the date.
    """
    drop = [name for name, at in times.items() if now - at > KEPT_SECONDS and not is_named(name)]
    renew = [name for name, at in times.items() if now - at > RENEWED_SECONDS and is_named(name)]
    return drop, renew
