"""What the broker does not take: its job ends with what to do about it, or takes another route."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from edgemesh.protocol.activation import Hop, Reply, encode_reply
from edgemesh.roles.actions import Action, JobEnded, Publish, RunUnits
from edgemesh.roles.client import ClientRole
from edgemesh.roles.device import Device
from edgemesh.roles.events import PublishRefused, Refusal, RunFinished
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refused_messages import too_large
from edgemesh.roles.requester import Requester
from edgemesh.roles.routes import ChosenRoute
from edgemesh.roles.worker import Worker
from tests.roles.build import (
    DIGEST,
    TOPICS,
    activation,
    assignment,
    message,
    submitted,
)
from tests.roles.driven import (
    Driven,
    DrivenRequester,
    codes,
    ends,
    only,
    replies,
    sent,
    works,
)
from tests.roles.test_device import SETTINGS, hold
from tests.roles.test_gateway import heir, own_state
from tests.roles.test_requester import FALLBACKS, meets_two

LIMIT = 200_000
TOO_LARGE = Refusal(LIMIT)
FORBIDDEN = Refusal(reason="Not authorized")


def plans_over_two(driven: Driven, fallbacks: Mapping[str, tuple[Hop, ...]] = FALLBACKS) -> None:
    """It hears of the model, of two devices that hold it, and of a plan over both."""
    meets_two(driven)
    driven.take(assignment(fallbacks=fallbacks))


@pytest.fixture
def asker() -> Iterator[DrivenRequester]:
    """A requester; its invariants are checked at the end."""
    driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    plans_over_two(driven)
    yield driven
    driven.check()


def refused(driven: Driven, actions: Sequence[Action], refusal: Refusal = TOO_LARGE) -> list[Action]:
    """What the role does when the broker refuses the one activation among ``actions``."""
    (large,) = sent("work", list(actions))
    return driven.take(PublishRefused(large, refusal))


def refuses(job: str, device: str, position: int, attempt: int = 0) -> bytes:
    """What ``device`` replies when it cannot pass the job on."""
    return encode_reply(Reply(job, "asker", attempt, device, "no-route", "more than it takes", position))


# --- the sentence ----------------------------------------------------------------------------------------


def test_the_sentence_names_both_sizes_and_what_to_do() -> None:
    assert too_large("its input", 307_200, LIMIT) == (
        "its input has 307,200 bytes, more than the broker takes in one message (200,000 bytes): "
        "raise max_packet_size or message_size_limit of the broker"
    )
    assert "one message: raise" in too_large("its input", 307_200, None)


# --- requester -------------------------------------------------------------------------------------------


def test_a_job_whose_input_is_too_large_ends_at_once_and_others_do_not(asker: DrivenRequester) -> None:
    asker.take(submitted("j-2"), at=1.0)
    large = asker.take(submitted("j-1"), at=1.0)

    (ended,) = only(JobEnded, refused(asker, large))

    assert (ended.job, ended.code) == ("j-1", "bad-input")
    assert "its input has " in (ended.text or "") and "200,000 bytes" in (ended.text or "")
    assert asker.role.open_jobs == 1
    assert refused(asker, large) == []  # it has ended


def test_a_job_with_another_attempt_under_way_waits_for_that(asker: DrivenRequester) -> None:
    first = asker.take(submitted(left=60.0), at=1.0)
    second: list[Action] = []
    while not second:
        second = [a for a in asker.pass_until(asker.now + 0.5) if isinstance(a, Publish)]

    assert refused(asker, second) == []
    assert refused(asker, second) == []  # told twice
    assert ends(refused(asker, first)) == [("j-1", "bad-input")]


def test_messages_that_are_no_input_of_its_own_are_no_matter_of_a_requester(asker: DrivenRequester) -> None:
    asker.take(submitted(), at=1.0)
    work = TOPICS.build("work", device="two")
    onward = bytes(activation(position=2).payload)
    others = bytes(activation(requester="another").payload)

    for large in (
        Publish(work, onward, qos=1, token="sent:j-1:0:2"),
        Publish(work, others, qos=1, token="sent:j-1:0:0"),
        Publish(work, b"", qos=1, token="sent:j-1:0:0"),
        Publish("chunks", b"", token="probe:1"),
        Publish("chunks", b""),
    ):
        assert asker.take(PublishRefused(large, TOO_LARGE)) == []
    assert asker.role.open_jobs == 1


def test_what_cannot_be_passed_on_takes_a_route_without_the_device_behind(asker: DrivenRequester) -> None:
    asker.take(submitted(), at=1.0)

    again = asker.take(message("reply", refuses("j-1", "one", 2), requester="asker"), at=1.1)

    assert [(device, header.route) for device, header in works(again)] == [("one", (Hop("one", 4),))]


def test_what_cannot_be_passed_on_takes_a_route_without_the_device_before_it_where_that_is_all() -> None:
    asker = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    plans_over_two(asker, {"one": (Hop("two", 4),)})
    asker.take(submitted(), at=1.0)
    asker.take(message("reply", refuses("j-1", "one", 2), requester="asker"), at=1.1)
    asker.pass_until(2.0)
    asker.take(message("reply", refuses("j-1", "one", 2, attempt=1), requester="asker"), at=2.0)

    assert [(header.attempt, header.route[0].device) for _, header in works(asker.done)] == [
        (0, "one"),
        (1, "one"),
        (2, "two"),
    ]
    asker.check()


def test_what_can_be_passed_on_nowhere_is_given_up_soon() -> None:
    asker = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    plans_over_two(asker, {})
    asker.take(submitted(left=60.0), at=1.0)
    for attempt in range(3):
        assert ends(asker.done) == []
        asker.pass_until(asker.now + 1.0)
        asker.take(message("reply", refuses("j-1", "one", 2, attempt), requester="asker"))

    (ended,) = only(JobEnded, asker.done)
    assert (ended.code, ended.text, ended.attempts) == ("no-route", "more than it takes", 3)
    asker.check()


@pytest.mark.parametrize("given", [False, True], ids=["any route", "a given route"])
def test_a_device_that_holds_the_whole_model_runs_what_it_cannot_send(given: bool) -> None:
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 0.05)
    camera = DrivenRequester(Requester("camera", "app", TOPICS, MeshView(), local_route=lambda model: local))
    plans_over_two(camera)
    route = (Hop("two", 4),) if given else None
    outcome = refused(camera, camera.take(submitted(route=route), at=1.0))

    assert [device for device, _ in works(outcome)] == ([] if given else ["camera"])
    assert ends(outcome) == ([("j-1", "bad-input")] if given else [])
    camera.check()


def test_a_job_that_may_not_be_sent_to_one_device_takes_a_route_without_it(asker: DrivenRequester) -> None:
    first = asker.take(submitted(), at=1.0)

    again = refused(asker, first, FORBIDDEN)

    assert [(device, header.attempt) for device, header in works(again)] == [("two", 1)]
    assert refused(asker, first, FORBIDDEN) == []  # told twice


def test_a_job_that_may_be_sent_nowhere_ends_soon_and_says_where_not() -> None:
    """Found by a reader: it ran to its deadline and ended in "no answer"."""
    asker = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    plans_over_two(asker, {})
    actions = asker.take(submitted(left=60.0), at=1.0)
    while not ends(asker.done):
        refused(asker, actions, FORBIDDEN)
        actions = asker.pass_until(asker.now + 0.5)

    (ended,) = only(JobEnded, asker.done)
    topic = TOPICS.build("work", device="one")
    assert (ended.code, ended.attempts) == ("no-route", 3)
    assert ended.text == f"the broker refuses its input on {topic}: Not authorized"
    assert asker.now < 5.0
    asker.check()


def test_a_job_over_a_given_route_that_may_not_be_sent_ends_at_once(asker: DrivenRequester) -> None:
    actions = asker.take(submitted(route=(Hop("two", 4),)), at=1.0)

    assert ends(refused(asker, actions, FORBIDDEN)) == [("j-1", "no-route")]


@pytest.mark.parametrize(("fallbacks", "taken"), [(FALLBACKS, "two"), ({}, "camera")], ids=["first", "last"])
def test_what_may_not_be_sent_runs_here_where_no_other_device_is_left(
    fallbacks: Mapping[str, tuple[Hop, ...]], taken: str
) -> None:
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 0.05)
    camera = DrivenRequester(Requester("camera", "app", TOPICS, MeshView(), local_route=lambda model: local))
    plans_over_two(camera, fallbacks)

    outcome = refused(camera, camera.take(submitted(), at=1.0), FORBIDDEN)

    assert [device for device, _ in works(outcome)] == [taken]
    camera.check()


# --- worker ----------------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Driven:
    """The worker of device ``one``, which holds the model."""
    role = Worker("one", TOPICS)
    role.held = {DIGEST}
    return Driven(role)


def test_an_activation_that_cannot_be_passed_on_is_answered_in_its_place(worker: Driven) -> None:
    worker.take(activation(attempt=3), at=1.0)
    onward = worker.take(RunFinished(worker.running, b"output", 0.02, 0.001), at=1.1)

    outcome = refused(worker, onward)

    (error,) = replies(outcome)
    assert (error.job, error.attempt, error.code, error.device) == ("j-1", 3, "no-route", "one")
    assert (error.position, [timing.device for timing in error.timings]) == (2, ["one"])
    assert "the activation from one to two has " in (error.text or "") and "raise" in (error.text or "")
    (publish,) = sent("reply", outcome)
    assert publish.topic == TOPICS.build("reply", requester="asker")


def test_a_result_that_cannot_be_sent_is_answered_with_an_error_that_is_final(worker: Driven) -> None:
    worker.take(activation(route=(Hop("one", 4),)), at=1.0)
    (result,) = sent("reply", worker.take(RunFinished(worker.running, b"output", 0.02, 0.001), at=1.1))

    outcome = worker.take(PublishRefused(result, Refusal()))

    assert codes(outcome) == [("j-1", "bad-input")]
    assert "the result has " in (replies(outcome)[0].text or "")
    (error,) = sent("reply", outcome)
    assert worker.take(PublishRefused(error, Refusal())) == []  # there is no end to it otherwise


def test_what_may_not_be_passed_on_or_answered_may_go_over_another_device(worker: Driven) -> None:
    worker.take(activation(), at=1.0)
    onward = worker.take(RunFinished(worker.running, b"output", 0.02, 0.001), at=1.1)
    worker.take(activation(job="j-2", route=(Hop("one", 4),)), at=2.0)
    (result,) = sent("reply", worker.take(RunFinished(worker.running, b"output", 0.02, 0.001), at=2.1))

    (passed,) = replies(refused(worker, onward, FORBIDDEN))
    (answered,) = replies(worker.take(PublishRefused(result, FORBIDDEN)))

    assert (passed.code, passed.position) == ("no-route", 2)
    assert (passed.text or "").startswith("the broker refuses the activation from one to two on ")
    assert (answered.job, answered.code) == ("j-2", "no-route")


def test_what_other_devices_and_requesters_sent_is_not_answered(worker: Driven) -> None:
    work = TOPICS.build("work", device="two")
    for payload in (
        bytes(activation(position=2, sender="zero").payload),
        bytes(activation(requester="one", sender="one").payload),
        encode_reply(Reply("j-1", "asker", 0, "zero")),
        b"{}",
    ):
        assert worker.take(PublishRefused(Publish(work, payload, qos=1), TOO_LARGE)) == []


# --- those that pass it on -------------------------------------------------------------------------------


def test_a_device_takes_its_own_job_over_another_route() -> None:
    device = Driven(Device(SETTINGS, TOPICS))
    plans_over_two(device)
    hold(device)
    device.take(assignment(origin="one", fallbacks=FALLBACKS))
    device.take(submitted(), at=1.0)
    onward = device.take(RunFinished(device.running, b"output", 0.02, 0.001))

    outcome = refused(device, onward)

    (run,) = only(RunUnits, outcome)
    assert (run.start, run.stop) == (0, 4) and not sent("reply", outcome)
    assert device.role.meter._sent.tokens("work:") == []


def test_a_gateway_tells_the_app() -> None:
    gateway = heir(())
    gateway.take(own_state("b-8"))

    outcome = gateway.follow(refused(gateway, gateway.submit(17, at=1.0)))

    assert [publish.payload for publish in sent("result", outcome)] == [b"bad-input"]
    assert gateway.role.open_submissions == 0
    assert gateway.role.meter._sent.tokens("work:") == []


def test_a_client_ends_the_job() -> None:
    client = Driven(ClientRole("asker", "app", TOPICS))
    plans_over_two(client)

    assert ends(refused(client, client.take(submitted(), at=1.0))) == [("j-1", "bad-input")]
