"""Processes of a testbed: started in a namespace, ended with the testbed, or by the kernel after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbeds.bound import ending_with_us

_STOP_SECONDS = 5.0


@dataclass
class Processes:
    """Start from one thread that stays: the kernel ends a child when the thread that started it is gone."""

    folder: Path
    """Of the logs."""
    environment: dict[str, str]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        name: str,
        command: Sequence[str],
        within: Sequence[str] = (),
        *,
        pipes: bool = False,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start a member; what it says goes to ``NAME.log``, or with ``pipes`` its output comes here."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*ending_with_us(signal.SIGTERM), *within, *command],
                env={**self.environment, **environment},
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log,
                stderr=log,
                # Ctrl-C is for the testbed, which then stops its members in order.
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def edgemesh(
        self, name: str, arguments: Sequence[str], within: Sequence[str] = (), **environment: str
    ) -> None:
        """Start ``edgemesh ARGUMENTS``."""
        command = [sys.executable, "-m", "edgemesh.cli.main", *arguments]
        self.start(name, command, within, EDGEMESH_LOG_NAME=name, **environment)

    def program(
        self, command: Sequence[str], within: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """A program of the user, its standard output a pipe; killed with the testbed."""
        process = subprocess.Popen(
            [*ending_with_us(signal.SIGKILL), *within, *command],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._programs.append(process)
        return process

    def is_running(self, name: str) -> bool:
        """Whether that member was started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def words(self, name: str) -> str:
        """The last lines of a member's log."""
        with contextlib.suppress(OSError):
            return " / ".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-3:])
        return ""

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL where that does not end it."""
        process = self._running.pop(name, None)
        if process is not None:
            process.terminate()
            _ended(process)

    def kill(self, name: str) -> None:
        """SIGKILL the process alone, as when the plug is pulled; its executor has to notice."""
        process = self._running.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """Programs first, then members, the last one started first: nodes can still say goodbye."""
        for process in self._programs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._programs.clear()
        last = [name for name in self._running if name == "broker" or name.startswith("relay-")]
        nodes = [name for name in self._running if name not in last]
        for name in nodes:  # at the same time: each may take a second
            self._running[name].terminate()
        for name in [*nodes, *reversed(last)]:
            self.stop(name)


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
