"""The processes of the mesh: started, killed, paused, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from benchmarks.report import NotMeasurableError

from edgemesh.node.parent_death import PARENT_VARIABLE
from edgemesh.transport.greeting import greeting
from edgemesh.transport.local_broker import (
    installed_mosquitto,
    mosquitto_environment,
    shipped_configuration,
    with_settings,
)
from outages.guard import Guard

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
STORE = "mosquitto.db"


@dataclass
class Member:
    """One process of the mesh, perhaps started several times."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self.process.pid

    def executors(self) -> list[int]:
        """Process ids of its children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []


class Members:
    """All processes of a run but the guard; use it inside of the guard's context."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._folder = guard.folder
        self._members: dict[str, Member] = {}

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Member:
        """Start ``command``; it and its children are a process group of their own."""
        log = self._folder / f"{name}.log"
        member = Member(name, tuple(command), environment, log, self._spawned(command, environment, log))
        self._members[name] = member
        return member

    def edgemesh(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> Member:
        """Start ``edgemesh ARGUMENTS``."""
        return self.start(name, [sys.executable, "-m", "edgemesh.cli.main", *arguments], environment)

    def restart(self, name: str) -> None:
        """Start an ended member again."""
        member = self._members[name]
        member.process = self._spawned(member.command, member.environment, member.log)

    def remove(self, name: str) -> None:
        """End a member that is not needed any more."""
        self.terminate(name)
        del self._members[name]

    def kill(self, name: str) -> None:
        """SIGKILL the process alone: its executor has to notice by itself."""
        self._end(self._members[name], signal.SIGKILL)

    def terminate(self, name: str) -> int:
        """SIGTERM, and the exit status; a member that takes longer than 5 s is killed."""
        return self._end(self._members[name], signal.SIGTERM)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._members[name].process.send_signal(number)

    def unexpected_ends(self) -> list[str]:
        """Members whose process is not there."""
        return [name for name, member in self._members.items() if member.process.poll() is not None]

    def connected_to(self, port: int) -> set[str]:
        """Members whose process has a connection to ``port`` of this machine."""
        pids = {
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port == port
        }
        return {name for name, member in self._members.items() if member.pid in pids}

    def stop(self) -> None:
        """End them all: those started last first, so that nodes can still say goodbye to the broker."""
        for member in reversed(self._members.values()):
            if member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)
        nodes = [m for m in self._members.values() if m.name != "broker" and m.process.poll() is None]
        for member in nodes:
            member.process.terminate()
        for member in nodes:
            self._ended(member)
        for member in self._members.values():
            if member.process.poll() is None:
                self._end(member, signal.SIGTERM)

    def _spawned(
        self, command: Sequence[str], environment: dict[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as words:
            process = subprocess.Popen(
                command,
                env={**environment, PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        self._guard.watch(process.pid)
        return process

    def _end(self, member: Member, number: signal.Signals) -> int:
        member.process.send_signal(number)
        return self._ended(member)

    def _ended(self, member: Member) -> int:
        try:
            status = member.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            member.process.kill()
            status = member.process.wait()
        # The number stays with the guard while a child in the group may live on.
        if not _group_lives(member.pid):
            self._guard.forget(member.pid)
        return status


class Broker:
    """Mosquitto with the file that edgemesh ships, its store in ``folder``."""

    def __init__(self, members: Members, folder: Path, port: int) -> None:
        program = installed_mosquitto()
        if program is None:
            raise NotMeasurableError("mosquitto is not installed: apt install mosquitto")
        self._members = members
        self.port = port
        self._store = folder / STORE
        settings = folder / "mosquitto.conf"
        settings.write_text(
            with_settings(
                shipped_configuration("mosquitto.conf"),
                {
                    "listener": f"{port} 127.0.0.1",
                    "persistence_location": f"{folder}/",
                    # Started by root it becomes the user mosquitto, who may not write in root's folders.
                    "user": "root" if os.geteuid() == 0 else None,
                },
            )
        )
        members.start("broker", [program, "-c", str(settings)], mosquitto_environment())
        self._wait()

    def stop(self) -> None:
        """End it by SIGTERM: it writes its store first."""
        self._members.terminate("broker")

    def kill(self) -> None:
        """SIGKILL: what it did not write is gone."""
        self._members.kill("broker")

    def empty_store(self) -> None:
        """Forget retained messages and sessions."""
        self._store.unlink(missing_ok=True)

    def restart(self) -> None:
        """Start it again, and return when it answers."""
        self._members.restart("broker")
        self._wait()

    def _wait(self) -> None:
        ends = time.monotonic() + _START_SECONDS
        while greeting("127.0.0.1", self.port, timeout=1.0) is None:
            if time.monotonic() > ends:
                raise NotMeasurableError(f"mosquitto did not answer within {_START_SECONDS:.0f} s")
            time.sleep(0.01)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
