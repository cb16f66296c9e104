"""World: the mesh that a schedule is played on, and how each deed is done to it and undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

from edgemesh.errors import DecodeError
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import RunUnits
from edgemesh.roles.content import ContentKeeper
from edgemesh.simulation.connection import Callbacks, ModelledConnection
from edgemesh.simulation.faults.broken import RuleBrokenError
from edgemesh.simulation.faults.catalogue import Catalogue
from edgemesh.simulation.faults.order import Order
from edgemesh.simulation.faults.pace import Pace
from edgemesh.simulation.faults.people import People, is_deadly
from edgemesh.simulation.faults.schedules import APP, DEVICES, FACE, HOLDERS, REFUSE, Deed, Schedule
from edgemesh.simulation.faults.spoilers import Spoilers
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import Speed
from edgemesh.simulation.mesh import DeviceNode, Hardware, Mesh
from edgemesh.simulation.models import after_units, section_at
from edgemesh.simulation.role_node import RoleNode
from edgemesh.simulation.shell import ModelledShell

UNIT_SECONDS = dict(zip(DEVICES, (0.1, 0.02, 0.005), strict=True))
_READY_SECONDS = 30.0
_AT_BROKER = 1e9
"""Bytes per second of an app on the broker's own machine: what it publishes at once is there at once."""


