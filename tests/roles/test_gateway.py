"""Rules of the gateway: what apps publish becomes jobs, and is acknowledged when its result is out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop, Reply, encode_reply
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import decode_json
from edgemesh.roles.actions import Acknowledge, Action, DecodeInput, Publish, RenderResult, Subscribe
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    InputDecoded,
    InputRefused,
    MessageReceived,
    ResultRendered,
)
from edgemesh.roles.gateway import OPEN_SUBMISSIONS, Gateway
from tests.roles.build import DIGEST, FACE, TOPICS, about, assignment, manifest, message, state
from tests.roles.driven import Driven, only, sent, works

RESULT = TOPICS.build("result", model="face")


class DrivenGateway(Driven):
    """Decodes and renders at once unless told otherwise; checks that each submission is acknowledged once."""

    def __init__(self, role: Gateway) -> None:
        super().__init__(role)
        self.decodes = True

    def submit(self, number: int, at: float, model: str = "face", **fields: Any) -> list[Action]:
        """Submission ``number`` arrives; its payload is decoded."""
        event = MessageReceived(
            TOPICS.parse(TOPICS.build("submit", model=model)), b"photo", acknowledgement=number, **fields
        )
        return self.follow(self.take(event, at))

    def follow(self, actions: list[Action]) -> list[Action]:
        """What comes of ``actions`` when decoding and rendering work."""
        outcome = list(actions)
        for action in outcome:
            if isinstance(action, DecodeInput) and self.decodes:
                outcome += self.take(InputDecoded(action.job, b"tensors"))
            elif isinstance(action, RenderResult):
                payload = (action.ended.code or "fine").encode()
                outcome += self.take(ResultRendered(action.job, payload))
        return outcome

    def answer(self, job: str, at: float, code: str | None = None, attempt: int = 0) -> list[Action]:
        """The last device of the job's route replies."""
        header = Reply(job, "gateway-0", attempt, "one", code, code)
        reply = encode_reply(header, () if code else (b"out",))
        return self.follow(self.take(message("reply", reply, requester="gateway-0"), at))

    def check(self) -> None:
        """What must hold after every test."""
        numbers = [a.acknowledgement for a in only(Acknowledge, self.done)]
        assert len(numbers) == len(set(numbers)), numbers
        waiting = {name.partition(":")[2] for name in self.timers if name.startswith("submission:")}
        assert waiting <= set(self.role._submissions)


@pytest.fixture
def gateway() -> Iterator[DrivenGateway]:
    """A gateway that knows a model with a plan; its invariants are checked at the end."""
    driven = DrivenGateway(Gateway("0", "laptop", "b-7", 2, TOPICS))
    driven.take(Connected(), at=0.0)
    driven.take(manifest())
    driven.take(state("one"))
    driven.take(about("one", DIGEST))
    driven.take(assignment(Hop("one", 4)))
    yield driven
    driven.check()


def test_a_submission_becomes_a_job_with_its_expiry_as_deadline(gateway: DrivenGateway) -> None:
    actions = gateway.submit(1, at=1.0, expiry=7.0)
    ((device, header),) = works(actions)
    assert device == "one" and header.job == "b-7-1" and header.requester == "gateway-0"
    assert header.left == pytest.approx(7.0)
    assert works(gateway.submit(2, at=1.0))[0][1].left == pytest.approx(30.0)


def test_is_acknowledged_only_after_its_result_is_published(gateway: DrivenGateway) -> None:
    assert not only(Acknowledge, gateway.submit(1, at=1.0))
    actions = gateway.answer("b-7-1", at=1.2)
    order = [a for a in actions if isinstance(a, (Publish, Acknowledge))]
    assert isinstance(order[0], Publish) and order[0].topic == RESULT and order[0].payload == b"fine"
    assert order[1:] == [Acknowledge(1)]


def test_an_error_is_a_result_too(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0, expiry=2.0)
    actions = gateway.follow(gateway.pass_until(3.0))
    assert [a.payload for a in sent("result", actions)] == [b"deadline"]
    assert only(Acknowledge, actions) == [Acknowledge(1)]


def test_response_topic_and_correlation_are_honoured(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0, response_topic="my/answers", correlation=b"42")
    published = only(Publish, gateway.answer("b-7-1", at=1.2))
    assert [a.topic for a in published] == [RESULT, "my/answers"]
    assert [a.correlation for a in published] == [None, b"42"]


def test_without_a_response_topic_the_correlation_is_returned_on_the_result(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0, correlation=b"42")
    (published,) = only(Publish, gateway.answer("b-7-1", at=1.2))
    assert (published.topic, published.correlation) == (RESULT, b"42")


def test_a_plain_result_has_no_properties_for_readers_of_mqtt_3(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0)
    (published,) = only(Publish, gateway.answer("b-7-1", at=1.2))
    assert (published.content_type, published.correlation, published.expiry) == (None, None, None)


