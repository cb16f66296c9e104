"""What the broker refuses for another reason than its size is named, and its owner is told."""

from __future__ import annotations

from pathlib import Path

from edgemesh.roles.events import Refusal
from tests.brokers.servers import Mosquitto
from tests.transport.agent import Agent, run, served
from tests.transport.recording import RecordingBroker

RULES = """topic readwrite open/#
topic read #
"""


def test_a_message_that_its_user_may_not_publish_is_told_with_its_topic(tmp_path: Path) -> None:
    """Found by a reader: the log named neither topic nor message, and nobody else heard of it."""
    rules = tmp_path / "acl"
    rules.write_text(RULES)

    async def story(broker: Mosquitto) -> None:
        async with Agent(broker.address, "guest") as agent:
            await agent.hears("connected")
            agent.publish("closed/work", b"1", token="first")
            sentence = await agent.hears("problem")
            assert "a message of guest on closed/work: Not authorized; see the access rules" in sentence
            message, refusal = await agent.hears("not taken")
            assert message.token == "first" and not refusal.is_for_size
            assert refusal.reason.startswith("Not authorized")

            # Others are told to their owner, and to the log once in a while.
            agent.publish("closed/reply", b"2", token="second")
            happened, (message, _) = await agent.next()
            assert (happened, message.token) == ("not taken", "second")
            agent.publish("open/work", b"3", token="third")
            assert await agent.next() == ("acknowledged", "third")
            assert agent.connects == 1

    with Mosquitto.shipped(tmp_path, acl_file=str(rules)) as broker:
        run(story(broker))


def test_what_nobody_listens_to_is_no_refusal_and_one_answer_is_enough() -> None:
    async def story() -> None:
        broker = RecordingBroker(acknowledges=False)
        async with served(broker.serve) as address, Agent(address, "asks") as agent:
            await agent.hears("connected")
            for token in ("nobody", "twice", "last"):
                agent.publish("topic", b"", token=token)
            await broker.until(lambda: len(broker.owed) == 3)
            nobody, twice, last = (mid.to_bytes(2, "big") for mid in broker.owed)
            broker.send(b"\x40\x03" + nobody + b"\x10")  # no matching subscribers
            broker.send(b"\x40\x02" + twice + b"\x40\x03" + twice + b"\x87")
            broker.send(b"\x40\x03" + last + b"\x97")

            assert await agent.next() == ("acknowledged", "nobody")
            assert await agent.next() == ("acknowledged", "twice")
            assert "Quota exceeded" in await agent.hears("problem")
            message, refusal = await agent.hears("not taken")
            assert (message.token, refusal) == ("last", Refusal(reason="Quota exceeded"))

    run(story())
