"""A container or service unit with a memory limit offers that, and not the memory of its machine.

Found by a reader: of 16 GB in a container of 512 MB a device offered 16 GB.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.device.cgroup_memory import MemoryLimit, memory_limit
from edgemesh.device.recognition import recognise_board
from edgemesh.device.resources import ResourceReader

MB = 1 << 20
NO_LIMIT_1 = 9223372036854771712
"""What version 1 says where there is none: the largest number of bytes in whole pages."""


def machine(root: Path, cgroup: str, files: dict[str, object]) -> Path:
    """A machine of 4000 MB of which 3000 are free; ``files`` lie in ``sys/fs/cgroup``."""
    texts = {
        "proc/meminfo": f"MemTotal: {4000 * 1024} kB\nMemFree: 1 kB\nMemAvailable: {3000 * 1024} kB\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in files.items()},
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def offered(root: Path) -> tuple[int, int, int]:
    """Memory of the board, then total and available memory of its readings, in MB."""
    readings = ResourceReader(root).read()
    board = recognise_board(root, {"EDGEMESH_BOARDS": "/nonexistent"})
    return board.memory_bytes // MB, readings.memory_total // MB, readings.memory_available // MB


def test_a_service_unit_offers_the_limit_of_its_cgroup_less_what_cannot_be_reclaimed(tmp_path: Path) -> None:
    unit = "system.slice/edgemesh.service"
    root = machine(
        tmp_path,
        f"0::/{unit}\n",
        {
            f"{unit}/memory.max": 512 * MB,
            f"{unit}/memory.current": 300 * MB,
            f"{unit}/memory.stat": f"anon {200 * MB}\ninactive_file {80 * MB}\nactive_file {20 * MB}",
            "system.slice/memory.max": "max",
        },
    )

    assert offered(root) == (512, 512, 292)


def test_the_limits_of_all_groups_above_count_too(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/a/b/c\n",
        {
            "a/memory.max": 900 * MB,
            "a/memory.current": 880 * MB,
            "a/b/memory.max": 600 * MB,
            "a/b/memory.current": 100 * MB,
            "a/b/c/memory.max": "max",
        },
    )

    assert offered(root) == (600, 600, 20)


def test_a_container_sees_its_own_cgroup_as_the_root(tmp_path: Path) -> None:
    files = {"memory.max": 512 * MB, "memory.current": 12 * MB}
    for number, path in enumerate(("/", "/docker/1f0c", "/../1f0c")):
        root = machine(tmp_path / str(number), f"0::{path}\n", files)

        assert offered(root) == (512, 512, 500), path


def test_the_first_version_of_cgroups_has_other_names(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "9:name=systemd:/\n4:cpu,memory:/jobs/7\n0::/\n",
        {
            "memory/memory.limit_in_bytes": NO_LIMIT_1,
            "memory/memory.usage_in_bytes": 3500 * MB,
            "memory/jobs/7/memory.limit_in_bytes": 256 * MB,
            "memory/jobs/7/memory.usage_in_bytes": 200 * MB,
            "memory/jobs/7/memory.stat": f"inactive_file 0\ntotal_inactive_file {50 * MB}",
        },
    )

    assert offered(root) == (256, 256, 106)


@pytest.mark.parametrize(
    ("cgroup", "files"),
    [
        ("", {}),
        ("0::/user.slice\n", {"user.slice/memory.max": "max", "user.slice/memory.current": 3900 * MB}),
        (
            "4:memory:/jobs\n",
            {
                "memory/jobs/memory.limit_in_bytes": NO_LIMIT_1,
                "memory/jobs/memory.usage_in_bytes": 3900 * MB,
            },
        ),
        ("0::/big\n", {"big/memory.max": 64_000 * MB, "big/memory.current": 3900 * MB}),
        ("no such line\n4:cpu:/x\n", {"memory.max": 5}),
    ],
)
def test_without_a_limit_nothing_changes(tmp_path: Path, cgroup: str, files: dict[str, object]) -> None:
    assert offered(machine(tmp_path, cgroup, files)) == (4000, 4000, 3000)


def test_more_in_use_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", {"memory.max": 100 * MB, "memory.current": 120 * MB})

    assert memory_limit(root) == MemoryLimit(100 * MB, 0)
