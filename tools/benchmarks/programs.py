"""The processes that a benchmark starts, and ends: Mosquitto, device agents, stages of a baseline."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbeds.bound import ending_with_us

from benchmarks.models import BenchModel
from benchmarks.report import NotMeasurableError
from edgemesh.node.client import Client
from edgemesh.node.content_store import ContentStore
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile
from edgemesh.runtime.registry import installed_runtimes
from edgemesh.transport.local_broker import installed_mosquitto, mosquitto_environment

MESH = "bench"
_START_SECONDS = 40.0


def environment() -> dict[str, str]:
    """For child processes: the same folders to import from, as many threads as we say."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}


def started(
    command: Sequence[str], environ: Mapping[str, str] | None = None, **streams: Any
) -> subprocess.Popen[bytes]:
    """A process that ends with this one, however this one ends.

    ``environ`` and ``streams`` are as for ``subprocess.Popen``, but the environment is ``environment()``
    where none is given.
    """
    command = [*ending_with_us(signal.SIGTERM), *command]
    return subprocess.Popen(command, env=environment() if environ is None else environ, **streams)


@contextmanager
def mosquitto() -> Iterator[int]:
    """A broker on a free port, tuned as ours are: TCP_NODELAY, memory in reserve, no limit on queues."""
    program = installed_mosquitto()
    if program is None:
        raise NotMeasurableError(
            "mosquitto is not installed: apt install mosquitto (or brew install mosquitto)"
        )
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true"]
        if os.geteuid() == 0:
            # Started by root it becomes another user, and the kernel forgets then what it ends with.
            lines.append("user root")
        settings.write_text("".join(f"{line}\n" for line in lines))
        command = [program, "-c", str(settings)]
        process = started(command, mosquitto_environment(environment()), stderr=subprocess.DEVNULL)
        try:
            _until(lambda: _listens(port), "mosquitto did not start", 10.0)
            yield port
        finally:
            ended(process)


@contextmanager
def device(port: int, name: str, models: Sequence[BenchModel]) -> Iterator[subprocess.Popen[bytes]]:
    """One agent as a person starts it, holding the models; not emulated."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        store = ContentStore(directory)
        for model in models:
            store.path(model.manifest.digest).symlink_to(model.path)
            store.keep_profile(_profile(model.manifest))
        options = ["--id", name, "--threads", "1", "--directory", folder]
        command = [
            sys.executable,
            "-m",
            "edgemesh.cli.main",
            "--mesh",
            MESH,
            "--broker",
            f"mqtt://127.0.0.1:{port}",
        ]
        with (directory / "log").open("wb") as log:
            process = started([*command, "device", "run", *options], stderr=log)
        try:
            yield process
        except BaseException:
            sys.stderr.write((directory / "log").read_text("utf-8", "replace")[-2000:])
            raise
        finally:
            ended(process)


@contextmanager
def stage(link: str, model: BenchModel, start: int, stop: int, *arguments: Any) -> Iterator[None]:
    """A process of ``benchmarks.stages`` that runs units ``[start, stop)`` behind a plain link."""
    with _ready("benchmarks.stages", link, model.folder, start, stop, *arguments):
        yield


@contextmanager
def answering(model: BenchModel, port: int) -> Iterator[None]:
    """A process of ``benchmarks.messages`` that runs the model in its own process."""
    with _ready("benchmarks.messages", model.folder, port):
        yield


@contextmanager
def _ready(module: str, *arguments: Any) -> Iterator[None]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    process = started(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        ready: list[bytes] = []
        waiter = threading.Thread(target=lambda: ready.append(process.stdout.readline()), daemon=True)
        waiter.start()
        waiter.join(_START_SECONDS)
        if ready != [b"ready\n"]:
            raise NotMeasurableError(f"{module} did not start")
        yield
    finally:
        ended(process)


@contextmanager
def mesh_client(port: int, names: Sequence[str], models: Sequence[BenchModel]) -> Iterator[Client]:
    """A client of a mesh whose devices hold the models."""
    with Client(f"mqtt://127.0.0.1:{port}", mesh=MESH) as client, _Profiles(port, names, models) as profiles:
        for model in models:
            client.manifest(model.manifest.name)
        profiles.wait()
        yield client


def _profile(manifest: Manifest) -> Profile:
    """Made up: routes are forced here, and measuring every unit would take longer than the benchmark."""
    version = installed_runtimes()[manifest.format]
    return Profile(manifest.digest, manifest.format, version, 1, (1e-3,) * manifest.unit_count)


class _Profiles:
    """Publishes the manifests, and waits until each device has a profile of each: then it is idle."""

    def __init__(self, port: int, names: Sequence[str], models: Sequence[BenchModel]) -> None:
        import paho.mqtt.client as paho

        self._missing = {
            f"edgemesh/v1/{MESH}/device/{name}/profile/{model.manifest.name}"
            for name in names
            for model in models
        }
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda client, userdata, message: self._missing.discard(message.topic)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"edgemesh/v1/{MESH}/device/+/profile/+", 1)
        for model in models:
            self._publish(model.manifest)

    def _publish(self, manifest: Manifest) -> None:
        topic = f"edgemesh/v1/{MESH}/model/{manifest.name}"
        self._client.publish(topic, encode_json(manifest), 1, retain=True)

    def wait(self) -> None:
        _until(lambda: not self._missing, "the devices did not take the models in", _START_SECONDS)
        self._client.disconnect()

    def __enter__(self) -> _Profiles:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.loop_stop()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force when it takes longer than 5 s."""
    process.terminate()
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _until(condition: Any, failure: str, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise NotMeasurableError(f"{failure} within {seconds:.0f} s")
        time.sleep(0.02)
