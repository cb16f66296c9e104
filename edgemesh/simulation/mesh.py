"""A modelled mesh in virtual time: devices, gateways, decision nodes, clients and apps on one broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Resources
from edgemesh.protocol.result import ResultMessage
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.roles.client import ClientRole
from edgemesh.roles.decider import Decider
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import JobSubmitted
from edgemesh.roles.gateway import Gateway
from edgemesh.roles.role import HeldRole
from edgemesh.simulation.broker import Broker, Message
from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.connection import Callbacks, ModelledConnection
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import Disk, Executor, Outputs, Pace, Speed, resources
from edgemesh.simulation.models import hashed_outputs, input_of
from edgemesh.simulation.role_node import RoleNode
from edgemesh.simulation.sections import modelled_bytes
from edgemesh.simulation.shell import ModelledShell, add_machine


class Mesh:
    """Build it, let time pass, look at what happened."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = VirtualClock()
        self.broker = Broker(self.clock)
        self.topics = Topics("home")
        self.random = Random(seed)
        self.devices: dict[str, DeviceNode] = {}
        self.holders: list[RoleNode] = []
        self.clients: dict[str, ModelledShell] = {}
        self.submitted: Counter[str] = Counter()
        self._boots = 0

    # --- building ----------------------------------------------------------------------------------------

    def add_device(
        self,
        name: str,
        speed: Speed | None = None,
        link: Link | None = None,
    ) -> DeviceNode:
        """A device that starts now."""
        return self.start_device(DeviceNode(self, name, Hardware(speed or Speed(), link or Link())))

    def start_device(self, node: DeviceNode) -> DeviceNode:
        """A device made elsewhere starts now."""
        self.devices[node.name] = node
        node.start()
        return node

    def add_gateway(self, name: str, link: Link | None = None) -> RoleNode:
        """A node that stands by for the gateway's slot 0."""
        return self._add_holder(
            name,
            "gateway-0",
            self.topics.build("gateway", slot="0"),
            lambda boot, term: Gateway("0", name, boot, term, self.topics),
            link,
        )

    def add_decider(
        self,
        name: str,
        link: Link | None = None,
        make: Callable[[str, str, int, Topics], HeldRole] = Decider,
    ) -> RoleNode:
        """A node that stands by for the decision; ``make(holder, boot, term, topics)`` is its role."""
        return self._add_holder(
            name,
            "decision",
            self.topics.build("decision"),
            lambda boot, term: make(name, boot, term, self.topics),
            link,
        )

    def shell(self, name: str) -> ModelledShell:
        """Of a client, or of a device; raises KeyError."""
        return self.clients[name] if name in self.clients else self.devices[name].shell

    def add_client(self, name: str, origin: str = APP_ORIGIN, link: Link | None = None) -> ModelledShell:
        """A program that uses the client library."""
        role = ClientRole(name, origin, self.topics)
        shell = ModelledShell(name, role, self.clock, self.broker, self.topics)
        shell.connect(f"home-{name}", link or Link())
        self.clients[name] = shell
        return shell

    def add_app(self, *filters: str) -> App:
        """An IoT app that knows MQTT and nothing of edgemesh."""
        return App(self, filters)

    def add_model(self, manifest: Manifest, content: bytes, holder: str) -> None:
        """``edgemesh model add`` on the machine of a device."""
        device = self.devices[holder]
        device.disk.put(manifest, content)
        device.shell.carry_out([self.manifest_message(manifest)])

    def manifest_message(self, manifest: Manifest) -> Publish:
        """The retained message that makes a model known."""
        topic = self.topics.build("model", model=manifest.name)
        return Publish(topic, encode_json(manifest), qos=1, retain=True)

    def _add_holder(
        self,
        name: str,
        role: str,
        topic: str,
        make: Callable[[str, int], HeldRole],
        link: Link | None,
    ) -> RoleNode:
        node = RoleNode(self, name, role, topic, make, link or Link())
        self.holders.append(node)
        return node

    def boot(self) -> str:
        """A new boot id."""
        self._boots += 1
        return f"b-{self._boots}"

    # --- jobs --------------------------------------------------------------------------------------------

    def submit(
        self,
        shell: ModelledShell,
        manifest: Manifest,
        text: str,
        *,
        left: float = 30.0,
        stream: str | None = None,
        route: tuple[Hop, ...] | None = None,
    ) -> str:
        """A job at a client's or device's requester; its input differs by ``text``, which is also its id."""
        self.submitted[text] += 1
        section = input_of(manifest, text)
        shell.deliver(JobSubmitted(text, manifest.name, section, left, stream, route, manifest.digest))
        return text

    # --- time --------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now + seconds)

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Let time pass until ``condition`` holds; the seconds it took. Fails after ``within``."""
        began = self.clock.now
        assert self.clock.run_until(began + within, condition), f"not within {within} s"
        return self.clock.now - began

    # --- looking -----------------------------------------------------------------------------------------

    def assignments(self, model: str = "face", origin: str = APP_ORIGIN) -> list[Assignment]:
        """All assignments published, in order."""
        topic = self.topics.build("assignment", model=model, origin=origin)
        payloads = [m.payload for _, _, m in self.broker.log if m.topic == topic and m.payload]
        return [decode_json(Assignment, payload) for payload in payloads]

    def ready(self, model: str = "face", origin: str = APP_ORIGIN) -> bool:
        """Whether an assignment is in force and its devices have loaded their parts."""
        assignments = self.assignments(model, origin)
        if not assignments:
            return False
        loaded = {p for node in self.devices.values() for p in node.role.preparer.ready}
        start = 0
        for hop in assignments[-1].route:
            if not any((p.start, p.stop) == (start, hop.stop) for p in loaded):
                return False
            start = hop.stop
        return True

    def check(self) -> None:
        """What must hold after every scenario."""
        shells = [*self.clients.values(), *(node.shell for node in self.devices.values())]
        ended = Counter(job.job for shell in shells for job in shell.ended)
        assert all(count == 1 for count in ended.values()), ended.most_common(3)
        for node in self.devices.values():
            assert node.role.worker.jobs <= 257
        # Epochs only grow, for as long as somebody can remember them.
        epochs: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for at, _, message in self.broker.log:
            if "/assignment/" in message.topic and message.payload:
                era = sum(at >= wiped for wiped in self.broker.wiped_at)
                epoch = decode_json(Assignment, message.payload).epoch
                epochs.setdefault((message.topic, era), []).append(epoch)
        assert all(seen == sorted(set(seen)) for seen in epochs.values()), epochs


@dataclass
class Hardware:
    """The machine under a device's agent."""

    speed: Pace
    link: Link
    board: str = "test board"
    runtimes: tuple[tuple[str, str], ...] = (("tflite", "1"),)
    threads: int = 4
    memory_bytes: int = 1 << 30
    outputs: Outputs = hashed_outputs


