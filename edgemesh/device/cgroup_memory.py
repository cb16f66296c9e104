"""The memory that the cgroups of this process (a container, a service unit) leave it; Linux.

The machine's own counters in ``/proc/meminfo`` know nothing of it: a process that fills what they promise is
killed at its cgroup's limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgemesh.device.procfs import text_of


class MemoryLimit(NamedTuple):
    """What the tightest of the cgroups allows, in bytes."""

    total: int
    available: int


class _Files(NamedTuple):
    """Where one version of cgroups keeps its figures."""

    mounted: str
    limit: str
    used: str
    reclaimable: str
    """In ``memory.stat``, of the group and those below it: page cache that gives way first."""


_VERSION_1 = _Files(
    "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
)
_VERSION_2 = _Files("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")


def memory_limit(root: Path) -> MemoryLimit | None:
    """The limit of the own cgroup and those above it; None where none of them has one.

    Version 1 has no word for "no limit" but a number larger than any machine.
    """
    found = [
        limit
        for files, path in _own_groups(root)
        for group in _with_parents(root / files.mounted, path)
        if (limit := _limit_of(group, files)) is not None
    ]
    if not found:
        return None
    return MemoryLimit(min(limit.total for limit in found), min(limit.available for limit in found))


def _own_groups(root: Path) -> Iterator[tuple[_Files, str]]:
    for line in text_of(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) == ("0", ""):
            yield _VERSION_2, path
        elif "memory" in controllers.split(","):
            yield _VERSION_1, path


def _with_parents(mounted: Path, path: str) -> list[Path]:
    """The folders of a cgroup and all above it.

    A container may be told a path of its host, of which it sees only what is mounted: its own cgroup.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return [mounted.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _limit_of(group: Path, files: _Files) -> MemoryLimit | None:
    total = text_of(group / files.limit)
    if not total.isdecimal():
        return None
    used = text_of(group / files.used)
    taken = int(used) - _reclaimable(group, files) if used.isdecimal() else 0
    return MemoryLimit(int(total), max(int(total) - max(taken, 0), 0))


def _reclaimable(group: Path, files: _Files) -> int:
    for line in text_of(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == files.reclaimable and value.isdecimal():
            return int(value)
    return 0
