"""Several nodes on this machine, each a process of its own, that end together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from edgemesh.node.parent_death import PARENT_VARIABLE
from edgemesh.node.restarts import Restarts

_STOP_SECONDS = 5.0


@dataclass
class Member:
    """One process of the fleet."""

    name: str
    arguments: tuple[str, ...]
    """Of the ``edgemesh`` program."""
    process: subprocess.Popen[bytes]
    restarts: Restarts = field(default_factory=lambda: Restarts(time.monotonic()))


@dataclass
class Fleet:
    """Start members, look after them, stop them all; use it as a context manager."""

    mesh: str
    broker: str
    ca_file: str | None = None
    quiet: bool = False
    """Send the members' logs nowhere."""
    members: list[Member] = field(default_factory=list)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, name: str, *arguments: str) -> Member:
        """Start ``edgemesh ARGUMENTS`` on this mesh and broker."""
        member = Member(name, arguments, self._spawn(name, arguments))
        self.members.append(member)
        return member

    def start_mesh(self, boards: Sequence[str], *, gateway: bool = True) -> None:
        """A decision node, a gateway and one emulated device per board name."""
        self.start("decision", "decision", "run", "--id", "decision")
        if gateway:
            self.start("gateway", "gateway", "run", "--id", "gateway")
        for device, board in device_names(boards).items():
            self.start(device, "device", "run", "--id", device, "--emulate", board)

    def ended(self) -> list[Member]:
        """Members whose process ended though nobody stopped it."""
        return [member for member in self.members if member.process.poll() is not None]

    def restart(self, member: Member) -> None:
        """Start an ended member again; raises OSError where that fails, and counts it all the same."""
        member.restarts.begun(time.monotonic())
        member.process = self._spawn(member.name, member.arguments)

    def kill(self, name: str) -> None:
        """SIGKILL a member and all that it started, as a loss of power ends them; ``stop`` reaps it."""
        (member,) = (member for member in self.members if member.name == name)
        if member.process.poll() is None:
            os.killpg(member.process.pid, signal.SIGKILL)  # its session, and so its group, is its own

    def stop(self) -> None:
        """Ask all members to end, wait, and kill what does not."""
        for member in reversed(self.members):
            with contextlib.suppress(ProcessLookupError):
                member.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for member in self.members:
            try:
                member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
        self.members.clear()

    def _spawn(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "edgemesh.cli.main"]
        environment = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            "EDGEMESH_LOG_NAME": name,
            # Not as arguments: the URL may hold a password, and arguments are public.
            "EDGEMESH_MESH": self.mesh,
            "EDGEMESH_BROKER": self.broker,
        }
        if self.ca_file is not None:
            environment["EDGEMESH_CA"] = os.path.abspath(self.ca_file)
        return subprocess.Popen(
            [*command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if self.quiet else None,
            # Ctrl-C is for the one who started the fleet, who then stops the members in order.
            start_new_session=True,
        )


def device_names(boards: Sequence[str]) -> dict[str, str]:
    """Device id to board: the board's name, numbered where it comes more than once."""
    names: dict[str, str] = {}
    for board in boards:
        count = sum(1 for other in names.values() if other == board)
        names[board if count == 0 else f"{board}-{count + 1}"] = board
    return names
