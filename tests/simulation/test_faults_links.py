"""Rules of the faults of a modelled connection and of a broker's store."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from edgemesh.roles.actions import Publish
from edgemesh.simulation.broker import Broker, Message
from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.connection import Callbacks, ModelledConnection
from edgemesh.simulation.faults.order import Order
from edgemesh.simulation.links import Link

WILL = Publish("will", b"gone", qos=1, retain=True)


class Client:
    """A connection and what its owner was told."""

    def __init__(self, mesh: Mesh, name: str, **session: Any) -> None:
        self.told: list[str] = []
        self.received: list[bytes] = []
        self.packets: list[int] = []
        callbacks = Callbacks(
            lambda: self.told.append("connected"),
            lambda: self.told.append("disconnected"),
            self._arrived,
            self.told.append,
        )
        self.connection = ModelledConnection(mesh.clock, mesh.broker, name, callbacks, Link(), **session)

    def _arrived(self, message: Message, packet: int) -> None:
        self.received.append(bytes(message.payload))
        self.packets.append(packet)


class Mesh:
    """A broker, a reader of ``news`` and a writer."""

    def __init__(self) -> None:
        self.clock = VirtualClock(0.0)
        self.broker = Broker(self.clock)
        self.reader = Client(self, "reader", will=WILL)
        self.writer = Client(self, "writer")
        self.run(0.1)
        self.reader.connection.subscribe("news", 1)
        self.run(0.1)

    def run(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now + seconds)

    def write(self, text: str, **fields: Any) -> None:
        self.writer.connection.publish(Publish("news", text.encode(), qos=1, **fields))


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_a_stopped_process_reads_what_has_waited_when_it_goes_on(mesh: Mesh) -> None:
    mesh.reader.connection.pause()
    mesh.write("a")
    mesh.run(5.0)
    assert mesh.reader.received == []

    mesh.reader.connection.resume()
    mesh.run(0.1)

    assert mesh.reader.received == [b"a"] and "disconnected" not in mesh.reader.told


def test_the_broker_gives_a_stopped_process_up_and_it_learns_that_last(mesh: Mesh) -> None:
    mesh.reader.connection.pause()
    mesh.write("a")
    mesh.run(16.0)
    assert bytes(mesh.broker.retained["will"].payload) == b"gone"
    assert mesh.reader.told == ["connected"]

    mesh.reader.connection.resume()
    mesh.run(2.0)

    assert mesh.reader.received == [b"a"]
    assert mesh.reader.told == ["connected", "disconnected", "connected"]


def test_a_link_that_is_cut_for_a_moment_loses_nothing_either_way(mesh: Mesh) -> None:
    mesh.reader.connection.cut()
    mesh.write("a")
    mesh.reader.connection.publish(Publish("other", b"b", qos=1, token="sent"))
    mesh.run(5.0)
    assert mesh.reader.received == [] and "sent" not in mesh.reader.told

    mesh.reader.connection.mend()
    mesh.run(0.1)

    assert mesh.reader.received == [b"a"] and "sent" in mesh.reader.told


def test_both_ends_give_up_a_link_that_stays_cut(mesh: Mesh) -> None:
    mesh.reader.connection.cut()
    mesh.run(16.0)
    assert "will" in mesh.broker.retained and mesh.reader.told[-1] == "disconnected"

    mesh.run(10.0)
    assert mesh.reader.told[-1] == "disconnected"  # no way to the broker
    mesh.reader.connection.mend()
    mesh.run(1.0)

    assert mesh.reader.told[-1] == "connected"


def test_a_lost_acknowledgement_makes_a_message_come_twice(mesh: Mesh) -> None:
    mesh.writer.connection.lose_next_acknowledgement()
    mesh.write("a", token="sent")
    mesh.run(2.0)

    assert mesh.reader.received == [b"a", b"a"]
    assert sorted(mesh.writer.told) == ["connected", "connected", "disconnected", "sent"]


def test_what_its_owner_sends_anew_is_lost_with_the_connection(mesh: Mesh) -> None:
    mesh.writer.connection.lose_next_acknowledgement()
    mesh.write("again")
    mesh.write("once", resend=False)
    mesh.run(0.1)
    mesh.write("away", resend=False)
    mesh.run(2.0)
    assert mesh.reader.received == [b"again", b"again"]


def test_what_waits_in_the_sockets_of_a_connection_is_lost_with_it(mesh: Mesh) -> None:
    """Or a link that was slow for a moment would hold up all that comes after many reconnections."""
    link = mesh.writer.connection.link
    link.rate_up = 1.0
    mesh.write("lost", resend=False)
    mesh.run(0.1)
    assert mesh.writer.connection.clear_at > mesh.clock.now + 10.0
    link.rate_up = Link.rate_up
    mesh.writer.connection.lose()
    mesh.run(2.0)
    mesh.write("next")
    mesh.run(0.1)
    assert mesh.reader.received == [b"next"]


def test_acknowledgements_by_hand_keep_the_order_of_arrival(mesh: Mesh) -> None:
    reader = Client(mesh, "by-hand", clean_start=False, session_lasts=True, acknowledges_itself=False)
    mesh.run(0.1)
    reader.connection.subscribe("news", 1)
    mesh.run(0.1)
    mesh.write("a")
    mesh.write("b")
    mesh.run(0.1)

    reader.connection.acknowledge(reader.packets[1])
    mesh.run(0.1)
    assert mesh.broker.unacknowledged("by-hand") == 2

    reader.connection.acknowledge(reader.packets[0])
    mesh.run(0.1)
    assert mesh.broker.unacknowledged("by-hand") == 0


def test_an_older_store_has_forgotten_what_was_acknowledged_since_it_was_written(mesh: Mesh) -> None:
    mesh.write("old", retain=True)
    mesh.run(0.1)
    mesh.broker.save()
    mesh.write("new", retain=True, token="sent")
    mesh.run(0.1)
    assert "sent" in mesh.writer.told

    mesh.broker.restart(wiped=False, older=True)
    mesh.run(2.0)

    assert bytes(mesh.broker.retained["news"].payload) == b"old"
    assert len(mesh.broker.wiped_at) == 1


def test_what_is_over_a_clients_window_waits_for_its_acknowledgements(mesh: Mesh) -> None:
    mesh.broker.in_flight = 2
    reader = Client(mesh, "by-hand", acknowledges_itself=False)
    mesh.run(0.1)
    reader.connection.subscribe("news", 1)
    mesh.run(0.1)

    for text in "abc":
        mesh.write(text)
    mesh.run(0.1)
    assert reader.received == [b"a", b"b"] and mesh.broker.waited

    reader.connection.acknowledge(reader.packets[0])
    mesh.run(0.1)
    assert reader.received == [b"a", b"b", b"c"]


def test_what_is_too_much_for_a_slow_client_is_dropped_and_told_to_nobody(mesh: Mesh) -> None:
    dropped: list[bytes] = []
    mesh.broker.in_flight, mesh.broker.absent_messages = 1, 1
    mesh.broker.on_drop = lambda client_id, message: dropped.append(bytes(message.payload))
    mesh.reader.connection.pause()

    for text in "abc":
        mesh.write(text, token=text)
    mesh.run(0.1)
    mesh.reader.connection.resume()
    mesh.run(0.1)

    assert dropped == [b"c"] and "c" in mesh.writer.told
    assert mesh.reader.received == [b"a", b"b"]


def test_messages_overtake_each_other_but_not_those_of_their_publisher_and_topic(mesh: Mesh) -> None:
    other = Client(mesh, "other")
    mesh.run(0.1)
    order = Order(mesh.broker, Random(1))
    order.disturb("reader", 0.5)

    for number in range(20):
        mesh.write(f"writer {number:02}")
        other.connection.publish(Publish("news", f"other {number:02}".encode(), qos=1))
    mesh.run(2.0)

    ours, theirs = ([text for text in mesh.reader.received if text.startswith(who)] for who in (b"w", b"o"))
    assert len(ours) == len(theirs) == 20 and ours == sorted(ours) and theirs == sorted(theirs)
    assert mesh.reader.received != [text for pair in zip(ours, theirs, strict=True) for text in pair]


def test_a_short_silence_is_not_ended_by_the_keep_alive_of_one_before_it(mesh: Mesh) -> None:
    mesh.reader.connection.pause()
    mesh.run(1.0)
    mesh.reader.connection.resume()
    mesh.run(13.0)
    mesh.reader.connection.pause()
    mesh.run(3.0)
    mesh.reader.connection.resume()
    mesh.run(1.0)

    assert "disconnected" not in mesh.reader.told
