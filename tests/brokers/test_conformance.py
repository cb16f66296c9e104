"""What edgemesh needs of a broker, asked of Mosquitto and of the embedded one.

Where the embedded broker falls short the test says so, and fails when that is no longer true: then
brokers/README.md has a line too many.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from edgemesh.transport.address import BrokerAddress
from tests.brokers import peer
from tests.brokers.peer import WAIT, Peer
from tests.brokers.servers import run_tool


def on_both(*, embedded_lacks: str = "") -> Callable[[Any], Any]:
    """Run a test with each broker; ``embedded_lacks`` is what makes it fail with the embedded one."""
    marks = [pytest.mark.xfail(strict=True, reason=embedded_lacks)] if embedded_lacks else []
    return pytest.mark.parametrize(
        "broker", ["mosquitto", pytest.param("embedded", marks=marks)], indirect=True
    )


@pytest.fixture
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BrokerAddress:
    if request.node.get_closest_marker("xfail") is not None:
        monkeypatch.setattr(peer, "WAIT", 5.0)  # what it lacks does not come later, either
    address: BrokerAddress = request.getfixturevalue(request.param)
    return address


@pytest.fixture
def root() -> str:
    """Topics of this test alone: retained messages stay in a broker."""
    return f"test/{uuid.uuid4().hex[:12]}"


# --- messages ---------------------------------------------------------------------------------------------


@on_both()
@pytest.mark.parametrize(("sender", "receiver"), [(4, 4), (4, 5), (5, 4), (5, 5)])
def test_clients_of_mqtt_3_and_5_hear_each_other_on_one_port(
    broker: BrokerAddress, root: str, sender: int, receiver: int
) -> None:
    with Peer(broker, version=receiver) as listens, Peer(broker, version=sender) as speaks:
        listens.subscribe(f"{root}/#")
        speaks.publish(f"{root}/a", b"hello")

        message = listens.next()

        assert (message.topic, message.payload, message.retain) == (f"{root}/a", b"hello", False)


@on_both()
def test_mosquitto_pub_needs_no_option_for_the_version(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as listens:
        listens.subscribe(f"{root}/submit")

        run_tool("mosquitto_pub", "-p", str(broker.port), "-t", f"{root}/submit", "-m", "photo", "-q", "1")

        assert listens.next().payload == b"photo"


@on_both()
def test_four_megabytes_arrive_whole(broker: BrokerAddress, root: str) -> None:
    payload = bytes(range(256)) * (4 * 4096)
    with Peer(broker) as listens, Peer(broker) as speaks:
        listens.subscribe(root)
        speaks.publish(root, payload)

        assert listens.next().payload == payload


@on_both()
def test_five_hundred_messages_at_once_arrive_in_order(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as listens, Peer(broker) as speaks:
        listens.subscribe(root)
        sent = [str(i).encode() for i in range(500)]
        for payload in sent:
            speaks.client.publish(root, payload, 1)

        assert [listens.next().payload for _ in sent] == sent


@on_both()
def test_properties_of_mqtt_5_arrive(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as listens, Peer(broker) as speaks:
        listens.subscribe(root)
        speaks.publish(
            root,
            b"x",
            ContentType="image/jpeg",
            ResponseTopic=f"{root}/answer",
            CorrelationData=b"\x00\x01",
            MessageExpiryInterval=60,
            UserProperty=[("traceparent", "00-ab")],
        )

        properties: Any = listens.next().properties

        assert properties.ContentType == "image/jpeg"
        assert properties.ResponseTopic == f"{root}/answer"
        assert properties.CorrelationData == b"\x00\x01"
        assert 0 < properties.MessageExpiryInterval <= 60
        assert properties.UserProperty == [("traceparent", "00-ab")]


# --- retained ---------------------------------------------------------------------------------------------


@on_both()
@pytest.mark.parametrize("wildcard", ["+/state", "#", "pi-4b/state"])
def test_a_new_subscriber_gets_what_was_retained(broker: BrokerAddress, root: str, wildcard: str) -> None:
    with Peer(broker) as speaks, Peer(broker) as listens:
        speaks.publish(f"{root}/pi-4b/state", b"stopped", retain=True)
        speaks.publish(f"{root}/pi-4b/state", b"online", retain=True)
        listens.subscribe(f"{root}/{wildcard}")

        message = listens.next()
        assert (message.payload, message.retain) == (b"online", True)

        speaks.publish(f"{root}/pi-4b/state", b"offline", retain=True)
        live = listens.next()
        assert (live.payload, live.retain) == (b"offline", False)


@on_both()
def test_an_empty_payload_clears_what_was_retained(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as speaks, Peer(broker) as listens:
        speaks.publish(f"{root}/a", b"old", retain=True)
        speaks.publish(f"{root}/a", b"", retain=True)
        listens.subscribe(f"{root}/#")
        speaks.publish(f"{root}/b", b"end")

        assert listens.until(b"end") == []


@on_both()
def test_two_megabytes_can_be_retained(broker: BrokerAddress, root: str) -> None:
    payload = b"m" * 2_000_000
    with Peer(broker) as speaks, Peer(broker) as listens:
        speaks.publish(f"{root}/manifest", payload, retain=True)
        listens.subscribe(f"{root}/+")

        assert listens.next().payload == payload

        speaks.publish(f"{root}/manifest", b"", retain=True)


@on_both(embedded_lacks="rumqttd gives a subscriber at QoS 1 at most 100 retained messages")
def test_three_hundred_retained_messages_reach_a_subscriber_at_qos_1(
    broker: BrokerAddress, root: str
) -> None:
    with Peer(broker) as speaks, Peer(broker) as listens:
        for i in range(300):
            speaks.client.publish(f"{root}/{i}/about", b"x", 1, True)
        speaks.publish(f"{root}/end", b"end")
        listens.subscribe(f"{root}/+/about", 1)
        speaks.publish(f"{root}/0/about", b"end")

        assert len(listens.until(b"end")) == 300


@on_both(embedded_lacks="rumqttd gives a client 100 retained messages before it acknowledges the first")
def test_a_hundred_and_eighty_retained_messages_reach_a_client_over_three_subscriptions(
    broker: BrokerAddress, root: str
) -> None:
    kinds = ("state", "about", "profile")
    with Peer(broker) as speaks, Peer(broker, receive_maximum=200, manual_ack=True) as listens:
        for kind in kinds:
            for i in range(60):
                speaks.client.publish(f"{root}/{i}/{kind}", b"x", 1, True)
        listens.subscribe(f"{root}/end", 0)
        for kind in kinds:
            listens.subscribe(f"{root}/+/{kind}", 1)
        speaks.publish(f"{root}/end", b"end", qos=0)

        assert len(listens.until(b"end")) == 180


@on_both()
def test_three_hundred_retained_messages_reach_a_subscriber_at_qos_0(
    broker: BrokerAddress, root: str
) -> None:
    with Peer(broker) as speaks, Peer(broker) as listens:
        for i in range(300):
            speaks.client.publish(f"{root}/{i}/about", b"x", 1, True)
        speaks.publish(f"{root}/end", b"end")
        listens.subscribe(f"{root}/+/about", 0)
        speaks.publish(f"{root}/0/about", b"end")

        assert len(listens.until(b"end")) == 300


@on_both()
def test_a_retained_message_expires(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as speaks:
        # Brokers count whole seconds, and one may be over at once: the other topic shows that it is kept.
        speaks.publish(f"{root}/brief", b"old", retain=True, MessageExpiryInterval=1)
        speaks.publish(f"{root}/lasting", b"old", retain=True, MessageExpiryInterval=3600)
        deadline = time.monotonic() + WAIT

        while _retained(broker, speaks, f"{root}/brief"):
            assert time.monotonic() < deadline

        assert _retained(broker, speaks, f"{root}/lasting")


# --- Will ---------------------------------------------------------------------------------------------------


@on_both()
def test_the_will_is_published_and_retained_when_a_client_vanishes(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as watches:
        watches.subscribe(f"{root}/#")
        Peer(broker, will=(f"{root}/state", b"offline", True)).vanish()

        assert watches.next().payload == b"offline"
        with Peer(broker) as later:
            later.subscribe(f"{root}/state")
            assert later.next().payload == b"offline"


@on_both()
def test_no_will_after_a_clean_disconnect(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as watches:
        watches.subscribe(f"{root}/#")
        with Peer(broker, will=(f"{root}/state", b"offline", False)) as device:
            device.publish(f"{root}/state", b"stopped")
        Peer(broker, will=(f"{root}/state", b"end", False)).vanish()

        assert watches.until(b"end") == [b"stopped"]


@on_both()
def test_the_will_is_published_when_a_client_falls_silent(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as watches:
        watches.subscribe(f"{root}/#")
        with socket.create_connection((broker.host, broker.port)) as silent:
            # A CONNECT with a keep-alive of 1 s and a Will at QoS 0, and then nothing.
            topic = f"{root}/state".encode()
            body = b"\x00\x04MQTT\x05\x06\x00\x01\x00" + _text(root[5:].encode())
            body += b"\x00" + _text(topic) + _text(b"offline")
            silent.sendall(b"\x10" + bytes([len(body)]) + body)

            # Mosquitto looks only every few seconds whose keep-alive is over (over 5 s were seen).
            assert watches.messages.get(timeout=15.0).payload == b"offline"


def _text(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


# --- shared subscriptions -----------------------------------------------------------------------------------


@on_both()
def test_a_shared_subscription_gives_each_message_to_one_member(broker: BrokerAddress, root: str) -> None:
    with Peer(broker) as one, Peer(broker) as two, Peer(broker) as speaks:
        for member in (one, two):
            member.subscribe(f"$share/gateways/{root}/submit")
            member.subscribe(f"{root}/end")
        sent = {str(i).encode() for i in range(40)}
        for payload in sorted(sent):
            speaks.publish(f"{root}/submit", payload)
        speaks.publish(f"{root}/end", b"end")

        got = [one.until(b"end"), two.until(b"end")]

        assert sorted(got[0] + got[1]) == sorted(sent)
        assert got[0]
        assert got[1]


# --- sessions -----------------------------------------------------------------------------------------------


@on_both()
def test_messages_wait_for_a_client_with_a_lasting_session(broker: BrokerAddress, root: str) -> None:
    name = f"lasting-{root[-6:]}"
    with Peer(broker) as speaks:
        with Peer(broker, name, clean_start=False, session_expiry=60) as first:
            first.subscribe(f"{root}/submit")
        sent = [str(i).encode() for i in range(50)]
        for payload in sent:
            speaks.publish(f"{root}/submit", payload)

        with Peer(broker, name, clean_start=False, session_expiry=60) as second:
            assert second.session_present
            assert [second.next().payload for _ in sent] == sent


@on_both(embedded_lacks="rumqttd keeps a session as clean start says and ignores the session's expiry")
def test_a_session_without_expiry_ends_with_its_connection(broker: BrokerAddress, root: str) -> None:
    name = f"short-{root[-6:]}"
    with Peer(broker, name, clean_start=False, session_expiry=0) as first:
        first.subscribe(root)

    with Peer(broker, name, clean_start=False, session_expiry=0) as second:
        assert not second.session_present


@on_both()
def test_a_clean_start_forgets_the_session(broker: BrokerAddress, root: str) -> None:
    name = f"clean-{root[-6:]}"
    with Peer(broker) as speaks:
        with Peer(broker, name, clean_start=False, session_expiry=60) as first:
            first.subscribe(root)
        speaks.publish(root, b"missed")

        with Peer(broker, name, clean_start=True) as second:
            assert not second.session_present
            second.subscribe(root)
            speaks.publish(root, b"end")
            assert second.until(b"end") == []


@on_both()
def test_a_message_that_waits_expires(broker: BrokerAddress, root: str) -> None:
    name = f"expires-{root[-6:]}"
    with Peer(broker, name, clean_start=False, session_expiry=60) as first:
        first.subscribe(f"{root}/#")
    with Peer(broker) as speaks:
        speaks.publish(f"{root}/job", b"old", MessageExpiryInterval=1)
        # The broker's own clock says when a second has passed: a retained message that expires with it.
        speaks.publish(f"{root}-clock", b"tick", retain=True, MessageExpiryInterval=2)
        deadline = time.monotonic() + WAIT
        while _retained(broker, speaks, f"{root}-clock"):
            assert time.monotonic() < deadline
        speaks.publish(f"{root}/job", b"end")

        with Peer(broker, name, clean_start=False, session_expiry=60) as second:
            assert second.until(b"end") == []


def _retained(broker: BrokerAddress, speaks: Peer, topic: str) -> bool:
    with Peer(broker) as listens:
        listens.subscribe(topic)
        speaks.publish(topic, b"end")
        return listens.until(b"end") != []


@on_both()
def test_what_was_not_acknowledged_comes_again(broker: BrokerAddress, root: str) -> None:
    name = f"gateway-{root[-6:]}"
    session: dict[str, Any] = {"clean_start": False, "session_expiry": 60, "manual_ack": True}
    with Peer(broker) as speaks:
        holder = Peer(broker, name, **session)
        holder.subscribe(f"{root}/submit")
        for payload in (b"a", b"b", b"c"):
            speaks.publish(f"{root}/submit", payload)
        jobs = [holder.next() for _ in range(3)]
        holder.client.ack(jobs[0].mid, 1)
        # The PUBACK is at the broker once a later publication of the same connection is acknowledged.
        holder.publish(f"{root}/result", b"a")
        holder.vanish()

        with Peer(broker, name, **session) as standby:
            again = [standby.next() for _ in range(2)]

            assert [message.payload for message in again] == [b"b", b"c"]


@on_both(embedded_lacks="rumqttd does not mark a repeated message as a duplicate")
def test_what_comes_again_is_marked_as_a_duplicate(broker: BrokerAddress, root: str) -> None:
    name = f"duplicate-{root[-6:]}"
    session: dict[str, Any] = {"clean_start": False, "session_expiry": 60, "manual_ack": True}
    with Peer(broker) as speaks:
        holder = Peer(broker, name, **session)
        holder.subscribe(root)
        speaks.publish(root, b"a")
        assert not holder.next().dup
        holder.vanish()

        with Peer(broker, name, **session) as standby:
            assert standby.next().dup


@on_both(embedded_lacks="rumqttd keeps at most 100 unacknowledged messages to a client")
def test_a_client_gets_as_many_unacknowledged_messages_as_it_asked_for(
    broker: BrokerAddress, root: str
) -> None:
    with Peer(broker, receive_maximum=200, manual_ack=True) as gateway, Peer(broker) as speaks:
        gateway.subscribe(f"{root}/submit", 1)
        gateway.subscribe(f"{root}/end", 0)
        for i in range(200):
            speaks.client.publish(f"{root}/submit", str(i).encode(), 1)
        speaks.publish(f"{root}/end", b"end", qos=0)

        assert len(gateway.until(b"end")) == 200


@on_both(embedded_lacks="rumqttd ignores the receive maximum of a client")
def test_a_client_gets_no_more_unacknowledged_messages_than_it_asked_for(
    broker: BrokerAddress, root: str
) -> None:
    with Peer(broker, receive_maximum=3, manual_ack=True) as gateway, Peer(broker) as speaks:
        gateway.subscribe(f"{root}/submit", 1)
        gateway.subscribe(f"{root}/end", 0)
        for i in range(10):
            speaks.publish(f"{root}/submit", str(i).encode())
        speaks.publish(f"{root}/end", b"end", qos=0)

        assert gateway.until(b"end") == [b"0", b"1", b"2"]


# --- client ids ---------------------------------------------------------------------------------------------


@on_both()
def test_a_second_client_of_one_name_throws_the_first_out(broker: BrokerAddress, root: str) -> None:
    name = f"twin-{root[-6:]}"
    with Peer(broker, name) as first, Peer(broker, name) as second:
        first.disconnected.get(timeout=WAIT)

        second.publish(root, b"still here")


@on_both()
def test_the_client_that_is_thrown_out_may_not_learn_why(broker: BrokerAddress, root: str) -> None:
    """MQTT 5 wants a DISCONNECT with 0x8E; Mosquitto 2.0.11 and rumqttd just close: nobody may rely on it."""
    name = f"twin-{root[-6:]}"
    with Peer(broker, name) as first, Peer(broker, name):
        assert first.disconnected.get(timeout=WAIT) in (
            0x80,
            0x8E,
        )  # 0x80 is paho's word for a lost connection


@on_both()
def test_a_standby_that_takes_the_name_inherits_the_unacknowledged_jobs(
    broker: BrokerAddress, root: str
) -> None:
    name = f"gateway-{root[-6:]}"
    session: dict[str, Any] = {"clean_start": False, "session_expiry": 60, "manual_ack": True}
    with Peer(broker) as speaks, Peer(broker, name, **session) as holder:
        holder.subscribe(root)
        speaks.publish(root, b"job")
        assert holder.next().payload == b"job"

        with Peer(broker, name, **session) as standby:
            assert standby.session_present
            assert standby.next().payload == b"job"
