"""What the modelled broker does is what MQTT 5 and Mosquitto do, as far as edgemesh relies on it."""

from __future__ import annotations

from typing import Any

from edgemesh.roles.actions import Publish
from edgemesh.simulation.broker import Broker, Message
from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.connection import KEEPALIVE, Callbacks, ModelledConnection
from edgemesh.simulation.links import PACKET_BYTES, Link


class Client:
    """Keeps what it is told."""

    def __init__(self, clock: VirtualClock, broker: Broker, name: str, *filters: str, **session: Any) -> None:
        self.clock = clock
        self.connects = self.losses = 0
        self.taken_over = False
        self.got: list[tuple[float, Message, int]] = []
        self.acknowledged: list[tuple[float, str]] = []
        self._filters = filters
        link = session.pop("link", Link(latency=0.001))
        callbacks = Callbacks(self._connected, self._lost, self._arrived, self._acknowledged, self._over)
        self.connection = ModelledConnection(clock, broker, name, callbacks, link, **session)

    def publish(self, topic: str, payload: bytes = b"x", **fields: Any) -> None:
        self.connection.publish(Publish(topic, payload, **fields))

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for _, message, _ in self.got]

    def _connected(self) -> None:
        self.connects += 1
        for topic_filter in self._filters:
            self.connection.subscribe(topic_filter, 1)

    def _lost(self) -> None:
        self.losses += 1

    def _over(self) -> None:
        self.taken_over = True

    def _arrived(self, message: Message, packet: int) -> None:
        self.got.append((self.clock.now, message, packet))

    def _acknowledged(self, token: str) -> None:
        self.acknowledged.append((self.clock.now, token))


def world() -> tuple[VirtualClock, Broker]:
    clock = VirtualClock(0.0)
    return clock, Broker(clock)


def test_a_message_takes_latency_and_rate_of_both_links_and_is_acknowledged_to_its_sender() -> None:
    clock, broker = world()
    there = Client(clock, broker, "there", "a/+", link=Link(0.01, rate_down=1000.0))
    here = Client(clock, broker, "here", link=Link(0.1, rate_up=2000.0))
    clock.run_until(1.0)
    here.publish("a/b", bytes(960), qos=1, token="t")
    here.publish("b/b", bytes(960), qos=1)
    clock.run_until(5.0)
    ((at, message, _),) = there.got
    assert round(at, 6) == round(1.0 + 0.5 + 0.1 + 1.0 + 0.01, 6) and message.topic == "a/b"
    back = PACKET_BYTES / Link.rate_down
    assert [(round(t, 7), token) for t, token in here.acknowledged] == [(round(1.7 + back, 7), "t")]


def test_retained_messages_come_first_and_marked_and_an_empty_one_clears() -> None:
    clock, broker = world()
    here = Client(clock, broker, "here")
    here.publish("a/b", b"old", qos=1, retain=True)
    clock.run_until(1.0)
    late = Client(clock, broker, "late", "a/#")
    clock.run_until(2.0)
    here.publish("a/b", b"new", qos=1, retain=True)
    here.publish("a/b", b"", qos=1, retain=True)
    clock.run_until(3.0)
    assert [(m.payload, m.retain) for _, m, _ in late.got] == [(b"old", True), (b"new", False), (b"", False)]
    assert broker.retained == {}


def test_a_shared_subscription_deals_in_turn_and_each_message_to_one() -> None:
    clock, broker = world()
    members = [Client(clock, broker, f"m{i}", "$share/g/a/+") for i in range(3)]
    here = Client(clock, broker, "here")
    clock.run_until(1.0)
    for number in range(6):
        here.publish("a/b", bytes([number]), qos=1)
    clock.run_until(2.0)
    assert [member.payloads for member in members] == [[b"\0", b"\3"], [b"\1", b"\4"], [b"\2", b"\5"]]


def test_a_broker_that_is_stopped_says_the_wills_and_hears_no_answer() -> None:
    clock, broker = world()
    leaving = Client(clock, broker, "leaving", will=Publish("will", b"gone", qos=1, retain=True))
    here = Client(clock, broker, "here", "will")
    clock.run_until(1.0)

    broker.stop(wiped=False)
    leaving.publish("a", b"too late", qos=1, retain=True, resend=False)
    clock.run_until(5.0)

    assert here.payloads == [b"gone", b"gone"]  # from the broker that goes, and as retained from the next
    assert broker.restarts == 1 and broker.up
    assert list(broker.retained) == ["will"]


