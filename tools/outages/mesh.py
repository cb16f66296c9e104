"""The mesh that is broken: three devices behind relays, two decision nodes, two gateways, one Mosquitto."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.models import BenchModel
from benchmarks.programs import free_port
from benchmarks.report import NotMeasurableError

from edgemesh.node.content_store import ContentStore
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.presence import MeasuredRun, Profile
from edgemesh.protocol.requests import Policy
from edgemesh.runtime.registry import installed_runtimes
from outages.guard import Guard
from outages.members import Broker, Members
from outages.observer import KINDS, Observer
from outages.relay import Relay

NAME = "outages"
ORIGIN = "camera"
SECONDS_OF_MODEL = {ORIGIN: 0.3, "quick": 0.08, "spare": 0.09}
"""Device to what the whole model takes there: boards made for this, so that a fault falls into a run."""
DECISIONS = ("decision-a", "decision-b")
GATEWAYS = ("gateway-a", "gateway-b")
GATEWAY_TOPIC, DECISION_TOPIC = "gateway/0/state", "decision/state"
_NODES = {GATEWAY_TOPIC: frozenset(GATEWAYS), DECISION_TOPIC: frozenset(DECISIONS)}
_BOARD = "pi-zero-2w"
_START_SECONDS = 40.0


class Mesh:
    """Starts everything, in the guard's folder; a context manager that ends everything."""

    watched: tuple[str, ...] = KINDS
    """Topics that the observer listens to."""

    def __init__(self, guard: Guard, model: BenchModel) -> None:
        self.model = model
        self._folder = folder = guard.folder
        self._stack = ExitStack()
        self.members = Members(guard)
        self._stack.callback(self.members.stop)
        self.port = free_port()
        store = folder / "broker"
        store.mkdir()
        self.broker = Broker(self.members, store, self.port)
        self.relays = {name: Relay(self.port) for name in SECONDS_OF_MODEL}
        for relay in self.relays.values():
            self._stack.callback(relay.close)
        self.observer = Observer(f"edgemesh/v1/{NAME}/", self.port, self.watched)
        self._stack.callback(self.observer.close)

    @property
    def url(self) -> str:
        """Of the broker, without a relay."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def origin_directory(self) -> Path:
        """Where the device at which inputs arise keeps its files, and its socket."""
        return self._folder / "cache" / NAME / ORIGIN

    def __enter__(self) -> Mesh:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def is_whole(self) -> bool:
        """Whether every member is there and says so."""
        members = [f"device/{name}/state" for name in SECONDS_OF_MODEL] + [GATEWAY_TOPIC, DECISION_TOPIC]
        return all(map(self.observer.online, members)) and not self.members.unexpected_ends()

    def has_standby(self, role: str) -> bool:
        """Whether somebody but its holder could take the role with this state topic."""
        holder, _ = self.observer.holder(role)
        return bool((_NODES[role] & self.members.connected_to(self.port)) - {holder})

    def missing(self) -> list[str]:
        """Topics that ought to be retained and are not: models, plans, and what an operator decided."""
        name = self.model.manifest.name
        plans = [f"assignment/{name}/{origin}" for origin in ("app", ORIGIN)]
        topics = [f"model/{name}", f"policy/{name}", *plans]
        return [topic for topic in topics if not self.observer.said(topic)[0]]

    def publish_policy(self) -> None:
        """As an operator does: the origin keeps its first unit, so its jobs run over two devices."""
        self.observer.publish(f"policy/{self.model.manifest.name}", encode_json(Policy(keep_input=True)))

    def log_ends(self) -> str:
        """The last lines of every member, for a run that did not work."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-1500:]}" for log in logs)

    def _start(self) -> None:
        manifest = self.model.manifest
        boards = self._folder / "boards"
        boards.mkdir()
        self.observer.publish(f"model/{manifest.name}", encode_json(manifest))
        self.publish_policy()
        for name, seconds in SECONDS_OF_MODEL.items():
            self._make_board(boards, name, seconds)
            self.give(name, self.model)
            arguments = ["device", "run", "--id", name, "--threads", "1", "--emulate", f"{name}-board"]
            self.members.edgemesh(name, arguments, self.environment(self.relays[name].port))
        for name in DECISIONS:
            self.members.edgemesh(name, ["decision", "run", "--id", name], self.environment(self.port))
        for name in GATEWAYS:
            self.members.edgemesh(name, ["gateway", "run", "--id", name], self.environment(self.port))
        topics = [*(f"device/{name}/state" for name in SECONDS_OF_MODEL), GATEWAY_TOPIC, DECISION_TOPIC]
        topics_of_plan = f"assignment/{manifest.name}/app"
        there = self.observer.wait(
            lambda: all(map(self.observer.online, topics)) and bool(self.observer.said(topics_of_plan)[0]),
            _START_SECONDS,
        )
        if not there:
            raise NotMeasurableError(f"the mesh did not start:\n{self.log_ends()}")

    def environment(self, port: int, mesh: str = NAME) -> dict[str, str]:
        """Of the members that find their broker on ``port``."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "EDGEMESH_HOME": str(self._folder),
            "EDGEMESH_BOARDS": str(self._folder / "boards"),
            "EDGEMESH_MESH": mesh,
            "EDGEMESH_BROKER": f"mqtt://127.0.0.1:{port}",
        }

    def _make_board(self, boards: Path, name: str, seconds: float) -> None:
        """A shipped board, but of another name and speed."""
        shipped = Path(__file__).resolve().parents[2] / "firmware_profiles" / f"{_BOARD}.toml"
        text = shipped.read_text().partition("[recognise]")[0]
        text = text.replace(f'name = "{_BOARD}"', f'name = "{name}-board"')
        speed = int(sum(unit.macs for unit in self.model.manifest.units) / seconds)
        changed, count = re.subn(r"(\[speed\.tflite\.float32\]\nvalue = )\S+", rf"\g<1>{speed}", text)
        assert count == 1, "the shipped board has no speed of tflite"
        (boards / f"{name}-board.toml").write_text(changed)

    def give(self, name: str, model: BenchModel, mesh: str = NAME) -> None:
        """Content and a made-up profile on a device's disk: measuring would take longer than a quick run."""
        manifest = model.manifest
        store = ContentStore(self._folder / "cache" / mesh / name)
        store.path(manifest.digest).symlink_to(model.path.resolve())
        units = manifest.unit_count
        store.keep_profile(
            Profile(
                manifest.digest,
                manifest.format,
                installed_runtimes()[manifest.format],
                1,
                tuple(0.01 / units for _ in range(units)),
                (0.0,) * units,
                (MeasuredRun(0, units, 0.01),),
            )
        )
