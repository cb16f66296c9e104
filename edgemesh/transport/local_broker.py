"""A broker for this machine: the one that runs, else Mosquitto with our file, else the embedded one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from edgemesh.errors import BrokerError, MissingExtraError
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.child_process import ChildBroker
from edgemesh.transport.embedded import EmbeddedBroker, listen, reachable
from edgemesh.transport.greeting import ACCEPTED, OLDER_MQTT, greeting

DEFAULT_PORT = 1883
_MOSQUITTO_FOLDERS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"


@dataclass
class LocalBroker:
    """A broker in use; leaving it as a context manager stops it, unless it ran before."""

    address: BrokerAddress
    kind: Literal["running", "mosquitto", "embedded"]
    _child: ChildBroker | EmbeddedBroker | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def ended(self) -> str | None:
        """What the broker that was started ended with though nobody stopped it; None while it runs.

        Also for one that ran before: it is looked after elsewhere.
        """
        return None if self._child is None else self._child.ended()

    def start_again(self) -> None:
        """Begin one that has ended anew, on its port and with what it has stored; raises BrokerError."""
        if self._child is not None:
            self._child.start_again()

    def stop(self) -> None:
        """End what was started; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> LocalBroker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def local_broker(
    port: int = DEFAULT_PORT, directory: Path | None = None, *, bind: str = "127.0.0.1"
) -> LocalBroker:
    """The broker that answers on ``port`` of this machine, or a new one as by ``start_broker``.

    Raises BrokerError when what runs there speaks no MQTT 5 or lets nobody in without a password.
    """
    host = reachable(bind)
    answer = greeting(host, port)
    if answer is None:
        return start_broker(port, directory, bind=bind)
    if answer == ACCEPTED:
        return LocalBroker(BrokerAddress(host, port), "running")
    if answer in OLDER_MQTT:
        raise BrokerError(
            f"the broker on port {port} speaks MQTT 3 only, and edgemesh needs MQTT 5: update it (Mosquitto "
            "has it since 1.6), or choose another port"
        )
    raise BrokerError(
        f"the broker on port {port} answers with reason 0x{answer:02x} and takes no anonymous clients: name "
        f"it with a user, --broker mqtt://USER:PASSWORD@localhost:{port}, or choose another port"
    )


def start_broker(
    port: int = DEFAULT_PORT, directory: Path | None = None, *, bind: str = "127.0.0.1"
) -> LocalBroker:
    """A new broker on ``port``: Mosquitto where it is installed, else the embedded one.

    Mosquitto keeps retained messages and sessions in ``directory``, so they outlive it; without one they
    outlive its process, but not ``stop``, and with the embedded broker not even that. ``bind`` 0.0.0.0 lets
    other machines in, without a password. Raises BrokerError when the port is taken or the broker does not
    start, MissingExtraError when neither broker is installed.
    """
    mosquitto = installed_mosquitto()
    if mosquitto is not None:
        return _start_mosquitto(mosquitto, port, directory, bind)
    embedded = EmbeddedBroker(port, bind)
    try:
        embedded.start()
    except MissingExtraError:
        raise MissingExtraError(
            "there is no broker: run  apt-get install mosquitto  (for a mesh that stays) or  "
            "pip install 'edgemesh[broker]'  (for first steps), or name one that runs with --broker"
        ) from None
    return LocalBroker(embedded.address, "embedded", embedded)


def installed_mosquitto(environ: Mapping[str, str] = os.environ) -> str | None:
    """Path of the program; the folders of system programs count even when PATH lacks them."""
    return shutil.which("mosquitto", path=environ.get("PATH", os.defpath) + os.pathsep + _MOSQUITTO_FOLDERS)


def shipped_configuration(name: str) -> str:
    """Text of a file of ``brokers/``, such as ``mosquitto.conf``."""
    installed = resources.files("edgemesh") / "brokers"
    # In a checkout the folder lies beside the package.
    folder = installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "brokers"
    return (folder / name).read_text(encoding="utf-8")


def mosquitto_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``environ`` with what ``brokers/mosquitto-memory.conf`` adds for Mosquitto."""
    prefix = "Environment="
    lines = shipped_configuration("mosquitto-memory.conf").splitlines()
    added = [line.removeprefix(prefix).partition("=") for line in lines if line.startswith(prefix)]
    return {**environ, **{name: value for name, _, value in added}}


def with_settings(configuration: str, settings: Mapping[str, str | None]) -> str:
    """A Mosquitto configuration whose lines of the given keys are replaced; None removes them.

    A key with no line of its own is added at the end.
    """
    left = dict(settings)
    lines = []
    for line in configuration.splitlines():
        key = line.split(" ", 1)[0]
        if key not in settings:
            lines.append(line)
        elif (value := left.pop(key, None)) is not None:
            lines.append(f"{key} {value}")
    lines += [f"{key} {value}" for key, value in left.items() if value is not None]
    return "\n".join(lines) + "\n"


def _start_mosquitto(program: str, port: int, directory: Path | None, bind: str) -> LocalBroker:
    listen(bind, port).close()
    folder = None
    if directory is None:
        folder = tempfile.TemporaryDirectory(prefix="edgemesh-broker-")
        directory = Path(folder.name)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "mosquitto.conf"
    file.write_text(
        with_settings(
            shipped_configuration("mosquitto.conf"),
            {
                "listener": f"{port} {bind}",
                "persistence": "true",
                "persistence_location": f"{directory.absolute()}/",
                # Started by root it becomes the user mosquitto, who may not write in root's folders.
                "user": "root" if os.geteuid() == 0 else None,
            },
        ),
        encoding="utf-8",
    )
    child = ChildBroker([program, "-c", str(file)], reachable(bind), port, mosquitto_environment())
    broker = LocalBroker(BrokerAddress(reachable(bind), port), "mosquitto", child, folder)
    try:
        child.wait_until_it_answers()
    except BrokerError:
        broker.stop()
        raise
    return broker
