"""Rules of the policy memory: what a person decided outlives the broker's store, unless it was cleared."""

from __future__ import annotations

from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import Policy
from edgemesh.roles.actions import Publish, Subscribe
from edgemesh.roles.events import Connected, MessageReceived
from edgemesh.roles.policy_memory import PolicyMemory
from tests.roles.build import TOPICS, message

TOPIC = TOPICS.build("policy", model="face")
KEEP = encode_json(Policy(keep_input=True))


def memory(*first: MessageReceived) -> PolicyMemory:
    """One that is connected and heard these."""
    made = PolicyMemory(TOPICS)
    assert made.handle(Connected(), 0.0) == [Subscribe(TOPICS.filter("policy"), 1)]
    for event in first:
        assert made.handle(event, 0.1) == []
    return made


def policy(payload: bytes = KEEP, *, retained: bool = True) -> MessageReceived:
    return message("policy", payload, retained=retained, model="face")


def holder(*, retained: bool = True) -> MessageReceived:
    return message("decision", Holder("offline", "laptop", "b-9", 4), retained=retained)


def test_a_policy_is_said_again_to_a_broker_that_knows_of_no_holder() -> None:
    kept = memory(holder(), policy())

    kept.handle(Connected(), 9.0)

    assert kept.forgotten() == [Publish(TOPIC, KEEP, qos=1, retain=True)]


def test_nothing_is_said_again_that_the_broker_still_retains() -> None:
    kept = memory(holder(), policy())

    kept.handle(Connected(), 9.0)
    kept.handle(policy(), 9.1)

    assert kept.forgotten() == []


def test_a_policy_that_was_cleared_while_nobody_listened_does_not_come_back() -> None:
    kept = memory(holder(), policy())

    kept.handle(Connected(), 9.0)
    kept.handle(holder(), 9.1)
    assert kept.forgotten() == []

    kept.handle(Connected(), 19.0)
    assert kept.forgotten() == []


def test_a_policy_that_is_cleared_is_forgotten() -> None:
    kept = memory(holder(), policy(), policy(b"", retained=False))

    kept.handle(Connected(), 9.0)

    assert kept.forgotten() == []


def test_the_newest_policy_is_the_one_that_is_said_again() -> None:
    newer = encode_json(Policy(battery_floor=0.2))
    kept = memory(holder(), policy(), policy(newer, retained=False))

    kept.handle(Connected(), 9.0)

    assert kept.forgotten() == [Publish(TOPIC, newer, qos=1, retain=True)]


def test_a_holder_that_says_so_just_now_is_no_memory_of_the_broker() -> None:
    kept = memory(holder(), policy())

    kept.handle(Connected(), 9.0)
    kept.handle(holder(retained=False), 9.1)

    assert len(kept.forgotten()) == 1
