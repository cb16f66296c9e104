"""On a slow uplink the words of a gateway and of a device do not wait for all activations before them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import Pin, Policy
from edgemesh.roles.actions import Publish
from edgemesh.simulation.broker import Broker
from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.links import PACKET_BYTES, Link
from edgemesh.simulation.machine import Speed
from edgemesh.simulation.mesh import Mesh
from edgemesh.simulation.models import made_up_model
from edgemesh.transport.messages import publish_properties
from tests.simulation.test_broker import Client

RATE = 1e6
LATENCY = 0.01
BULK_SECONDS = 0.5
BULK: dict[str, Any] = {"payload": bytes(int(BULK_SECONDS * RATE) - PACKET_BYTES), "qos": 1, "bulk": True}


class World:
    """A client with a slow uplink, and one that hears everything."""

    def __init__(self) -> None:
        self.clock = VirtualClock(0.0)
        self.broker = Broker(self.clock)
        quick = Link(0.0, 1e12, 1e12)
        self.hears = Client(self.clock, self.broker, "hears", "#", link=quick)
        self.slow = Client(self.clock, self.broker, "slow", link=Link(LATENCY, RATE, RATE))
        self.clock.run_until(1.0)

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    @property
    def heard(self) -> list[tuple[str, float]]:
        """Topics, and seconds since the world stood."""
        return [(message.topic, round(at - 1.0, 6)) for at, message, _ in self.hears.got]

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.heard]


def test_others_wait_for_one_message_in_bulk_and_bulk_waits_for_them() -> None:
    world = World()
    for number in range(4):
        world.slow.publish(f"work/{number}", **BULK)
    world.slow.publish("state", bytes(100_000 - PACKET_BYTES), qos=1)
    world.run(0.1)
    assert world.slow.connection.clear_at == pytest.approx(1.0 + 4 * BULK_SECONDS + 0.1 + LATENCY)
    world.run(10.0)

    assert world.topics == ["work/0", "state", "work/1", "work/2", "work/3"]
    assert [at for _, at in world.heard] == pytest.approx([0.51, 0.61, 1.11, 1.61, 2.11], abs=1e-4)


def test_a_little_bulk_is_with_the_kernel_already_when_something_else_comes() -> None:
    world = World()
    for number in range(4):
        world.slow.publish(f"work/{number}", bytes(100_000 - PACKET_BYTES), qos=1, bulk=True)
    world.slow.publish("state", qos=1)
    world.run(10.0)

    assert world.topics == ["work/0", "work/1", "state", "work/2", "work/3"]


def test_bulk_that_waits_is_sent_before_a_clean_end() -> None:
    world = World()
    for number in range(3):
        world.slow.publish(f"work/{number}", **BULK)
    world.slow.publish("state", qos=1)
    world.slow.connection.close()
    world.run(10.0)

    assert world.topics == ["work/0", "state", "work/1", "work/2"]


def test_bulk_that_waits_is_lost_with_the_connection_unless_it_is_to_be_sent_again() -> None:
    world = World()
    world.slow.publish("work/0", **BULK)
    world.slow.publish("work/1", **BULK, resend=False)
    world.slow.publish("work/2", **BULK)
    world.run(0.1)
    world.slow.connection.lose()
    world.run(10.0)

    assert world.topics == ["work/0", "work/2"]


@pytest.mark.parametrize("end", ["kill", "silence"])
def test_bulk_that_waits_dies_with_the_process(end: str) -> None:
    world = World()
    for number in range(3):
        world.slow.publish(f"work/{number}", **BULK)
    world.run(1.2 * BULK_SECONDS)
    getattr(world.slow.connection, end)()
    world.run(60.0)

    assert world.topics == ["work/0"]


def test_bulk_of_a_new_connection_does_not_wait_for_what_the_old_one_had_to_send() -> None:
    world = World()
    for number in range(20):
        world.slow.publish(f"work/{number}", **BULK, resend=False)
    world.slow.connection.link.rate_up = 1e3
    world.run(0.6)
    world.slow.connection.lose()
    world.slow.connection.link.rate_up = RATE
    world.run(2.0)
    world.slow.publish("next", **BULK)
    world.run(1.0)

    assert world.topics == ["work/0", "next"]


@pytest.mark.parametrize("expiry", [0.2, 30.0, 2.0**32, 1e300, math.inf, math.nan])
def test_an_expiry_is_what_the_wire_has_room_for(expiry: float) -> None:
    world = World()
    world.slow.publish("t", expiry=expiry)
    world.run(0.5)
    ((_, message, _),) = world.hears.got
    left = world.broker.left(message)

    packed = publish_properties(Publish("t", b"", expiry=expiry))
    stated = None if packed is None else int.from_bytes(packed.pack()[-4:], "big")
    assert stated == left


def mesh_of(picture: int, uplink: float) -> Mesh:
    """A desktop that holds a model, and a gateway with a standby, both with a slow uplink."""
    mesh = Mesh(1)
    face, content = made_up_model(
        cut_bytes=(picture, 6400, 1600, 400, 256), content_bytes=40_000, chunk_bytes=16_000
    )
    mesh.broker.in_flight = 200
    mesh.add_device("desktop", Speed(0.002))
    mesh.add_gateway("laptop", Link(0.002, uplink, 12.5e6))
    mesh.add_decider("server")
    mesh.run(1.0)
    mesh.add_gateway("server", Link(0.002, uplink, 12.5e6))
    mesh.add_model(face, content, "desktop")
    mesh.run_until(mesh.ready, 30.0)
    mesh.run(5.0)
    return mesh


def test_a_standby_leaves_a_gateway_whose_uplink_is_full_of_activations() -> None:
    """Its state, every 5 s, came 18 s late behind them; a standby takes over after 16 s, and then again."""
    jobs = 25
    mesh = mesh_of(picture=307_200, uplink=307_200.0)
    app = mesh.add_app(mesh.topics.filter("result"))
    mesh.run(1.0)
    for number in range(jobs):
        app.submit(f"s-{number}", expiry=120.0)
    mesh.run(60.0)

    assert Counter(received.result.code for received in app.received) == {None: jobs}
    assert [holder.terms for holder in mesh.holders if holder.role == "gateway-0"] == [[1], []]


def test_activations_and_chunks_are_in_bulk_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh(1)
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    face, content = made_up_model()
    for name in ("pi", "desktop"):
        mesh.add_device(name)
    mesh.add_gateway("laptop")
    mesh.add_decider("server")
    mesh.run(1.0)
    for shell in [*(node.shell for node in mesh.devices.values()), *(h.shell for h in mesh.holders)]:
        connection = shell.connection
        assert connection is not None

        def note(action: Publish, publish: Any = connection.publish) -> None:
            kinds[action.bulk].add(mesh.topics.parse(action.topic).kind)
            publish(action)

        monkeypatch.setattr(connection, "publish", note)
    mesh.add_model(face, content, "desktop")
    policy = Policy(pins=(Pin(0, 2, "pi"), Pin(2, 4, "desktop")))
    topic = mesh.topics.build("policy", model="face")
    mesh.devices["desktop"].shell.carry_out([Publish(topic, encode_json(policy), qos=1, retain=True)])
    mesh.run(20.0)
    app = mesh.add_app(mesh.topics.filter("result"))
    mesh.run(1.0)
    app.submit("photograph")
    mesh.run(5.0)

    assert [received.result.code for received in app.received] == [None]
    assert [hop.device for hop in app.received[0].result.route] == ["pi", "desktop"]
    assert kinds[True] == {"work", "chunk"}
    assert not kinds[True] & kinds[False]
    assert {"reply", "result", "answered", "gateway", "heartbeat"} <= kinds[False]
