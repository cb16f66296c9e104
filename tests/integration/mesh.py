"""A mesh of real processes on a real broker, for tests: every device an agent and an executor."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgemesh.node.content_store import ContentStore
from edgemesh.node.model_import import ImportOptions, import_model
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import MeasuredRun, Profile
from edgemesh.protocol.topics import Topics
from edgemesh.runtime.registry import installed_runtimes


class Listener:
    """A plain paho client that collects what arrives; it knows nothing of edgemesh."""

    def __init__(self, port: int, *filters: str, protocol: int = paho.MQTTv5) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._came = threading.Condition()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.client.on_message = self._on_message
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        for topic_filter in filters:
            subscribed.clear()
            self.client.subscribe(topic_filter, qos=1)
            assert subscribed.wait(5)

    def wait(self, condition: Callable[[list[tuple[str, bytes]]], bool], seconds: float) -> None:
        """Until ``condition`` holds for the messages so far; fails after ``seconds``."""
        with self._came:
            held = self._came.wait_for(lambda: condition(self.messages), seconds)
        assert held, f"not in {seconds} s; {len(self.messages)} messages, last {self.messages[-3:]}"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        with self._came:
            self.messages.append((message.topic, message.payload))
            self._came.notify_all()


class RunningMesh:
    """Starts processes and stops them all; ``home`` keeps their files."""

    def __init__(self, port: int, home: Path, name: str = "test") -> None:
        self.port = port
        self.home = home
        self.name = name
        self.topics = Topics(name)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        boards = home / "boards"
        boards.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **os.environ,
            "EDGEMESH_HOME": str(home),
            "EDGEMESH_BOARDS": str(boards),
            "EDGEMESH_MESH": name,
            "EDGEMESH_BROKER": f"mqtt://127.0.0.1:{port}",
        }

    def board(self, name: str, speed: float) -> str:
        """A Pi Zero 2 W of ``speed`` multiply-accumulates per second."""
        shipped = (Path(__file__).parents[2] / "firmware_profiles" / "pi-zero-2w.toml").read_text()
        text = shipped.partition("[recognise]")[0].replace('name = "pi-zero-2w"', f'name = "{name}"')
        pattern = r"(\[speed\.tflite\.float32\]\nvalue = )\S+"
        changed, count = re.subn(pattern, rf"\g<1>{int(speed)}", text)
        assert count == 1
        (self.home / "boards" / f"{name}.toml").write_text(changed)
        return name

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """``edgemesh ARGUMENTS`` as a process; its log is ``<name>.log`` under home."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgemesh.cli.main", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_roles(self) -> None:
        """A decision node and a gateway."""
        self.start("decision", "decision", "run", "--id", "decision")
        self.start("gateway", "gateway", "run", "--id", "gateway")

    def start_device(self, name: str, board: str | None = None) -> subprocess.Popen[bytes]:
        """A device, emulated where a board is named."""
        emulate = ("--emulate", board) if board else ()
        return self.start(name, "device", "run", "--id", name, "--threads", "1", *emulate)

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def directory(self, device: str) -> Path:
        """Where a device keeps its files."""
        return self.home / "cache" / self.name / device

    def give(self, device: str, path: Path, manifest: Manifest, *, seconds: float = 0.01) -> None:
        """Content and a measured profile of it on a device's disk, so that the mesh starts in a second."""
        store = ContentStore(self.directory(device))
        store.put(path.read_bytes(), manifest.digest)
        units = manifest.unit_count
        version = installed_runtimes()[manifest.format]
        each = tuple(seconds / units for _ in range(units))
        runs = (MeasuredRun(0, units, seconds),)
        profile = Profile(manifest.digest, manifest.format, version, 1, each, (0.0,) * units, runs)
        store.keep_profile(profile)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish once, as any client would."""
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    def publish_manifest(self, manifest: Manifest) -> None:
        topic = self.topics.build("model", model=manifest.name)
        self.publish(topic, encode_json(manifest), retain=True)

    @contextlib.contextmanager
    def listening(self, *kinds_or_filters: str) -> Iterator[Listener]:
        """A plain client that hears these filters."""
        listener = Listener(self.port, *kinds_or_filters)
        try:
            yield listener
        finally:
            listener.close()

    def kill(self, name: str) -> None:
        """SIGKILL the agent; its executor ends by itself when the agent's end of the socket is gone."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + 5
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def zoo_model(name: str, folder: Path) -> tuple[Path, Manifest]:
    """Content and manifest of a model of the zoo."""
    return import_model(f"zoo:{name}", name, folder, ImportOptions())