class World:
    """One mesh and the faults in force on it."""

    def __init__(self, schedule: Schedule) -> None:
        self.mesh = mesh = Mesh(schedule.seed)
        self.random = Random(f"world {schedule.seed}")
        self.repaired_at: float | None = None
        """Since when nothing is broken."""
        self.on_started: Callable[[ModelledShell], None] = lambda shell: None
        """Is told of each new life of a device."""
        self.on_died: Callable[[str], None] = lambda target: None
        """Is told of each node that is about to end."""
        self.catalogue = Catalogue()
        self.disturbed_until = mesh.clock.now
        """When the last fault so far is over."""
        self._spoilers = Spoilers(mesh, self.random)
        self._links: dict[str, Link] = {}
        self._saves_every = schedule.saves_every
        mesh.broker.absent_messages = schedule.kept
        mesh.broker.may_drop = self._spoilers.may_lose
        self.reached: Counter[str] = Counter()
        self.resumed_at: dict[str, float] = {}
        """When each client that was stopped last went on."""
        self._order = Order(mesh.broker, self.random)
        self._in_flight = schedule.in_flight
        self._gateway_rate = schedule.gateway_rate
        self.pace = Pace(mesh.clock)
        callbacks = Callbacks(_nothing, _nothing, _ignore, _ignore)
        self.app = ModelledConnection(mesh.clock, mesh.broker, "app", callbacks, Link(rate_up=_AT_BROKER))
        self.people = People(mesh, self.catalogue, self.app)
        self.began = mesh.clock.now

    def build(self) -> None:
        """Start everything and wait until a plan is in force; raises RuleBrokenError."""
        mesh = self.mesh
        for name in DEVICES:
            speed = Speed(UNIT_SECONDS[name], jitter=0.1)
            hardware = Hardware(speed, self._link(name), outputs=_checked_outputs)
            mesh.start_device(DeviceNode(mesh, name, hardware)).executor.deadly = _kills
        for key in HOLDERS:
            name, role = key.split(":")
            add = mesh.add_gateway if role == "gateway-0" else mesh.add_decider
            add(name, self._link(key))
        self.pace.run(1.0)
        mesh.add_model(self.catalogue.face, self.catalogue.content, "desktop")
        if not self.pace.run(_READY_SECONDS, mesh.ready):
            text = f"no plan and no device ready for it after {_READY_SECONDS:.0f} s"
            raise RuleBrokenError(0.0, "begins", text)
        mesh.add_client("anywhere", link=self._link("anywhere"))
        mesh.add_client("camera", "pi-4b", self._link("camera"))
        self.pace.run(2.0)
        self.began = mesh.clock.now
        mesh.broker.in_flight = self._in_flight
        self._save()

    # --- looking -----------------------------------------------------------------------------------------

    def reads_late(self, connection: ModelledConnection) -> bool:
        """Whether messages to a client are overtaken by others now."""
        return self._order.holds_back(connection.client_id)

    @property
    def topics(self) -> Topics:
        """Topics of the mesh."""
        return self.mesh.topics

    def is_held(self, model: str) -> bool:
        """Whether a device that lives holds a model and knows what it is called."""
        return any(held.name == model for keeper in self._keepers for held in keeper.models)

    def is_told(self, model: str) -> bool:
        """Whether the broker retains a manifest of a model."""
        return self.topics.build("model", model=model) in self.mesh.broker.retained

    @property
    def _keepers(self) -> list[ContentKeeper]:
        """Of the content of each device that lives."""
        return [node.role.content for node in self.mesh.devices.values() if node.shell.alive]

    def holder(self, key: str) -> RoleNode:
        """The node under ``<name>:<role>``."""
        name, role = key.split(":")
        return next(node for node in self.mesh.holders if (node.name, node.role) == (name, role))

    def _node(self, target: str) -> DeviceNode | RoleNode:
        return self.mesh.devices[target] if target in self.mesh.devices else self.holder(target)

    def _alive(self, target: str) -> bool:
        return self._shell(target).alive

    def _shell(self, target: str) -> ModelledShell:
        return self.holder(target).shell if target in HOLDERS else self.mesh.shell(target)

    def _connection(self, target: str) -> ModelledConnection:
        connection = self.app if target == APP else self._shell(target).connection
        assert connection is not None
        return connection

    def _link(self, target: str) -> Link:
        rate = self._rate(target)
        return self._links.setdefault(target, Link(_latency(target), rate, rate))

    def _rate(self, target: str) -> float:
        return self._gateway_rate if "gateway" in target else Link.rate_up

    # --- deeds -------------------------------------------------------------------------------------------

    def arrange(self, deeds: tuple[Deed, ...]) -> None:
        """Let the deeds happen in their time."""
        for deed in deeds:
            self.mesh.clock.call_at(self.began + deed.at, self.do, deed)

    def do(self, deed: Deed) -> None:
        """Do it now."""
        if deed.kind in _DEEDS:
            self.disturbed_until = max(self.disturbed_until, self.mesh.clock.now + deed.seconds)
            _DEEDS[deed.kind](self, deed)
        else:
            self.people.do(deed)

    def repair(self) -> None:
        """Undo everything that is still in force."""
        mesh = self.mesh
        linked = [self._connection(target) for target in self._links]
        # What a slow link took on is under way for as long as that said it would take.
        under_way = (connection.clear_at for connection in linked if connection.connected)
        self.repaired_at = max((mesh.clock.now, mesh.broker.back_at, *under_way))
        self.disturbed_until = self.repaired_at
        self._spoilers.end()
        self._order.end()
        for target in (*DEVICES, *HOLDERS, *mesh.clients, APP):
            self._mend(target)
            if target == APP:
                continue
            self._unpause(target, self._shell(target))
            self._revive(target)
        for target in self._links:
            self._restore_link(target)
        for name, seconds in UNIT_SECONDS.items():
            mesh.devices[name].speed.unit_seconds = seconds

    @property
    def rare(self) -> Counter[str]:
        """How often what schedules seldom lead to has happened."""
        broker = self.mesh.broker
        told = {
            "messages waited for a window": broker.waited,
            "messages were dropped over a limit": broker.dropped_over_limit,
            "messages were overtaken": self._order.overtaken,
        }
        return self.reached + Counter(told)

    def operate(self) -> bool:
        """What an operator does where the mesh cannot help itself; whether there was anything to do."""
        # In this order: who adds a model waits until that is told before the device is restarted.
        operated = any([*(self._unbench(name) for name in DEVICES), self._add_model_again()])
        if operated:
            self.repaired_at = self.mesh.clock.now
        return operated

    def _add_model_again(self) -> bool:
        """``edgemesh model add``, where no device can say the manifest again.

        A broker that lost its store, or wrote it before the model was replaced, while every holder of the
        content was away, too, leaves nobody who knows what the content on their disks is called.
        """
        face = self.catalogue.face
        # Held without a name is what had one in this life of the device, and lost it to an older manifest;
        # under another name it may have been added when nobody knew this one any more.
        nameless = [
            keeper
            for keeper in self._keepers
            if face.digest in keeper.held and all(model.digest != face.digest for model in keeper.models)
        ]
        if self.is_held(FACE) or nameless:
            return False  # they know it, and have to say it themselves
        self.mesh.add_model(face, self.catalogue.content, "desktop")
        return True

    def _unbench(self, name: str) -> bool:
        """Restart a device that leaves a model out for a while."""
        node = self.mesh.devices[name]
        benched = bool(node.role.crash_bench.benched)
        if benched:
            self.on_died(name)
            node.stop()
            self._revive(name)
        return benched

    def _later(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        self.mesh.clock.call_later(seconds, call, *arguments)

    def crash(self, deed: Deed) -> None:
        """The process is killed; its machine's kernel closes the connection."""
        if self._alive(deed.target):
            self.on_died(deed.target)
            self._node(deed.target).kill()
            self._later(deed.seconds, self._revive, deed.target)

    def power_cut(self, deed: Deed) -> None:
        """The machine is gone, and nobody closes its connection."""
        if self._alive(deed.target):
            self.on_died(deed.target)
            self._node(deed.target).cut_power()
            self._later(deed.seconds, self._revive, deed.target)

    def stop(self, deed: Deed) -> None:
        """A clean end."""
        if self._alive(deed.target) and not self._shell(deed.target).paused:
            self.on_died(deed.target)
            self._node(deed.target).stop()
            self._later(deed.seconds, self._revive, deed.target)

    def _revive(self, target: str) -> None:
        node = self._node(target) if target not in self.mesh.clients else None
        if isinstance(node, DeviceNode) and not node.shell.alive:
            node.restart()
            node.executor.deadly = _kills
            self.on_started(node.shell)
        elif isinstance(node, RoleNode) and not node.alive:
            node.restart()

    def pause(self, deed: Deed) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        shell = self._shell(deed.target)
        if not shell.alive or shell.paused:
            return
        if deed.target in HOLDERS and self.holder(deed.target).held is None:
            self.reached["a standby was stopped"] += 1
        shell.pause()
        self._later(deed.seconds, self._unpause, deed.target, shell)

    def _unpause(self, target: str, shell: ModelledShell) -> None:
        if not shell.paused:
            return
        if target in self.mesh.clients:
            assert shell.connection is not None
            gave_up = not shell.connection.connected
            self.reached["a client was stopped" + " beyond its keep-alive" * gave_up] += 1
            self.resumed_at[target] = self.mesh.clock.now
        shell.resume()

    def reorder(self, deed: Deed) -> None:
        """What a client gets of several publishers and topics comes in any order that MQTT allows."""
        client_id = self._connection(deed.target).client_id
        self._order.disturb(client_id, deed.amount)
        self._later(deed.seconds, self._order.restore, client_id)

    def cut_link(self, deed: Deed) -> None:
        """Nothing gets through for a while."""
        self._connection(deed.target).cut()
        self._later(deed.seconds, self._mend, deed.target, self._connection(deed.target))

    def _mend(self, target: str, connection: ModelledConnection | None = None) -> None:
        (connection or self._connection(target)).mend()

    def break_connection(self, deed: Deed) -> None:
        """The connection is reset."""
        self._connection(deed.target).lose()

    def lose_acknowledgement(self, deed: Deed) -> None:
        """The next PUBACK is lost with its connection: the message comes twice. A gateway's is that of a
        result, which is out then, while its submission is not acknowledged."""
        is_gateway = deed.target in HOLDERS and "gateway" in deed.target
        self._connection(deed.target).lose_next_acknowledgement("/result/" if is_gateway else "")

    def slow_link(self, deed: Deed) -> None:
        """Everything takes longer for a while."""
        link = self._links[deed.target]
        link.latency, link.rate_up, link.rate_down = deed.amount, 1e5, 1e5
        self._later(deed.seconds, self._restore_link, deed.target)

    def _restore_link(self, target: str) -> None:
        link = self._links[target]
        link.latency = _latency(target)
        link.rate_up = link.rate_down = self._rate(target)

    def slow_device(self, deed: Deed) -> None:
        """Its units take longer for a while."""
        speed = self.mesh.devices[deed.target].speed
        speed.unit_seconds = UNIT_SECONDS[deed.target] * deed.amount
        self._later(deed.seconds, setattr, speed, "unit_seconds", UNIT_SECONDS[deed.target])

    def executor_crash(self, deed: Deed) -> None:
        """The executor process dies."""
        if self._alive(deed.target):
            self.mesh.devices[deed.target].executor.kill()

    def drop(self, deed: Deed) -> None:
        """The broker drops some of what it has for a client: over its limits, and it tells nobody."""
        self._spoilers.begin(f"home-{deed.target}", self._spoilers.dropped, deed.amount, deed.seconds)

    def garble(self, deed: Deed) -> None:
        """Some of what a client gets is cut short or is noise."""
        self._spoilers.begin(f"home-{deed.target}", self._spoilers.garbled, deed.amount, deed.seconds)

    def refuse(self, deed: Deed) -> None:
        """The broker refuses some of what a client sends to others."""
        self._spoilers.refuse(f"home-{deed.target}", deed.amount, deed.seconds)

    def restart_broker(self, deed: Deed) -> None:
        """The broker ends and comes back, with its store, an older one, or none."""
        broker = self.mesh.broker
        wiped, older = deed.kind == "broker-wiped", deed.kind == "broker-older"
        if not broker.up or broker.stopping:
            return
        if deed.amount and not older:
            broker.stop(wiped=wiped, pause=deed.seconds)
        else:
            broker.restart(wiped=wiped, older=older, pause=deed.seconds)

    def old_assignment(self, deed: Deed) -> None:
        """What an earlier leader said arrives once more, held back on some way."""
        topics = {m.topic for _, _, m in self.mesh.broker.log if "/assignment/" in m.topic and m.payload}
        for topic in sorted(topics):
            told = [m for _, _, m in self.mesh.broker.log if m.topic == topic and m.payload]
            message = self.random.choice(told)
            self.mesh.broker.publish(self.app, replace(message, retain=False))

    def _save(self) -> None:
        if self.mesh.broker.up:
            self.mesh.broker.save()
        self._later(self._saves_every, self._save)


_DEEDS: dict[str, Callable[[World, Deed], None]] = {
    "crash": World.crash,
    "power-cut": World.power_cut,
    "stop": World.stop,
    "pause": World.pause,
    "pause-client": World.pause,
    "reorder": World.reorder,
    "cut-link": World.cut_link,
    "break-connection": World.break_connection,
    "lose-acknowledgement": World.lose_acknowledgement,
    "slow-link": World.slow_link,
    "slow-device": World.slow_device,
    "executor-crash": World.executor_crash,
    "drop": World.drop,
    "garble": World.garble,
    REFUSE: World.refuse,
    "old-assignment": World.old_assignment,
    "broker-restart": World.restart_broker,
    "broker-older": World.restart_broker,
    "broker-wiped": World.restart_broker,
}


def _checked_outputs(
    manifest: Manifest, start: int, stop: int, section: bytes | memoryview, codec: str
) -> bytes:
    """What units make of a section; an executor reads all of it, and refuses one that was cut short."""
    wanted = len(section_at(manifest, start, b""))
    if len(section) != wanted:
        raise DecodeError(f"a section of {len(section)} bytes at cut {start} instead of {wanted}")
    return after_units(manifest, start, stop, section)


def _kills(action: object) -> bool:
    return isinstance(action, RunUnits) and is_deadly(action.run)


def _latency(target: str) -> float:
    return 0.002 if target in DEVICES else 0.0005


def _nothing() -> None:
    """An app that only publishes does not care."""


def _ignore(*told: object) -> None:
    """Nor about what it is told."""