class DeviceNode:
    """One device's agent on its machine."""

    def __init__(self, mesh: Mesh, name: str, hardware: Hardware) -> None:
        self.name = name
        self.hardware = hardware
        self.link = hardware.link
        self.disk = Disk()
        self.earlier: list[ModelledShell] = []
        """Shells of earlier lives."""
        self._mesh = mesh

    def start(self) -> None:
        """The agent starts, with whatever is on disk."""
        mesh = self._mesh
        h = self.hardware
        settings = DeviceSettings(
            self.name, mesh.boot(), "edgemesh simulated", h.board, dict(h.runtimes), h.threads, h.memory_bytes
        )
        self.role = Device(settings, mesh.topics, size_of=modelled_bytes)
        self.shell = ModelledShell(self.name, self.role, mesh.clock, mesh.broker, mesh.topics)
        seed = mesh.random.getrandbits(32)
        self.executor = Executor(mesh.clock, self.disk, h.speed, seed, self.shell.deliver, h.outputs)
        add_machine(self.shell, self.executor, self.disk, self.read_resources)
        self.shell.connect(f"home-{self.name}", self.link, will=self.role.will())

    @property
    def speed(self) -> Any:
        """How fast the machine is; change it at any time."""
        return self.hardware.speed

    def read_resources(self) -> Resources:
        """What the machine says of itself; always the same here."""
        return resources()

    def stop(self) -> None:
        """A clean end."""
        self.shell.stop(self.role.farewell())
        self.executor.stop()

    def kill(self) -> None:
        """The process dies; its Will is published at once."""
        self.shell.kill()
        self.executor.stop()

    def cut_power(self) -> None:
        """The machine is gone; its Will comes after one and a half keep-alives."""
        self.shell.silence()
        self.executor.stop()

    def restart(self) -> None:
        """Start again after an end."""
        self.earlier.append(self.shell)
        self.start()


@dataclass(frozen=True)
class Received:
    """What an app got, and when."""

    at: float
    message: Message

    @property
    def result(self) -> ResultMessage:
        """The result in it."""
        return decode_json(ResultMessage, self.message.payload)


class App:
    """Publishes bytes, keeps what it receives."""

    def __init__(self, mesh: Mesh, filters: tuple[str, ...]) -> None:
        self.received: list[Received] = []
        self._mesh = mesh
        self._filters = filters
        callbacks = Callbacks(self._connected, lambda: None, self._arrived, lambda token: None)
        client_id = f"app-{mesh.random.getrandbits(32)}"
        self.connection = ModelledConnection(mesh.clock, mesh.broker, client_id, callbacks, Link())

    def submit(
        self,
        text: str,
        model: str = "face",
        *,
        expiry: float = 30.0,
        response_topic: str | None = None,
        nbytes: int = -1,
    ) -> None:
        """Publish an input on ``submit/<model>``; ``nbytes`` is what it counts as on a link."""
        topic = self._mesh.topics.build("submit", model=model)
        now = self._mesh.clock.now
        name = text.encode()
        message = Message(topic, name, 1, False, now + expiry, None, response_topic, name, nbytes=nbytes)
        self._mesh.clock.call_later(0.0005, self._mesh.broker.publish, self.connection, message)

    def _connected(self) -> None:
        for topic_filter in self._filters:
            self.connection.subscribe(topic_filter, 1)

    def _arrived(self, message: Message, packet: int) -> None:
        self.received.append(Received(self._mesh.clock.now, message))
