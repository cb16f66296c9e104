"""Runs of a tool that starts processes, and what must be left of them: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_SECONDS = 240


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that were started with ``folder`` for temporary files."""
    found = psutil.process_iter(["environ", "status"])
    alive = [process for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]
    return [process for process in alive if (process.info["environ"] or {}).get("TMPDIR") == str(folder)]


def started(tool: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run of ``tools/<tool>`` that keeps its files in ``folder``."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / tool), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def output_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output and standard error of a run, once it is over; it is ended when that takes too long."""
    try:
        return process.communicate(timeout=_LONGEST_SECONDS)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def assert_takes_all_with_it(
    process: subprocess.Popen[str], folder: Path, number: signal.Signals, *, least: int, files: bool = True
) -> None:
    """A run of ``least`` processes or more that is ended by a signal leaves nothing in ``folder``.

    With ``files`` false it may leave files there, but no process.
    """
    assert process.stdout is not None
    assert process.stdout.readline()
    deadline = time.monotonic() + 60
    while len(processes_of(folder)) < least:
        assert time.monotonic() < deadline and process.poll() is None, processes_of(folder)
        time.sleep(0.05)

    _assert_leaves_nothing(process, folder, number, files=files)


def assert_leaves_nothing_from_the_start(
    process: subprocess.Popen[str], folder: Path, number: signal.Signals
) -> None:
    """A run that is ended by a signal as soon as it has files in ``folder`` leaves nothing there."""
    deadline = time.monotonic() + 60
    while not list(folder.iterdir()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)

    _assert_leaves_nothing(process, folder, number, files=True)


def _assert_leaves_nothing(
    process: subprocess.Popen[str], folder: Path, number: signal.Signals, *, files: bool
) -> None:
    process.send_signal(number)
    status = process.wait(30)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()

    assert status == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left := [*processes_of(folder), *(folder.iterdir() if files else ())]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