@pytest.mark.parametrize(
    "topic",
    [
        "edgemesh/v1/home/assignment/face/app",
        "edgemesh/v1/home/reply/another",
        "edgemesh/v1/home/device/one/work",
        "edgemesh/v1/other-mesh/model/face",
        "edgemesh/v2/home/model/face",
        "$SYS/broker",
        "my/+/answers",
        "#",
        "",
    ],
)
def test_a_response_topic_does_not_make_the_gateway_write_into_a_mesh(
    gateway: DrivenGateway, topic: str
) -> None:
    gateway.submit(1, at=1.0, response_topic=topic)
    assert [a.topic for a in only(Publish, gateway.answer("b-7-1", at=1.2))] == [RESULT]


def test_a_model_that_does_not_exist_is_an_error_after_a_moments_grace(gateway: DrivenGateway) -> None:
    assert gateway.submit(1, at=1.0, model="ghost") and not sent("result", gateway.done)
    actions = gateway.follow(gateway.pass_until(2.1))
    assert [a.payload for a in sent("result", actions)] == [b"unknown-model"]
    assert only(Acknowledge, actions) == [Acknowledge(1)]


def test_a_submission_that_is_there_before_the_manifest_begins_when_it_comes() -> None:
    fresh = DrivenGateway(Gateway("0", "laptop", "b-8", 3, TOPICS))
    fresh.take(Connected(), at=0.0)
    assert not only(DecodeInput, fresh.submit(1, at=0.001, duplicate=True))
    assert [a.job for a in only(DecodeInput, fresh.take(manifest(), at=0.002))] == ["b-8-1"]
    fresh.take(manifest(), at=0.003)
    assert len(only(DecodeInput, fresh.done)) == 1
    fresh.check()


def test_an_input_that_is_none_of_this_model_is_refused(gateway: DrivenGateway) -> None:
    gateway.decodes = False
    gateway.submit(1, at=1.0)
    actions = gateway.follow(gateway.take(InputRefused("b-7-1", "bad-input", "no image"), at=1.1))
    assert [a.payload for a in sent("result", actions)] == [b"bad-input"]
    assert only(Acknowledge, actions) == [Acknowledge(1)] and gateway.role.requester.open_jobs == 0


def test_an_input_that_takes_for_ever_to_read_ends_at_its_deadline(gateway: DrivenGateway) -> None:
    gateway.decodes = False
    gateway.submit(1, at=1.0, expiry=3.0)
    actions = gateway.follow(gateway.pass_until(5.0))
    assert [a.payload for a in sent("result", actions)] == [b"deadline"]
    # What comes after is nobody's job any more.
    assert gateway.take(InputDecoded("b-7-1", b"tensors"), at=6.0) == []
    assert gateway.take(InputRefused("b-7-1", "bad-input", "late"), at=6.0) == []


def test_submissions_are_shared_between_slots_and_replies_are_not(gateway: DrivenGateway) -> None:
    filters = [a.filter for a in only(Subscribe, gateway.done)]
    assert "$share/gateway/edgemesh/v1/home/submit/+" in filters
    assert "edgemesh/v1/home/reply/gateway-0" in filters


def test_other_messages_are_acknowledged_when_they_are_read(gateway: DrivenGateway) -> None:
    news = replace(state("two"), acknowledgement=9)
    assert only(Acknowledge, gateway.take(news, at=1.0)) == [Acknowledge(9)]
    garbage = replace(message("about", b"{", device="two"), acknowledgement=10)
    assert only(Acknowledge, gateway.take(garbage, at=1.0)) == [Acknowledge(10)]


def test_a_lost_connection_leaves_its_jobs_to_whoever_gets_them_again(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0)
    gateway.take(Disconnected(), at=1.1)
    assert gateway.role.requester.open_jobs == 0
    gateway.take(Connected(), at=2.0)
    gateway.submit(1, at=2.1, duplicate=True)
    # The answer to the first life is for nobody, or there would be two results.
    assert not sent("result", gateway.answer("b-7-1", at=2.2))
    assert len(sent("result", gateway.answer("b-7-2", at=2.3))) == 1


def test_says_who_holds_the_slot_and_repeats_it(gateway: DrivenGateway) -> None:
    states = sent("gateway", [*gateway.done, *gateway.pass_until(11.0)])
    assert len(states) == 3 and all(a.retain and a.qos == 1 for a in states)
    assert decode_json(Holder, states[0].payload) == Holder("online", "laptop", "b-7", 2)
    assert decode_json(Holder, gateway.role.will().payload).state == "offline"
    (farewell,) = only(Publish, gateway.role.farewell())
    assert decode_json(Holder, farewell.payload).state == "stopped"


def test_the_payload_is_not_kept_beside_the_tensors(gateway: DrivenGateway) -> None:
    gateway.submit(1, at=1.0)
    assert gateway.role._submissions["b-7-1"].payload == b""
    assert FACE.name == gateway.role._submissions["b-7-1"].model


def test_more_open_submissions_than_it_may_hold_are_answered_busy(gateway: DrivenGateway) -> None:
    for number in range(OPEN_SUBMISSIONS):
        gateway.submit(number, at=1.0)

    (refused,) = only(RenderResult, gateway.submit(OPEN_SUBMISSIONS, at=1.1))

    assert refused.ended.code == "busy"
