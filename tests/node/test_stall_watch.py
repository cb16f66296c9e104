"""An executor that is at one thing and does nothing, and one that only takes long."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from edgemesh.device.procfs import ProcessLook, process_look
from edgemesh.node.stall_watch import StallWatch

RUN, NEXT = object(), object()
DOES_NOTHING = ProcessLook("S", 7)


def looks_until_it_stalls(watch: StallWatch, sleeps: float = 0.0) -> int:
    return next(number for number in range(1, 100) if watch.stalls(RUN, DOES_NOTHING, sleeps))


def test_a_process_without_processor_time_stalls_after_twenty_seconds() -> None:
    assert looks_until_it_stalls(StallWatch(4.0, 20.0)) == 1 + 5


def test_a_run_that_may_sleep_has_that_much_longer() -> None:
    assert looks_until_it_stalls(StallWatch(4.0, 20.0), sleeps=10.0) == 1 + 8


def test_each_request_has_its_own_time() -> None:
    watch = StallWatch(4.0, 20.0)
    assert not any(watch.stalls(task, DOES_NOTHING) for _ in range(20) for task in (RUN, NEXT))


def test_an_idle_process_does_not_stall() -> None:
    watch = StallWatch(4.0, 20.0)
    assert not any(watch.stalls(None, DOES_NOTHING) for _ in range(20))


def test_progress_begins_the_time_anew() -> None:
    watch, ticks = StallWatch(4.0, 20.0), count()
    assert not any(watch.stalls(RUN, ProcessLook("R", next(ticks))) for _ in range(20))


@pytest.mark.parametrize("look", [*(ProcessLook(state, 7) for state in "RDt"), None])
def test_who_waits_for_a_processor_a_disk_or_a_debugger_or_cannot_be_seen_does_not_stall(
    look: ProcessLook | None,
) -> None:
    watch = StallWatch(4.0, 20.0)
    assert not any(watch.stalls(RUN, look) for _ in range(20))


def test_a_process_is_seen_whatever_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "proc/12"
    folder.mkdir(parents=True)
    rest = "1 12 12 0 -1 4194304 900 0 0 0 31 11 0 0 20 0 4 0 100"
    (folder / "stat").write_text(f"12 (a) R (b) S {rest}\n")
    assert process_look(tmp_path, 12) == ProcessLook("S", 42)
    assert process_look(tmp_path, 13) is None
    own = process_look(Path("/"), os.getpid())
    assert own is not None and own.state == "R" and own.ticks >= 0
