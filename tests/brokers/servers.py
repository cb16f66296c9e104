"""Starts a real Mosquitto for tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.child_process import ChildBroker
from edgemesh.transport.local_broker import (
    installed_mosquitto,
    mosquitto_environment,
    shipped_configuration,
    with_settings,
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def required_program(name: str, package: str) -> str:
    """Path of a program; a test that needs it fails without, it is never skipped."""
    path = installed_mosquitto() if name == "mosquitto" else shutil.which(name)
    assert path is not None, f"{name} is not installed: run  apt-get install {package}"
    return path


class Mosquitto:
    """A context manager around one process."""

    def __init__(
        self, folder: Path, configuration: str, port: int, address: BrokerAddress | None = None
    ) -> None:
        self.folder, self.configuration, self.port = folder, configuration, port
        self.address = address or BrokerAddress("127.0.0.1", port)
        self.child: ChildBroker | None = None

    @classmethod
    def shipped(cls, folder: Path, **settings: str) -> Mosquitto:
        """With brokers/mosquitto.conf, a free port of this machine and files in ``folder``."""
        port = free_port()
        changed = {
            "listener": f"{port} 127.0.0.1",
            "persistence_location": f"{folder}/",
            "user": "root",
            **settings,
        }
        return cls(folder, with_settings(shipped_configuration("mosquitto.conf"), changed), port)

    def start(self) -> None:
        program = required_program("mosquitto", "mosquitto")
        file = self.folder / "mosquitto.conf"
        file.write_text(self.configuration)
        command = [program, "-c", str(file)]
        self.child = ChildBroker(command, "127.0.0.1", self.port, mosquitto_environment())
        self.child.wait_until_it_answers()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def run_tool(*command: str, timeout: float = 10) -> str:
    """Standard output of a client tool of Mosquitto."""
    path = required_program(command[0], "mosquitto-clients")
    return subprocess.run(
        [path, *command[1:]], capture_output=True, text=True, timeout=timeout, check=True
    ).stdout
