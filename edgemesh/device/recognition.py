"""Which board this machine is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from edgemesh.device.boards import Board, Figure, load_boards
from edgemesh.device.cgroup_memory import memory_limit
from edgemesh.device.procfs import meminfo, text_of

GENERIC_BOARD = "generic"
"""Name of a machine that no board file describes."""

_HERE = "this machine"


@dataclasses.dataclass(frozen=True)
class _Marks:
    """What the machine says of itself; empty where it says nothing."""

    device_tree: str
    products: tuple[str, ...]
    vendor: str
    processor: str
    chassis: int | None


def recognise_board(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Board:
    """The board that this machine is, with the cores and memory it really has.

    ``root`` holds ``proc`` and ``sys``. A machine that no board file describes is the board ``generic``:
    only cores and memory, no speed, no watts. Raises SettingsError when a board file is wrong.
    """
    marks = _marks(root)
    boards = load_boards(environ)
    measured = _measured(root)
    # From the surest mark to the vaguest: a virtual machine also has the chassis of a desktop (Hyper-V).
    for is_it in (_by_device_tree, _by_dmi, _by_processor, _by_chassis):
        for board in boards:
            if is_it(board, marks):
                return dataclasses.replace(board, figures={**board.figures, **measured})
    return Board(GENERIC_BOARD, marks.device_tree or marks.processor or "unknown machine", measured)


def _by_device_tree(board: Board, marks: _Marks) -> bool:
    return _matches(marks.device_tree, board.recognition.device_tree)


def _by_dmi(board: Board, marks: _Marks) -> bool:
    by_product = any(_matches(product, board.recognition.dmi_product) for product in marks.products)
    return by_product or _matches(marks.vendor, board.recognition.dmi_vendor)


def _by_processor(board: Board, marks: _Marks) -> bool:
    return _matches(marks.processor, board.recognition.processor)


def _by_chassis(board: Board, marks: _Marks) -> bool:
    return marks.chassis in board.recognition.chassis


def _matches(text: str, patterns: Iterable[str]) -> bool:
    return bool(text) and any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def _marks(root: Path) -> _Marks:
    dmi = root / "sys/class/dmi/id"
    chassis = text_of(dmi / "chassis_type")
    names = (text_of(dmi / name) for name in ("product_name", "product_family", "board_name"))
    return _Marks(
        device_tree=text_of(root / "proc/device-tree/model")
        or text_of(root / "sys/firmware/devicetree/base/model"),
        products=tuple(name for name in names if name),
        vendor=text_of(dmi / "sys_vendor"),
        processor=_processor(root),
        chassis=int(chassis) if chassis.isdecimal() else None,
    )


def _processor(root: Path) -> str:
    for line in text_of(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _measured(root: Path) -> dict[str, Figure]:
    figures = {"hardware.cores": Figure(_cores(root), "cores that this process may use", _HERE)}
    figures["hardware.memory_bytes"] = _memory(root)
    return figures


def _memory(root: Path) -> Figure:
    whole = _machine_memory(root)
    limit = memory_limit(root)
    if limit is None or limit.total >= whole.value:
        return whole
    return Figure(limit.total, "the memory limit of this process's cgroup", _HERE)


def _machine_memory(root: Path) -> Figure:
    method = "total memory as the kernel counts it"
    if total := meminfo(root).get("MemTotal"):
        return Figure(total, method, _HERE)
    try:
        return Figure(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), method, _HERE)
    except (AttributeError, ValueError, OSError):
        return Figure(1 << 30, "the system does not tell; assumed", estimate=True)


def _cores(root: Path) -> int:
    listed = sum(line.startswith("processor") for line in text_of(root / "proc/cpuinfo").splitlines())
    if root != Path("/") and listed:
        return listed
    if hasattr(os, "sched_getaffinity"):
        # A container or a service unit may hold fewer cores than the machine has.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
