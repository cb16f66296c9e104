"""Rules of the requester: each job ends once, by its deadline, and a lost device costs a retry, no job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop, Reply, Timing, encode_reply
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.requests import PlanRequest, PlanResponse
from edgemesh.roles.actions import Action, JobEnded, Publish
from edgemesh.roles.attempts import MAX_ATTEMPTS
from edgemesh.roles.events import Connected, Disconnected, JobCancelled, PublishAcknowledged
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.requester import Requester
from edgemesh.roles.routes import ChosenRoute
from tests.roles.build import (
    DIGEST,
    FACE,
    ROUTE,
    TOPICS,
    about,
    assignment,
    heartbeat,
    manifest,
    message,
    reply,
    state,
    submitted,
)
from tests.roles.driven import Driven, DrivenRequester, ends, only, sent, works

FALLBACKS = {"one": (Hop("two", 4),), "two": (Hop("one", 4),)}


def meets_two(driven: Driven) -> None:
    """It connects, and hears of the model and of two devices that hold it."""
    driven.take(Connected(), at=0.0)
    driven.take(manifest())
    for device in ("one", "two"):
        driven.take(state(device))
        driven.take(about(device, DIGEST))


@pytest.fixture
def asker() -> Iterator[DrivenRequester]:
    """A requester that knows the model and two devices; its invariants are checked at the end."""
    driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    meets_two(driven)
    yield driven
    driven.check()


@pytest.fixture
def planned(asker: DrivenRequester) -> DrivenRequester:
    """The same with an assignment over both devices, and fallbacks over each alone."""
    asker.take(assignment(fallbacks=FALLBACKS))
    return asker


def beat(asker: DrivenRequester, until: float, *devices: str) -> list[Any]:
    """Time passes while ``devices`` give signs of life."""
    done: list[Any] = []
    while asker.now < until:
        at = min(until, asker.now + 1.0)
        for device in devices:
            done += asker.pass_until(at)
            done += asker.take(heartbeat(device))
    return done


# --- the ordinary way ------------------------------------------------------------------------------------


def test_stamps_the_route_of_the_assignment_on_the_job(planned: DrivenRequester) -> None:
    ((device, header),) = works(planned.take(submitted(), at=1.0))
    assert device == "one" and header.route == ROUTE and header.digest == DIGEST
    assert (header.attempt, header.position, header.left, header.requester) == (0, 0, 10.0, "asker")


def test_the_first_result_ends_the_job_and_later_ones_are_dropped(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    (ended,) = only(JobEnded, planned.take(reply(), at=1.2))
    assert ended.code is None and bytes(ended.section) == b"out" and ended.route == ROUTE
    assert ended.seconds == pytest.approx(0.2) and ended.predicted == 0.1 and ended.attempts == 1
    assert planned.take(reply(), at=1.3) == [] and planned.timers == {}


def test_a_result_of_an_attempt_that_was_given_up_still_counts(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(state("two", "offline"), at=1.1)
    (ended,) = only(JobEnded, planned.take(reply(attempt=0), at=1.2))
    assert ended.code is None and [hop.device for hop in ended.route] == ["one", "two"]


def test_answers_meant_for_another_requester_or_nobody_are_ignored(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    assert planned.take(reply("j-2"), at=1.1) == []
    garbage = planned.take(message("reply", b"garbage", requester="asker"), at=1.2)
    assert [type(action).__name__ for action in garbage] == ["Log"]


def test_the_same_job_submitted_twice_is_one_job(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    assert planned.take(submitted(), at=1.1) == []


def test_a_cancelled_job_is_forgotten(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(JobCancelled("j-1"), at=1.1)
    assert planned.role.open_jobs == 0 and planned.timers == {}
    assert planned.take(reply(), at=1.2) == []


def test_receipts_are_asked_for_at_most_five_times_a_second_per_device(planned: DrivenRequester) -> None:
    wanted = []
    for number in range(30):
        actions = planned.take(submitted(f"j-{number}"), at=1.0 + number / 16)
        wanted += [header.receipt for _, header in works(actions)]
        assert sent("work", actions)[0].token == f"{'work' if wanted[-1] else 'sent'}:j-{number}:0:0"
        planned.take(reply(f"j-{number}"))
    assert sum(wanted) == 8  # 30 / 16 s: one each 4 / 16 s


# --- devices that go -------------------------------------------------------------------------------------


def test_retries_on_the_fallback_when_a_device_goes_offline(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    ((device, header),) = works(planned.take(state("two", "offline"), at=1.1))
    assert device == "one" and header.route == FALLBACKS["two"] and header.attempt == 1
    (ended,) = only(JobEnded, planned.take(reply(attempt=1, device="one"), at=1.3))
    assert ended.code is None and ended.route == FALLBACKS["two"] and ended.attempts == 2


def fall_back(asker: DrivenRequester, *, better: float, jobs: int = 1) -> list[tuple[str, Any]]:
    """Jobs fall back from device two to the slow device one; a new plan takes ``better`` seconds on three.

    What is sent when the plan comes.
    """
    asker.take(state("three"))
    asker.take(about("three", DIGEST))
    asker.take(assignment(Hop("two", 4), seconds=0.5, fallbacks={"two": (Hop("one", 4),)}))
    for number in range(1, jobs + 1):
        asker.take(submitted(f"j-{number}"), at=1.0)
    sent_again = works(asker.take(state("two", "offline"), at=1.1))
    assert [device for device, _ in sent_again] == ["one"] * jobs  # which takes a second
    return works(asker.take(assignment(Hop("three", 4), seconds=better, epoch=(1, 2)), at=1.12))


def test_a_job_that_fell_back_on_a_slow_route_follows_a_new_plan_that_is_much_faster(
    asker: DrivenRequester,
) -> None:
    ((device, header),) = fall_back(asker, better=0.2)

    assert (device, header.attempt) == ("three", 2)
    (ended,) = only(JobEnded, asker.take(reply(attempt=2, device="three"), at=1.4))
    assert ended.code is None and ended.route == (Hop("three", 4),)


def test_a_job_that_fell_back_stays_where_a_new_plan_would_gain_little(asker: DrivenRequester) -> None:
    assert fall_back(asker, better=0.7) == []


def test_a_new_plan_moves_a_job_once_and_none_that_lost_no_device(asker: DrivenRequester) -> None:
    fall_back(asker, better=0.2)
    asker.take(submitted("j-2"), at=1.13)
    asker.take(state("two"), at=1.14)

    assert works(asker.take(assignment(Hop("two", 4), seconds=0.01, epoch=(1, 3)), at=1.15)) == []


def test_of_many_jobs_that_fell_back_a_new_plan_moves_no_more_than_may_be_hedged(
    asker: DrivenRequester,
) -> None:
    assert 1 <= len(fall_back(asker, better=0.1, jobs=40)) <= 10


def test_a_slow_fallback_that_a_new_plan_overtook_has_not_failed(asker: DrivenRequester) -> None:
    fall_back(asker, better=0.2, jobs=3)
    for number in range(1, 4):
        asker.take(reply(f"j-{number}", attempt=2, device="three"), at=1.4)

    asker.take(state("two"))
    asker.take(state("three", "offline"))
    asker.take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}, epoch=(1, 3)))
    ((device, _),) = works(asker.take(submitted("j-9"), at=1.5))
    assert device == "one"


def test_a_device_that_goes_costs_jobs_elsewhere_nothing(planned: DrivenRequester) -> None:
    planned.take(about("three"))
    planned.take(submitted(), at=1.0)
    assert planned.take(state("three", "offline"), at=1.1) == []


def test_silence_of_a_device_is_noticed_by_the_heartbeats_of_others(asker: DrivenRequester) -> None:
    asker.take(assignment(seconds=60.0, fallbacks=FALLBACKS))
    asker.take(submitted(left=100.0), at=1.0)
    done = beat(asker, 12.0, "one")
    ((device, header),) = works(done)
    assert device == "one" and header.route == FALLBACKS["two"]


def test_without_any_route_left_the_job_waits_for_a_device_to_come_back(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(state("one", "offline"), at=1.1)
    planned.take(state("two", "offline"), at=1.1)
    planned.pass_until(2.0)
    planned.take(state("one"), at=3.0)
    ((device, header),) = works(planned.pass_until(6.0))
    assert device == "one" and header.route == FALLBACKS["two"]


def test_heartbeats_cost_no_look_at_the_jobs(planned: DrivenRequester) -> None:
    for number in range(200):
        planned.take(submitted(f"j-{number}"), at=1.0)
    planned.take(heartbeat("one"), at=1.5)
    looks = []
    alive = planned.role.routes.alive

    def watched(devices: Any, now: float) -> bool:
        looks.append(devices)
        return bool(alive(devices, now))

    planned.role.routes.alive = watched
    for _ in range(100):
        planned.take(heartbeat("one"))
    assert looks == []


# --- errors ----------------------------------------------------------------------------------------------


def test_busy_goes_elsewhere_at_once(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    ((device, header),) = works(planned.take(reply(code="busy", device="one"), at=1.1))
    assert (device, header.route) == ("two", FALLBACKS["one"])


def test_busy_everywhere_ends_a_job_at_once(planned: DrivenRequester) -> None:
    planned.take(submitted(left=60.0), at=1.0)
    planned.take(reply(code="busy", device="one"), at=1.1)

    actions = planned.take(reply(attempt=1, code="busy", device="two"), at=1.2)

    # Seconds of work wait wherever it could run: asking again and again would only add to that.
    assert ends(actions) == [("j-1", "busy")] and works(actions) == []


def answer_every(planned: DrivenRequester, gap: float, jobs: list[str]) -> None:
    """Results from device "one" of all but the last of ``jobs``, which are under way."""
    for job in jobs[:-1]:
        planned.take(reply(job, device="one"), at=planned.now + gap)


def test_more_under_way_than_comes_home_by_the_deadline_is_busy_at_once_and_not_sent(
    asker: DrivenRequester,
) -> None:
    asker.take(assignment(Hop("one", 4)))
    jobs = [f"j-{number}" for number in range(6)]
    for job in jobs:
        asker.take(submitted(job, left=60.0), at=1.0)
    answer_every(asker, 0.2, jobs)

    taken = asker.take(submitted("in-time", left=1.0))
    refused = asker.take(submitted("late", left=0.7))  # third in line at 0.2 s each: 0.6 s of 0.7

    assert works(taken) and ends(taken) == []
    assert ends(refused) == [("late", "busy")] and works(refused) == []


def test_a_model_does_not_wait_for_what_another_one_waits_for_elsewhere(asker: DrivenRequester) -> None:
    """Found by a reader: all jobs of a light model on an idle device were refused, as a heavy one that passes
    that device, too, is slow on the one before."""
    asker.take(assignment(Hop("slow", 2), Hop("one", 4)))
    light = replace(FACE, name="light", digest="5" * 64)
    asker.take(message("model", light, model="light", retained=True))
    asker.take(assignment(Hop("one", 4), digest=light.digest, model="light"))
    for device in ("slow", "one"):
        asker.take(state(device))
        asker.take(about(device, DIGEST, light.digest))
    jobs = [f"j-{number}" for number in range(8)]
    for job in jobs:
        asker.take(submitted(job, left=60.0), at=1.0)
    answer_every(asker, 0.5, jobs)

    refused = asker.take(submitted("heavy", left=1.0))
    taken = asker.take(submitted("light", left=1.0, model="light"))

    assert ends(refused) == [("heavy", "busy")]
    assert [device for device, _ in works(taken)] == ["one"] and ends(taken) == []


def test_a_job_goes_where_it_is_answered_by_its_deadline_before_where_it_is_not(
    asker: DrivenRequester,
) -> None:
    asker.take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}))
    jobs = [f"j-{number}" for number in range(6)]
    for job in jobs:
        asker.take(submitted(job, left=60.0), at=1.0)
    answer_every(asker, 0.2, jobs)

    ((device, _),) = works(asker.take(submitted("urgent", left=0.3)))

    assert device == "two"


def test_a_frame_of_a_stream_is_sent_however_much_is_under_way(asker: DrivenRequester) -> None:
    asker.take(assignment(Hop("one", 4)))
    jobs = [f"j-{number}" for number in range(6)]
    for job in jobs:
        asker.take(submitted(job, left=60.0), at=1.0)
    answer_every(asker, 0.2, jobs)

    assert works(asker.take(submitted("frame", left=0.3, stream="camera")))


def test_silence_is_a_devices_own_only_as_far_as_answers_are_known_to_arrive(asker: DrivenRequester) -> None:
    """An acknowledgement comes behind all that the broker had for us: what fills our link holds up both."""
    asker.take(assignment(Hop("one", 4)))
    asker.take(submitted("first", left=60.0), at=1.0)

    second = asker.take(submitted("second", left=5.0), at=6.0)
    assert works(second)  # nothing has come for 5 s, the acknowledgement of the first one neither
    (token,) = [action.token for action in second if isinstance(action, Publish)]
    assert token is not None
    asker.take(PublishAcknowledged(token), at=6.1)

    assert ends(asker.take(submitted("third", left=5.0), at=6.2)) == [("third", "busy")]


@pytest.mark.parametrize("token", ["answered:17", "work:nobody:0:0", "sent:first:3:0", "probe:1"])
def test_other_acknowledgements_say_nothing_of_silence(asker: DrivenRequester, token: str) -> None:
    asker.take(assignment(Hop("one", 4)))
    asker.take(submitted("first", left=60.0), at=1.0)

    assert asker.take(PublishAcknowledged(token), at=6.0) == []

    assert works(asker.take(submitted("second", left=5.0)))


def frames_sent(actions: list[Action]) -> list[str]:
    return [activation.job for _, activation in works(actions)]


def test_of_a_stream_one_frame_a_device_and_one_more_are_under_way_and_the_newest_waits(
    planned: DrivenRequester,
) -> None:
    """The plan in force has two partitions."""
    sent_first = [
        frames_sent(planned.take(submitted(f"f-{n}", stream="camera"), at=1.0 + n / 100)) for n in range(4)
    ]
    replaced = planned.take(submitted("f-4", stream="camera"), at=1.1)

    following = planned.take(reply("f-0"), at=1.2)

    assert sent_first == [["f-0"], ["f-1"], ["f-2"], []]
    assert ends(replaced) == [("f-3", "superseded")] and works(replaced) == []
    assert frames_sent(following) == ["f-4"] and ends(following) == [("f-0", None)]


def test_the_newest_frame_is_sent_again_where_an_older_one_on_another_way_took_its_place(
    planned: DrivenRequester,
) -> None:
    """Seed 70058797 of the fault simulator: the plan changed, and the older frame reached a device later."""
    for number in range(2):
        planned.take(submitted(f"f-{number}", stream="camera"), at=1.0 + number / 100)

    older = planned.take(reply("f-0", code="superseded"), at=1.1)
    newest = planned.take(reply("f-1", code="superseded"), at=1.2)

    assert ends(older) == [("f-0", "superseded")]
    assert ends(newest) == [] and frames_sent(newest) == ["f-1"]
    assert ends(planned.take(reply("f-1", attempt=1), at=1.3)) == [("f-1", None)]


def test_nor_does_the_newest_give_way_that_came_instead_of_one_without_a_plan(
    asker: DrivenRequester,
) -> None:
    for number in range(2):
        asker.take(submitted(f"f-{number}", stream="camera"), at=1.0 + number)
    asker.take(assignment(Hop("one", 4)), at=5.0)

    assert frames_sent(asker.take(reply("f-1", code="superseded"), at=5.1)) == ["f-1"]


def test_of_frames_that_wait_for_a_plan_the_newest_is_sent_when_it_comes(asker: DrivenRequester) -> None:
    ended = []
    for number in range(3):
        ended += ends(asker.take(submitted(f"f-{number}", stream="camera"), at=1.0 + number))

    planned_now = asker.take(assignment(Hop("one", 4)), at=5.0)

    assert ended == [("f-0", "superseded"), ("f-1", "superseded")]
    assert frames_sent(planned_now) == ["f-2"]


def test_a_frame_that_waits_ends_at_its_deadline_and_leaves_its_place(planned: DrivenRequester) -> None:
    for number in range(3):
        planned.take(submitted(f"f-{number}", left=60.0, stream="camera"), at=1.0)
    planned.take(submitted("waits", left=0.5, stream="camera"), at=1.0)

    late = planned.pass_until(1.6)

    assert ends(late) == [("waits", "deadline")]
    assert works(planned.take(submitted("next", stream="camera"), at=1.7)) == []
    assert frames_sent(planned.take(reply("f-0"), at=1.8)) == ["next"]


def test_a_cancelled_frame_makes_room_for_the_one_that_waits(planned: DrivenRequester) -> None:
    for number in range(4):
        planned.take(submitted(f"f-{number}", stream="camera"), at=1.0)

    assert frames_sent(planned.take(JobCancelled("f-1"), at=1.1)) == ["f-3"]


def test_a_frame_that_waits_is_not_sent_because_the_broker_came_back(planned: DrivenRequester) -> None:
    for number in range(4):
        planned.take(submitted(f"f-{number}", stream="camera"), at=1.0)
    planned.take(Disconnected(), at=1.1)

    again = planned.take(Connected(), at=1.2)

    assert "f-3" not in frames_sent(again)


def test_a_run_that_failed_is_tried_again_ever_later_where_all_others_are_busy(
    planned: DrivenRequester,
) -> None:
    planned.take(submitted(left=60.0), at=1.0)
    planned.take(reply(code="run-failed", device="one"), at=1.1)

    waited = planned.take(reply(attempt=1, code="busy", device="two"), at=1.2)
    again = planned.pass_until(min(planned.timers.values()))

    assert ends(waited) == [] and works(waited) == []
    assert [device for device, _ in works(again)] == ["one"]


@pytest.mark.parametrize("code", ["bad-message", "wrong-version", "bad-input", "deadline", "superseded"])
def test_an_error_that_another_device_would_answer_too_ends_the_job(
    planned: DrivenRequester, code: str
) -> None:
    planned.take(submitted(), at=1.0)
    assert ends(planned.take(reply(code=code), at=1.1)) == [("j-1", code)]


def test_who_cannot_read_the_attempt_ends_it_all_the_same(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(reply(code="busy", device="one"), at=1.1)  # attempt 1 goes to "two"
    actions = planned.take(reply(attempt=0, code="wrong-version", device="two"), at=1.2)
    assert ends(actions) == [("j-1", "wrong-version")]


def test_an_error_delivered_twice_is_one_error(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(reply(code="run-failed", device="one"), at=1.1)
    assert planned.take(reply(code="run-failed", device="one"), at=1.1) == []
    planned.take(reply(attempt=1), at=1.2)


def test_a_job_whose_runs_fail_three_times_is_given_up(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    for attempt, device in enumerate(("one", "two", "one")):
        assert ends(planned.done) == []
        planned.pass_until(planned.now + 1.0)
        planned.take(reply(attempt=attempt, code="run-failed", device=device))
    assert ends(planned.done) == [("j-1", "run-failed")]


def test_without_an_answer_the_job_ends_at_its_deadline(asker: DrivenRequester) -> None:
    asker.take(assignment(Hop("one", 4)))
    asker.take(submitted(left=3.0), at=1.0)
    assert ends(beat(asker, 3.9, "one")) == []
    (ended,) = only(JobEnded, asker.pass_until(4.0))
    assert ended.code == "deadline" and ended.seconds == pytest.approx(3.0)


def test_a_job_without_time_ends_at_once(planned: DrivenRequester) -> None:
    assert ends(planned.take(submitted(left=0.0), at=1.0)) == [("j-1", "deadline")]


# --- hedges ----------------------------------------------------------------------------------------------


def test_a_job_that_outlives_its_prediction_is_sent_again_elsewhere(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    assert works(beat(planned, 1.35, "one", "two")) == []
    ((_, header),) = works(beat(planned, 1.5, "one", "two"))
    assert header.attempt == 1 and header.route in FALLBACKS.values()
    (ended,) = only(JobEnded, planned.take(reply(attempt=0), at=1.6))
    assert ended.route == ROUTE and ended.attempts == 2


def test_late_answers_are_expected_of_a_route_that_gave_one_until_it_answers_in_time(
    planned: DrivenRequester,
) -> None:
    """A device that others load is not lost: copies would only fill the one that the next plan moves to."""
    planned.take(submitted("j-1"), at=1.0)
    beat(planned, 1.5, "one", "two")
    assert len(works(planned.done)) == 2
    planned.take(reply("j-1", attempt=0), at=1.6)

    planned.take(submitted("j-2"), at=2.0)
    assert works(beat(planned, 2.55, "one", "two")) == []
    planned.take(reply("j-2", attempt=0), at=2.6)
    planned.take(submitted("j-3"), at=3.0)
    planned.take(reply("j-3", attempt=0), at=3.1)

    planned.take(submitted("j-4"), at=4.0)
    ((_, header),) = works(beat(planned, 4.5, "one", "two"))
    assert header.job == "j-4" and header.attempt == 1


def copies_of_twelve(planned: DrivenRequester, left: float, queued: float, boot: str = "b-1") -> int:
    """Of jobs with ``left`` seconds, none of which is answered, until seven tenths of that."""
    for device in ("one", "two"):
        planned.take(heartbeat(device, queued=queued), at=1.0)
        planned.take(about(device, DIGEST, boot=boot))
    for number in range(12):
        planned.take(submitted(f"j-{number}", left=left))
    return len(works(planned.pass_until(1.0 + 0.7 * left)))


def test_jobs_wait_for_those_of_others_that_their_devices_tell_of(planned: DrivenRequester) -> None:
    """Found by tools/soak overload: copies of what only waited took half of what the mesh could do."""
    assert copies_of_twelve(planned, left=2.0, queued=1.2) == 0


@pytest.mark.parametrize(
    ("left", "queued", "boot"),
    [
        pytest.param(2.0, 0.0, "b-1", id="nothing waits"),
        pytest.param(2.0, 0.4, "b-1", id="little of their time"),
        pytest.param(2.0, 1.2, "b-2", id="said in an earlier life"),
        pytest.param(20.0, 6.0, "b-1", id="said too long ago"),
    ],
)
def test_with_nothing_to_wait_for_they_are_sent_again(
    planned: DrivenRequester, left: float, queued: float, boot: str
) -> None:
    assert copies_of_twelve(planned, left, queued, boot) >= 4


def test_a_copy_that_takes_long_itself_is_made_later(asker: DrivenRequester) -> None:
    slow = {"one": (Hop("two", 4),)}
    asker.take(assignment(Hop("one", 4), fallbacks=slow, fallback_seconds=8.0))
    asker.take(submitted(left=30.0), at=1.0)

    assert works(beat(asker, 2.9, "one", "two")) == []
    ((device, _),) = works(beat(asker, 3.1, "one", "two"))
    assert device == "two"


def test_a_job_is_hedged_twice_and_then_ever_more_rarely(planned: DrivenRequester) -> None:
    planned.take(submitted(left=3600.0), at=1.0)
    beat(planned, 9.0, "one", "two")
    assert len(works(planned.done)) == 3
    assert {header.route for _, header in works(planned.done)} == {ROUTE, *FALLBACKS.values()}

    # A broker may have thrown all of them away, and the devices be there again since.
    assert [len(works(beat(planned, until, "one", "two"))) for until in (11.0, 27.0, 60.0)] == [1, 1, 1]
    assert len(works(beat(planned, 600.0, "one", "two"))) == 3


def test_a_job_of_which_nothing_is_heard_is_sent_again_halfway_but_not_in_its_last_seconds(
    planned: DrivenRequester,
) -> None:
    planned.take(submitted(left=30.0), at=1.0)
    beat(planned, 11.0, "one", "two")

    assert [len(works(beat(planned, until, "one", "two"))) for until in (22.0, 27.0, 30.9)] == [1, 1, 0]


def test_a_lost_copy_does_not_keep_a_job_from_devices_that_answered_with_an_error(
    planned: DrivenRequester,
) -> None:
    """They did not hold the model then, and do now."""
    planned.take(submitted(left=60.0), at=1.0)
    beat(planned, 3.0, "one", "two")  # attempt 0 is lost, and all of them are under way
    assert len(works(planned.done)) == 3
    for attempt, device in ((1, "one"), (2, "two")):
        planned.take(reply(attempt=attempt, code="unknown-model", device=device))

    assert works(beat(planned, 25.0, "one", "two"))


def test_a_job_that_seems_lost_is_sent_again_though_no_hedge_is_left(planned: DrivenRequester) -> None:
    """Or one with an hour would wait for half of it after others had used up what late jobs may cost."""
    for number in range(12):
        planned.take(submitted(f"j-{number}", left=3600.0), at=1.0)

    beat(planned, 40.0, "one", "two")

    again = Counter(header.job for _, header in works(planned.done))
    assert min(again.values()) >= 2 and max(again.values()) <= 6


def test_a_job_with_an_hour_saves_attempts_for_what_takes_longer(planned: DrivenRequester) -> None:
    planned.take(submitted(left=3600.0), at=1.0)
    times: list[float] = []
    while planned.now < 3590.0 and not ends(planned.done):
        attempt = len(works(planned.done)) - 1
        times.append(planned.now)
        planned.take(reply(attempt=attempt, code="unknown-model", device=("one", "two")[attempt % 2]))
        while len(works(planned.done)) == attempt + 1 and not ends(planned.done):
            beat(planned, planned.now + 1.0, "one", "two")

    assert len([at for at in times if at < 5.0]) >= 4
    assert len(works(planned.done)) == MAX_ATTEMPTS and times[-1] > 1800.0


def test_a_job_that_failed_three_times_is_not_sent_again_while_a_copy_is_lost(
    planned: DrivenRequester,
) -> None:
    """An input that kills executors must not go round while the mesh waits for a copy that never arrived."""
    planned.take(submitted(left=600.0), at=1.0)
    beat(planned, 3.0, "one", "two")
    for attempt, device in ((1, "one"), (2, "two")):
        planned.take(reply(attempt=attempt, code="run-failed", device=device))
    beat(planned, 40.0, "one", "two")
    planned.take(reply(attempt=3, code="run-failed", device="one"))
    sent_so_far = len(works(planned.done))

    beat(planned, 300.0, "one", "two")

    assert len(works(planned.done)) == sent_so_far


def test_a_job_whose_activation_is_still_on_its_way_to_the_broker_is_not_hedged(
    planned: DrivenRequester,
) -> None:
    leaving = True
    planned.role.hedging.leaving = lambda job: leaving
    planned.take(submitted(left=30.0), at=1.0)
    assert works(beat(planned, 4.0, "one", "two")) == []

    leaving = False
    assert len(works(beat(planned, 4.5, "one", "two"))) == 1


def test_what_needs_no_link_does_not_wait_for_an_activation_that_cannot_leave() -> None:
    camera = DrivenRequester(Requester("one", "one", TOPICS, MeshView()))
    meets_two(camera)
    camera.take(assignment(Hop("two", 4), fallbacks={"two": (Hop("one", 4),)}, origin="one"))
    camera.role.hedging.leaving = lambda job: True

    camera.take(submitted(left=30.0), at=1.0)

    assert [device for device, _ in works(beat(camera, 2.0, "one", "two"))] == ["one"]


def test_a_model_that_a_device_has_benched_is_tried_elsewhere_and_given_up_soon(
    planned: DrivenRequester,
) -> None:
    planned.take(submitted(left=30.0), at=1.0)
    answered: set[int] = set()
    while planned.now < 20.0:
        for device, header in works(planned.done):
            if header.attempt not in answered:
                answered.add(header.attempt)
                planned.take(reply(attempt=header.attempt, code="bad-model", device=device))
        beat(planned, planned.now + 1.0, "one", "two")

    assert len(answered) <= 4
    assert ends(planned.done) == [("j-1", "bad-model")]


def test_with_nowhere_else_to_go_the_job_is_sent_again_halfway_to_its_deadline(
    asker: DrivenRequester,
) -> None:
    asker.take(assignment(Hop("one", 4)))
    asker.take(submitted(left=16.0), at=1.0)
    assert works(beat(asker, 8.5, "one")) == []
    ((_, header),) = works(beat(asker, 16.5, "one"))
    assert header.route == (Hop("one", 4),) and header.attempt == 1


def test_jobs_ahead_count_in_what_a_job_may_take(planned: DrivenRequester) -> None:
    for number in range(20):
        planned.take(submitted(f"j-{number}"), at=1.0)
    beat(planned, 2.9, "one", "two")
    assert "j-19" not in {header.job for _, header in works(planned.done) if header.attempt}


def test_a_burst_on_a_slow_mesh_is_not_multiplied(planned: DrivenRequester) -> None:
    for number in range(200):
        planned.take(submitted(f"j-{number}", left=100.0), at=1.0)
    beat(planned, 49.0, "one", "two")
    hedges = sum(header.attempt > 0 for _, header in works(planned.done))
    assert 2 <= hedges <= 200 / 8 + 4, hedges
    fired = planned.role.handle
    wakes: list[float] = []

    def watched(event: Any, now: float) -> Any:
        wakes.append(now)
        return fired(event, now)

    planned.role.handle = watched
    planned.pass_until(50.9)
    assert len(wakes) <= 3 * 200, len(wakes)


def test_halfway_to_its_deadline_a_job_is_sent_again_whatever_it_costs(planned: DrivenRequester) -> None:
    for number in range(200):
        planned.take(submitted(f"j-{number}", left=100.0), at=1.0)
    beat(planned, 90.0, "one", "two")
    again = {header.job for _, header in works(planned.done) if header.attempt}
    assert len(again) == 200 and len(works(planned.done)) <= 5 * 200


def test_however_late_answers_have_become_half_the_time_is_enough_to_wait(planned: DrivenRequester) -> None:
    """4 times late, 2 times as a margin and 30 jobs make 24 s of a prediction of 0.1."""
    planned.take(submitted("late", left=30.0), at=1.0)
    planned.take(reply("late"), at=5.0)
    for number in range(30):
        planned.take(submitted(f"j-{number}", left=20.0), at=6.0)

    beat(planned, 15.9, "one", "two")
    before = works(planned.done)
    beat(planned, 16.5, "one", "two")

    assert {header.job for _, header in works(planned.done)[len(before) :]} >= {"j-29"}


def test_what_others_take_counts_until_halfway_through_what_is_left(planned: DrivenRequester) -> None:
    """Found by the fault simulator: of 400 jobs all but one had ended, and it waited for them still."""
    for number in range(300):
        planned.take(submitted(f"j-{number}", left=5.0), at=1.0)
    planned.take(submitted("last", left=30.0), at=1.0)

    beat(planned, 16.5, "one", "two")

    assert [header.attempt for _, header in works(planned.done) if header.job == "last"] == [0, 1, 2]


THREE_DEVICES = {"one": (Hop("two", 4),), "two": (Hop("three", 4),)}


def late_beside(asker: DrivenRequester, others: int, device: str) -> None:
    """``late`` is copied to ``two`` soon, while ``others`` jobs wait at ``device``."""
    asker.take(assignment(Hop("one", 4), fallbacks=THREE_DEVICES, fallback_seconds=1.0))
    for number in range(others):
        asker.take(submitted(f"j-{number}", left=100.0, route=(Hop(device, 4),)), at=1.0)
    asker.take(submitted("late", left=30.0), at=1.0)
    beat(asker, 2.0, "one", "two")
    assert devices_of("late", asker) == ["one", "two"]


def devices_of(job: str, asker: DrivenRequester) -> list[str]:
    """Where the job was sent."""
    return [device for device, header in works(asker.done) if header.job == job]


def test_a_late_copy_does_not_wait_for_jobs_that_are_elsewhere(asker: DrivenRequester) -> None:
    """Found by the fault simulator: it waited for jobs whose own copies had been lost at other devices."""
    late_beside(asker, 20, "three")
    beat(asker, 4.0, "one", "two")
    assert devices_of("late", asker) == ["one", "two", "three"]


def test_a_copy_that_was_refused_does_not_wait_for_those_before_it(asker: DrivenRequester) -> None:
    late_beside(asker, 20, "two")
    asker.take(reply("late", attempt=1, code="busy", device="two"), at=2.1)
    beat(asker, 17.0, "one", "two")
    assert devices_of("late", asker) == ["one", "two", "three"]


def test_what_is_predicted_to_come_too_late_may_as_well_be_lost(asker: DrivenRequester) -> None:
    """Found by the fault simulator: a plan of a burst predicted 650 s, and the only copy was lost."""
    asker.take(assignment(Hop("one", 4), fallbacks=THREE_DEVICES, seconds=650.0))
    asker.take(submitted("late", left=30.0), at=1.0)
    beat(asker, 15.9, "one", "two")
    assert devices_of("late", asker) == ["one"]
    beat(asker, 24.0, "one", "two")
    assert devices_of("late", asker) == ["one", "two"]


def test_a_job_that_is_expected_to_take_long_is_not_sent_again_before_that(asker: DrivenRequester) -> None:
    asker.take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}, seconds=8.0))
    asker.take(submitted(left=10.0), at=1.0)
    assert len(works(asker.done)) == 1 and works(beat(asker, 9.2, "one", "two")) == []


def test_a_hedge_that_finds_no_route_looks_again(planned: DrivenRequester) -> None:
    """Found by tools/chaos: the broker had lost its store, and the only activation with it."""
    planned.take(submitted(left=20.0), at=1.0)
    planned.take(message("assignment", b"", model="face", origin="app"), at=1.1)
    beat(planned, 3.0, "one", "two")
    planned.take(assignment(fallbacks=FALLBACKS, epoch=(1, 2)), at=3.0)

    assert works(beat(planned, 6.0, "one", "two"))


def test_a_hedge_that_finds_no_route_asks_for_a_plan(planned: DrivenRequester) -> None:
    """A broker went back in time, and the request for a plan came while no decision node was there."""
    planned.take(submitted(left=20.0), at=1.0)
    planned.take(message("assignment", b"", model="face", origin="app"), at=1.1)

    requests = sent("request", beat(planned, 9.0, "one", "two"))

    assert 3 <= len(requests) <= 4


def test_a_device_that_hangs_loses_all_its_jobs_to_hedges_that_answer(planned: DrivenRequester) -> None:
    for number in range(30):
        planned.take(submitted(f"j-{number}", left=100.0), at=1.0)
    answered: set[tuple[str, int]] = set()
    while planned.now < 90.0:
        beat(planned, planned.now + 0.5, "one", "two")
        for _, header in works(planned.done):
            key = (header.job, header.attempt)
            if header.route == FALLBACKS["two"] and key not in answered:
                answered.add(key)
                planned.take(reply(*key, device="one"))
    assert len(ends(planned.done)) == 30 and {code for _, code in ends(planned.done)} == {None}


# --- given routes ----------------------------------------------------------------------------------------


def test_a_given_route_is_taken_and_not_retried_elsewhere(planned: DrivenRequester) -> None:
    route = (Hop("two", 1), Hop("one", 4))
    ((device, header),) = works(planned.take(submitted(route=route), at=1.0))
    assert (device, header.route) == ("two", route)
    assert ends(planned.take(reply(code="busy"), at=1.1)) == [("j-1", "busy")]


def test_a_given_route_is_not_hedged(planned: DrivenRequester) -> None:
    planned.take(submitted(route=(Hop("two", 4),)), at=1.0)
    assert works(beat(planned, 10.9, "one", "two")) == []


def test_a_given_route_over_a_device_that_goes_ends_in_an_error(planned: DrivenRequester) -> None:
    planned.take(submitted(route=(Hop("two", 4),)), at=1.0)
    assert ends(planned.take(state("two", "offline"), at=1.1)) == [("j-1", "no-route")]


@pytest.mark.parametrize(
    ("route", "code"),
    [
        ((Hop("two", 4), Hop("one", 2)), "bad-message"),
        ((Hop("one", 3),), "bad-input"),
        ((Hop("one", 5),), "bad-input"),
        ((), "bad-message"),
    ],
)
def test_a_given_route_that_no_job_can_follow_is_refused(
    planned: DrivenRequester, route: tuple[Hop, ...], code: str
) -> None:
    assert ends(planned.take(submitted(route=route), at=1.0)) == [("j-1", code)]


# --- plans -----------------------------------------------------------------------------------------------


def test_asks_for_a_plan_when_there_is_none_and_goes_when_it_comes(asker: DrivenRequester) -> None:
    actions = asker.take(submitted(), at=3.0)
    (request,) = sent("request", actions)
    assert decode_json(PlanRequest, request.payload) == PlanRequest("asker", "face", "app")
    assert sent("request", asker.take(submitted("j-2"), at=3.1))  # each job may ask, but
    assert not sent("request", asker.pass_until(4.9))  # not more often than every two seconds
    assert len(works(asker.take(assignment(), at=4.9))) == 2


def test_an_assignment_for_another_origin_does_not_concern_it(asker: DrivenRequester) -> None:
    asker.take(submitted(), at=3.0)
    assert asker.take(assignment(origin="camera"), at=3.1) == []


def test_a_plan_that_is_impossible_ends_the_job_with_the_reason(asker: DrivenRequester) -> None:
    asker.take(submitted(), at=3.0)
    answer = PlanResponse("asker", "face", "app", False, "no device has enough memory")
    (ended,) = only(JobEnded, asker.take(message("response", answer, verb="plan"), at=3.5))
    assert (ended.code, ended.text) == ("no-route", "no device has enough memory")


def test_an_old_answer_about_plans_ends_no_job_that_did_not_ask(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    for device, attempt in (("one", 0), ("two", 1)):
        planned.take(reply(attempt=attempt, code="unknown-model", device=device), at=1.1)
    old = PlanResponse("asker", "face", "app", False, "no device holds face")

    assert ends(planned.take(message("response", old, verb="plan"), at=1.11)) == []
    assert works(planned.pass_until(2.0))


def test_a_job_that_may_not_fail_again_does_not_wait_an_hour_for_a_copy_that_is_lost(
    planned: DrivenRequester,
) -> None:
    """Found by the fault simulator: benched devices refused it three times, and one copy had no answer."""
    lost, done = 2, planned.take(submitted(left=3600.0), at=1.0)
    while not ends(done) and planned.now < 120.0:
        refused = [header for _, header in works(done) if header.attempt != lost]
        done = beat(planned, planned.now + 1.0, "one", "two")
        for header in refused:
            device = header.route[0].device
            done += planned.take(reply(attempt=header.attempt, code="bad-model", device=device))

    assert ends(done) == [("j-1", "bad-model")]
    assert planned.now < 60.0


def test_asks_until_somebody_renews_a_plan_that_the_broker_has_lost(planned: DrivenRequester) -> None:
    """Whoever decides may be back later than the requester, and hear none of its first questions."""
    planned.take(submitted(), at=1.0)
    planned.take(Disconnected(), at=2.0)
    planned.take(Connected(), at=3.0)

    asked = sent("request", beat(planned, 33.0, "one", "two"))
    assert 3 <= len(asked) <= 6

    planned.take(assignment(epoch=(1, 1)))
    beat(planned, 64.0, "one", "two")
    assert not sent("request", beat(planned, 200.0, "one", "two"))


def test_a_job_does_not_wait_for_others_that_were_home_much_earlier_than_predicted(
    asker: DrivenRequester,
) -> None:
    asker.take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}, seconds=0.5))
    for number in range(60):
        asker.take(submitted(f"j-{number}", left=3600.0), at=1.0)
    for number in range(59):
        asker.take(reply(f"j-{number}", device="one"), at=3.0)

    again = [(device, header.job) for device, header in works(beat(asker, 6.0, "one", "two"))]

    assert again == [("two", "j-59")]


def test_a_model_that_the_broker_has_lost_is_waited_for(planned: DrivenRequester) -> None:
    """Who decides does not know it any more, and its devices may tell of it again."""
    planned.take(Disconnected(), at=1.0)
    planned.take(Connected(), at=2.0)
    for device in ("one", "two"):
        planned.take(state(device, "offline"), at=2.1)
    planned.take(submitted(left=20.0), at=4.0)
    answer = PlanResponse("asker", "face", "app", False, "no model face in this mesh")

    assert ends(planned.take(message("response", answer, verb="plan"), at=4.1)) == []

    planned.take(manifest(), at=5.0)
    assert ends(planned.take(message("response", answer, verb="plan"), at=7.1)) == [("j-1", "no-route")]


def test_a_plan_that_will_be_possible_soon_is_waited_for(asker: DrivenRequester) -> None:
    asker.take(submitted(left=5.0), at=3.0)
    answer = PlanResponse("asker", "face", "app", False, "one is measuring it", soon=True)
    assert asker.take(message("response", answer, verb="plan"), at=3.5) == []
    (ended,) = only(JobEnded, beat(asker, 8.0, "one"))
    assert ended.code == "deadline" and "one is measuring it" in (ended.text or "")


def test_answers_to_others_and_garbage_change_nothing(asker: DrivenRequester) -> None:
    asker.take(submitted(), at=3.0)
    other = PlanResponse("another", "face", "app", False, "no")
    assert asker.take(message("response", other, verb="plan"), at=3.1) == []
    asker.take(message("response", b"{", verb="plan"), at=3.2)
    assert asker.role.open_jobs == 1


def test_a_model_that_nobody_announces_is_unknown_after_a_moments_grace(asker: DrivenRequester) -> None:
    actions = asker.take(submitted(model="ghost"), at=1.0)
    assert ends(actions) == []  # its retained manifest may be on its way
    assert ends(asker.pass_until(2.0)) == [("j-1", "unknown-model")]
    assert ends(asker.take(submitted("j-2", model="ghost"), at=10.0)) == [("j-2", "unknown-model")]


def test_models_are_waited_for_where_no_device_has_said_anything_yet() -> None:
    """A broker that lost its memory hears of models from devices, which may be back later than we are."""
    asker = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    asker.take(Connected(), at=0.0)
    asker.take(submitted(left=30.0), at=1.0)
    assert ends(asker.pass_until(6.0)) == []

    asker.take(state("one"), at=6.0)
    assert ends(asker.pass_until(6.5)) == []  # what it tells of is on its way
    asker.take(manifest(), at=6.5)
    assert ends(asker.pass_until(20.0)) == []


def test_in_a_mesh_without_devices_a_model_is_unknown_in_the_end() -> None:
    asker = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    asker.take(Connected(), at=0.0)
    asker.take(submitted(left=30.0), at=1.0)

    assert ends(asker.pass_until(10.2)) == [("j-1", "unknown-model")]


def test_a_new_assignment_is_obeyed_when_its_devices_are_ready(planned: DrivenRequester) -> None:
    planned.take(assignment(Hop("two", 4), epoch=(1, 2)))
    assert works(planned.take(submitted("j-1"), at=1.0))[0][1].route == ROUTE
    planned.take(heartbeat("two", (0, 4)), at=1.5)
    assert works(planned.take(submitted("j-2"), at=2.0))[0][1].route == (Hop("two", 4),)


def test_readiness_said_in_an_earlier_life_does_not_count(planned: DrivenRequester) -> None:
    planned.take(heartbeat("two", (0, 4)), at=0.5)
    planned.take(about("two", DIGEST, boot="b-2"))
    planned.take(assignment(Hop("two", 4), epoch=(1, 2)))
    assert works(planned.take(submitted("j-1"), at=1.0))[0][1].route == ROUTE


def test_a_new_assignment_is_obeyed_at_once_when_the_old_one_is_impossible(planned: DrivenRequester) -> None:
    planned.take(assignment(Hop("two", 4), epoch=(1, 2)))
    planned.take(state("one", "offline"))
    assert works(planned.take(submitted("j-1"), at=1.0))[0][1].route == (Hop("two", 4),)


def test_a_plan_in_place_of_a_forbidden_one_is_obeyed_before_its_devices_are_ready(
    planned: DrivenRequester,
) -> None:
    """Found by a reader: a device that an operator had left out got jobs until another one was ready."""
    planned.take(assignment(Hop("two", 4), epoch=(1, 2), at_once=True))
    assert works(planned.take(submitted("j-1"), at=1.0))[0][1].route == (Hop("two", 4),)


def test_a_lower_epoch_is_ignored(planned: DrivenRequester) -> None:
    planned.take(assignment(epoch=(3, 1)))
    planned.take(assignment(Hop("two", 4), epoch=(2, 99)))
    assert works(planned.take(submitted(), at=1.0))[0][1].route == ROUTE


def test_a_broker_that_lost_its_memory_may_bring_any_epoch_after_reconnecting(
    planned: DrivenRequester,
) -> None:
    planned.take(assignment(epoch=(7, 3)))
    planned.take(Disconnected(), at=1.0)
    planned.take(Connected(), at=2.0)
    planned.take(assignment(Hop("two", 4), epoch=(1, 1)), at=2.1)
    planned.take(assignment(epoch=(1, 0)), at=2.2)
    assert works(planned.take(submitted(), at=3.0))[0][1].route == (Hop("two", 4),)


# --- the connection --------------------------------------------------------------------------------------


def test_asks_for_its_plan_again_when_the_broker_came_back_without_it(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(reply(), at=1.1)
    planned.take(Disconnected(), at=2.0)

    planned.take(Connected(), at=3.0)
    assert sent("request", planned.pass_until(4.0)) == []

    assert len(sent("request", planned.pass_until(5.0))) == 1


def test_does_not_ask_for_a_plan_that_the_broker_still_had(planned: DrivenRequester) -> None:
    planned.take(submitted(), at=1.0)
    planned.take(reply(), at=1.1)
    planned.take(Disconnected(), at=2.0)

    planned.take(Connected(), at=3.0)
    planned.take(assignment(fallbacks=FALLBACKS))

    assert sent("request", planned.pass_until(10.0)) == []


def test_resubmits_open_jobs_after_reconnecting(planned: DrivenRequester) -> None:
    planned.take(submitted(left=30.0), at=1.0)
    planned.take(Disconnected(), at=1.1)
    assert works(planned.pass_until(8.0)) == []
    ((_, header),) = works(planned.take(Connected(), at=8.0))
    assert header.attempt == 1 and header.left == pytest.approx(23.0)
    assert header.route == ROUTE  # the best one again: nothing was wrong with it
    (ended,) = only(JobEnded, planned.take(reply(attempt=1), at=8.2))
    assert ended.code is None


def test_what_the_copy_after_a_reconnection_is_refused_counts(planned: DrivenRequester) -> None:
    """Nothing of before keeps it waiting: those attempts are lost, or their answers."""
    planned.take(submitted(left=30.0), at=1.0)
    planned.take(Disconnected(), at=1.1)
    planned.take(Connected(), at=2.0)
    ((device, _),) = works(planned.take(reply(attempt=1, code="busy", device="one"), at=2.1))
    assert device == "two"


def test_a_result_of_before_the_connection_was_lost_still_counts(planned: DrivenRequester) -> None:
    planned.take(submitted(left=30.0), at=1.0)
    planned.take(Disconnected(), at=1.1)
    planned.take(Connected(), at=2.0)
    assert ends(planned.take(reply(attempt=0), at=2.1)) == [("j-1", None)]


@pytest.fixture
def slow_camera() -> Iterator[DrivenRequester]:
    """A device that holds a model that it takes a minute for."""
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 60.0)
    role = Requester("camera", "app", TOPICS, MeshView(), local_route=lambda model: local)
    camera = DrivenRequester(role)
    meets_two(camera)
    camera.take(assignment(Hop("one", 4)))
    yield camera
    camera.check()


def test_a_slow_run_for_want_of_a_broker_is_overtaken_when_that_is_back(slow_camera: DrivenRequester) -> None:
    slow_camera.take(submitted(left=60.0), at=1.0)
    ((device, _),) = works(slow_camera.take(Disconnected(), at=1.05))
    assert device == "camera"
    ((device, header),) = works(slow_camera.take(Connected(), at=10.0))
    assert device == "one" and header.attempt == 2


@pytest.mark.parametrize(("attempt", "device", "alone"), [(1, "camera", True), (2, "one", False)])
def test_of_a_run_without_the_broker_and_one_after_it_the_one_that_answers_says_which_it_is(
    attempt: int, device: str, alone: bool
) -> None:
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 60.0, alone=True)
    role = Requester("camera", "camera", TOPICS, MeshView(), local_route=lambda model: local)
    camera = DrivenRequester(role)
    meets_two(camera)
    camera.take(assignment(Hop("one", 4), origin="camera"))
    camera.take(submitted(left=60.0), at=1.0)
    camera.take(Disconnected(), at=1.05)
    camera.take(Connected(), at=10.0)
    assert [header.attempt for _, header in works(camera.done)] == [0, 1, 2]
    timings = (Timing(device, 0, 4, 0.0, 0.01, 0.0),)
    answer = encode_reply(Reply("j-1", "camera", attempt, device, timings=timings), (b"out",))

    (ended,) = only(JobEnded, camera.take(message("reply", answer, requester="camera"), at=11.0))

    assert ended.code is None and ended.route == (Hop(device, 4),) and ended.alone is alone
    camera.check()


def test_a_slow_run_for_want_of_a_broker_is_overtaken_when_there_is_a_plan(
    slow_camera: DrivenRequester,
) -> None:
    slow_camera.take(message("assignment", b"", model="face", origin="app"), at=0.5)
    slow_camera.take(Disconnected(), at=1.0)
    slow_camera.take(submitted(left=60.0), at=1.1)
    assert works(slow_camera.take(Connected(), at=10.0)) == []
    ((device, _),) = works(slow_camera.take(assignment(Hop("one", 4), epoch=(2, 1)), at=11.0))
    assert device == "one"


def test_who_cannot_read_a_copy_does_not_end_the_attempt_before_it(planned: DrivenRequester) -> None:
    """It answers for attempt 0, as it could not read which one it was."""
    planned.take(submitted(left=30.0), at=1.0)
    beat(planned, 2.0, "one", "two")
    assert {header.attempt for _, header in works(planned.done)} >= {0, 1}
    devices = {header.attempt: device for device, header in works(planned.done)}
    planned.take(reply(attempt=0, code="wrong-version", device=devices[1]), at=2.1)
    assert ends(planned.take(reply(attempt=0), at=2.2)) == [("j-1", None)]


def test_a_connection_that_breaks_again_and_again_does_not_send_a_job_for_ever(
    planned: DrivenRequester,
) -> None:
    planned.take(submitted(left=60.0), at=1.0)
    for second in range(2, 30):
        planned.take(Disconnected(), at=float(second))
        planned.take(Connected(), at=second + 0.1)

    assert len(works(planned.done)) == MAX_ATTEMPTS
    # The last attempt is still under way, and may come home.
    assert ends(planned.take(reply(attempt=MAX_ATTEMPTS - 1), at=31.0)) == [("j-1", None)]


def test_silence_while_the_broker_is_away_is_nobodys_fault(planned: DrivenRequester) -> None:
    planned.take(Disconnected(), at=1.0)
    planned.take(Connected(), at=60.0)
    assert works(planned.take(submitted(), at=61.0))[0][1].route == ROUTE


def test_a_device_that_died_with_the_broker_is_noticed_although_its_state_is_retained(
    planned: DrivenRequester,
) -> None:
    planned.take(Disconnected(), at=1.0)
    planned.take(Connected(), at=10.0)
    for device in ("one", "two"):
        planned.take(state(device), at=10.1)
    beat(planned, 18.0, "one")
    assert works(planned.take(submitted(), at=18.0))[0][1].route == FALLBACKS["two"]


def test_before_it_is_connected_a_client_waits(asker: DrivenRequester) -> None:
    fresh = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    assert works(fresh.take(submitted(left=30.0), at=0.0)) == []
    assert len([a for a in fresh.pass_until(9.0) if a is not None]) <= 4  # it does not poll
    fresh.take(Connected(), at=9.0)
    fresh.take(manifest(), at=9.1)
    assert works(fresh.take(assignment(), at=9.1))
    fresh.check()


def test_a_device_runs_the_whole_model_itself_while_the_broker_is_away() -> None:
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 0.05)
    role = Requester("camera", "camera", TOPICS, MeshView(), local_route=lambda model: local)
    camera = DrivenRequester(role)
    ((device, header),) = works(camera.take(submitted(), at=1.0))
    assert device == "camera" and header.route == local.route
    # What runs here cannot be lost on the way: it is neither hedged nor sent again when the broker is back.
    assert works(camera.pass_until(5.0)) == []
    assert works(camera.take(Connected(), at=5.0)) == []
    camera.check()


def test_a_given_route_does_not_become_a_local_one_while_the_broker_is_away() -> None:
    local = ChosenRoute((Hop("camera", 4),), DIGEST, 0.05)
    role = Requester("camera", "camera", TOPICS, MeshView(), local_route=lambda model: local)
    camera = DrivenRequester(role)
    assert works(camera.take(submitted(left=2.0, route=(Hop("two", 4),)), at=1.0)) == []
    assert ends(camera.pass_until(4.0)) == [("j-1", "deadline")]
    camera.check()


def test_what_is_remembered_of_receipts_is_bounded(planned: DrivenRequester) -> None:
    first_hop = planned.role._first_hop
    for number in range(10_000):
        first_hop._wants_receipt(f"d-{number}", 1.0)
    assert len(first_hop._receipts) <= 4096


def test_a_device_never_takes_itself_for_gone() -> None:
    """Its heartbeats may come back to it behind the megabytes that it sends."""
    one = DrivenRequester(Requester("one", "one", TOPICS, MeshView()))
    meets_two(one)
    one.take(heartbeat("one"))
    one.take(heartbeat("two"))
    one.take(assignment(origin="one", fallbacks=FALLBACKS))

    one.pass_until(8.0)
    one.take(heartbeat("two"))
    ((device, header),) = works(one.take(submitted(), at=9.0))

    assert device == "one" and header.route == ROUTE