def test_a_restarted_broker_keeps_the_subscriptions_of_a_session_but_for_shared_ones() -> None:
    clock, broker = world()
    held: dict[str, Any] = {"clean_start": False, "session_lasts": True}
    role = Client(clock, broker, "role", "$share/g/a/+", "b/+", **held)
    clock.run_until(1.0)
    role.connection.kill()
    broker.restart(wiped=False)
    clock.run_until(5.0)
    here = Client(clock, broker, "here")
    clock.run_until(6.0)
    here.publish("a/x", b"shared", qos=1)
    here.publish("b/x", b"plain", qos=1)
    clock.run_until(7.0)
    assert [message.payload for message in broker.waiting("role")] == [b"plain"]


def test_the_will_comes_at_once_when_the_process_dies_and_late_when_the_machine_does() -> None:
    for end, delay in (("kill", 0.0), ("silence", 1.5 * KEEPALIVE)):
        clock, broker = world()
        watcher = Client(clock, broker, "watcher", "w")
        mortal = Client(clock, broker, "mortal", will=Publish("w", b"gone", qos=1))
        clock.run_until(1.0)
        getattr(mortal.connection, end)()
        clock.run_until(60.0)
        ((at, message, _),) = watcher.got
        assert message.payload == b"gone" and delay <= at - 1.0 < delay + 0.01


def test_a_clean_end_sends_what_is_left_and_no_will() -> None:
    clock, broker = world()
    watcher = Client(clock, broker, "watcher", "#")
    polite = Client(clock, broker, "polite", will=Publish("w", b"gone", qos=1))
    clock.run_until(1.0)
    polite.publish("w", b"bye", qos=1)
    polite.connection.close()
    clock.run_until(60.0)
    assert watcher.payloads == [b"bye"]


def test_a_session_redelivers_what_was_not_acknowledged_to_whoever_has_its_id() -> None:
    clock, broker = world()
    held: dict[str, Any] = {"clean_start": False, "session_lasts": True, "acknowledges_itself": False}
    first = Client(clock, broker, "role", "a", **held)
    here = Client(clock, broker, "here")
    clock.run_until(1.0)
    for payload in (b"1", b"2"):
        here.publish("a", payload, qos=1)
    clock.run_until(2.0)
    first.connection.acknowledge(first.got[0][2])
    clock.run_until(2.5)
    first.connection.kill()
    clock.run_until(3.0)
    here.publish("a", b"3", qos=1)
    here.publish("a", b"zero")
    clock.run_until(4.0)
    second = Client(clock, broker, "role", **held)
    clock.run_until(5.0)
    assert [(m.payload, m.duplicate) for _, m, _ in second.got] == [(b"2", True), (b"3", False)]
    assert second.got[0][2] == first.got[1][2]


def test_a_client_id_has_one_connection_and_the_newer_one_wins() -> None:
    clock, broker = world()
    watcher = Client(clock, broker, "watcher", "w")
    first = Client(clock, broker, "role", will=Publish("w", b"gone", qos=1))
    clock.run_until(1.0)
    Client(clock, broker, "role")
    clock.run_until(60.0)
    assert first.taken_over and not first.connection.connected and watcher.payloads == [b"gone"]


def test_expired_messages_are_not_delivered_and_others_tell_what_is_left() -> None:
    clock, broker = world()
    lasting: dict[str, Any] = {"clean_start": False, "session_lasts": True}
    absent = Client(clock, broker, "absent", "a", **lasting)
    here = Client(clock, broker, "here")
    clock.run_until(1.0)
    absent.connection.kill()
    clock.run_until(2.0)
    here.publish("a", b"short", qos=1, expiry=5.0)
    here.publish("a", b"long", qos=1, expiry=60.0)
    clock.run_until(12.0)
    back = Client(clock, broker, "absent", **lasting)
    clock.run_until(13.0)
    assert back.payloads == [b"long"] and broker.left(back.got[0][1]) == 50.0 - 1.0


def test_while_the_broker_is_away_qos_1_waits_and_qos_0_is_lost() -> None:
    clock, broker = world()
    there = Client(clock, broker, "there", "a")
    here = Client(clock, broker, "here")
    clock.run_until(1.0)
    broker.restart(wiped=True, pause=5.0)
    clock.run_until(2.0)
    here.publish("a", b"zero")
    here.publish("a", b"one", qos=1, token="t")
    clock.run_until(10.0)
    assert (here.losses, here.connects, there.connects) == (1, 2, 2)
    assert b"zero" not in there.payloads and [token for _, token in here.acknowledged] == ["t"]


def test_a_message_under_way_when_the_connection_breaks_is_sent_again() -> None:
    clock, broker = world()
    there = Client(clock, broker, "there", "a")
    here = Client(clock, broker, "here", link=Link(0.01, rate_up=100.0))
    clock.run_until(1.0)
    here.publish("a", bytes(60), qos=1)
    clock.run_until(1.5)
    here.connection.lose()
    clock.run_until(10.0)
    assert len(there.got) == 1 and here.connects == 2
