"""Rules of the worker: one activation in, one message out, nothing late, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop, Timing, decode_activation, decode_reply
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import Receipt
from edgemesh.roles.actions import Log, RunUnits, SetTimer
from edgemesh.roles.events import ExecutorLost, RunFailed, RunFinished, TimerFired
from edgemesh.roles.kept_activations import KEPT_BYTES, KeptActivations
from edgemesh.roles.worker import QUEUE_JOBS, Worker
from tests.roles.build import DIGEST, ROUTE, TOPICS, activation, message
from tests.roles.driven import DrivenWorker, codes, only, replies, sent, works


@pytest.fixture
def worker() -> Iterator[DrivenWorker]:
    """The worker of device ``one``, which holds the model; its invariants are checked at the end."""
    role = Worker("one", TOPICS)
    role.held = {DIGEST}
    driven = DrivenWorker(role)
    yield driven
    driven.check()


def finish(worker: DrivenWorker, at: float, seconds: float = 0.02) -> list:  # type: ignore[type-arg]
    """The run under way ends."""
    return worker.take(RunFinished(worker.running, b"output", seconds, 0.001), at)


def test_runs_its_partition_and_passes_the_job_on_to_the_next_device(worker: DrivenWorker) -> None:
    actions = worker.take(activation(), at=1.0)
    assert actions == [RunUnits("j-1-1", DIGEST, 0, 2, b"input", "raw", until=11.0)]

    actions = finish(worker, at=1.5)
    ((device, onward),) = works(actions)
    assert device == "two" and onward.position == 2 and onward.route == ROUTE and onward.sender == "one"
    assert onward.left == pytest.approx(9.5)
    assert onward.timings == (Timing("one", 0, 2, 0.0, 0.02, 0.001),)
    assert bytes(decode_activation(sent("work", actions)[0].payload)[1]) == b"output"


def test_sends_on_under_the_codec_of_its_partition_and_home_under_raw(worker: DrivenWorker) -> None:
    worker.take(activation(route=(Hop("one", 2, "q8"), Hop("two", 4, "f16"))), at=1.0)
    assert only(RunUnits, worker.done)[0].codec == "q8"
    finish(worker, at=1.1)
    worker.take(activation("j-2", route=(Hop("one", 4, "q8"),)), at=2.0)
    assert only(RunUnits, worker.done)[1].codec == "raw"
    finish(worker, at=2.1)


def test_replies_to_the_requester_at_the_end_of_the_route(worker: DrivenWorker) -> None:
    worker.take(activation(route=(Hop("one", 4),), attempt=3), at=1.0)
    actions = finish(worker, at=1.5)
    (message_home,) = sent("reply", actions)
    header, section = decode_reply(message_home.payload)
    assert message_home.topic == TOPICS.build("reply", requester="asker")
    assert (header.job, header.attempt, header.code, header.position) == ("j-1", 3, None, 4)
    assert bytes(section) == b"output"


def test_runs_one_job_at_a_time_in_the_order_of_arrival(worker: DrivenWorker) -> None:
    for job in ("j-1", "j-2", "j-3"):
        worker.take(activation(job), at=1.0)
    assert [run.run for run in only(RunUnits, worker.done)] == ["j-1-1"]
    actions = finish(worker, at=1.1, seconds=0.2)
    # What is on its way home goes before the next run starts.
    assert [type(action).__name__ for action in actions] == ["Publish", "RunUnits"]
    actions = finish(worker, at=1.2)
    assert only(RunUnits, actions)[0].run == "j-3-3"
    assert works(actions)[0][1].timings[0].queue == pytest.approx(0.1)


def test_behind_a_short_run_the_next_one_goes_to_the_executor_ahead(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 0.02)
    for job in ("j-1", "j-2", "j-3"):
        worker.take(activation(job), at=1.0)
    assert worker.at_executor == ["j-1-1", "j-2-2"]
    assert [run.until for run in only(RunUnits, worker.done)] == [11.0, 11.0]
    assert (worker.role.jobs, worker.role.queued_seconds(1.0)) == (3, pytest.approx(0.06))

    actions = finish(worker, at=1.1)
    assert [type(action).__name__ for action in actions] == ["Publish", "RunUnits"]
    assert worker.at_executor == ["j-2-2", "j-3-3"]

    actions = finish(worker, at=1.25)
    assert works(actions)[0][1].timings[0].queue == pytest.approx(0.1)  # until the one before it had ended
    actions = finish(worker, at=1.3)
    assert works(actions)[0][1].job == "j-3" and worker.role.idle


def test_what_began_ahead_did_not_wait_while_its_answer_was_on_the_way(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 0.02)
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2"), at=1.0)
    finish(worker, at=1.2)  # this side was held up: the second run is over as well
    actions = finish(worker, at=1.2, seconds=0.15)
    timing = works(actions)[0][1].timings[0]
    assert timing.queue + timing.run + timing.code == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("seconds", "left", "stream"),
    [(0.2, 10.0, None), (0.02, 0.9, None), (0.02, 10.0, "camera")],
    ids=["behind a long run", "close to its deadline", "a frame that a newer one may replace"],
)
def test_not_everything_goes_ahead(
    worker: DrivenWorker, seconds: float, left: float, stream: str | None
) -> None:
    worker.role.expect(DIGEST, 0, 2, seconds)
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2", left=left, stream=stream), at=1.0)
    assert worker.at_executor == ["j-1-1"]
    finish(worker, at=1.1)
    assert worker.at_executor == ["j-2-2"]


def test_only_what_its_own_device_asked_for_is_left_to_that_after_a_reconnection(
    worker: DrivenWorker,
) -> None:
    """A requester sends its jobs anew; of the jobs of others nobody else has what was made of them."""
    for requester, again in (("asker", True), ("one", False)):
        worker.take(activation(f"j-{requester}", requester=requester), at=1.0)
        (onward,) = sent("work", finish(worker, at=1.0))
        assert onward.resend is again


def test_what_went_ahead_is_not_answered_twice_when_its_deadline_passes(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 0.02)
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2", left=1.5), at=1.0)
    worker.take(activation("j-3", left=1.2), at=1.0)

    worker.pass_until(3.0)  # the executor hangs
    assert codes(worker.done) == [("j-3", "deadline")]
    finish(worker, at=3.1)
    worker.take(RunFailed(worker.running, "deadline", "its deadline passed before it began"), at=3.1)
    assert codes(worker.done) == [("j-3", "deadline"), ("j-2", "deadline")] and worker.role.idle


def test_what_went_ahead_is_run_by_the_next_executor_when_one_is_lost(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 0.02)
    for job in ("j-1", "j-2", "j-3"):
        worker.take(activation(job), at=1.0)

    actions = worker.take(ExecutorLost("killed by signal 9"), at=1.1)
    assert codes(actions) == [("j-1", "run-failed")]
    assert worker.at_executor == ["j-2-4", "j-3-3"]
    for at in (1.2, 1.3):
        finish(worker, at)
    assert sorted(work.job for _, work in works(worker.done)) == ["j-2", "j-3"]


def test_what_went_ahead_of_a_run_that_fails_runs_on(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 0.02)
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2"), at=1.0)
    actions = worker.take(RunFailed("j-1-1", "run-failed", "out of memory"), at=1.1)
    assert codes(actions) == [("j-1", "run-failed")] and not only(RunUnits, actions)
    assert works(finish(worker, at=1.2))[0][1].job == "j-2"


def test_answers_busy_when_more_work_waits_than_its_bound(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 2.0)
    for number in range(4):
        worker.take(activation(f"j-{number}"), at=1.0)
    assert worker.role.jobs == 3 and codes(worker.done) == [("j-3", "busy")]
    # Time passes, the run under way is nearly over: there is room again.
    worker.take(activation("j-4"), at=2.5)
    assert worker.role.jobs == 4


def test_answers_busy_at_once_when_a_job_would_wait_past_its_deadline(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 1.0)
    worker.take(activation("j-0", left=10.0), at=1.0)

    worker.take(activation("j-1", left=2.5), at=1.0)  # ends at 3.0, its deadline is 3.5: too close
    worker.take(activation("j-2", left=2.8), at=1.0)

    assert codes(worker.done) == [("j-1", "busy")]
    assert worker.role.jobs == 2


def test_a_job_that_need_not_wait_is_run_even_if_it_is_predicted_to_be_late(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 60.0)  # a prediction is learnt by runs only: a wrong one must not last

    actions = worker.take(activation("j-0", left=1.0), at=1.0)

    assert only(RunUnits, actions) and codes(worker.done) == []


def test_the_queue_is_bounded_in_number_even_when_its_work_is_small(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 1e-6)
    for number in range(QUEUE_JOBS + 2):
        worker.take(activation(f"j-{number}"), at=1.0)
    assert codes(worker.done) == [(f"j-{QUEUE_JOBS + 1}", "busy")]


def test_what_a_partition_takes_is_learnt_from_the_executor_and_not_from_waiting_for_it(
    worker: DrivenWorker,
) -> None:
    worker.take(activation(), at=1.0)
    finish(worker, at=4.0, seconds=0.02)  # a load held the executor for three seconds
    worker.take(activation("j-2"), at=5.0)
    worker.take(activation("j-3"), at=5.0)
    assert worker.role.queued_seconds(5.0) == pytest.approx(2 * 0.021)


def test_a_job_that_waits_past_its_deadline_is_answered_then(worker: DrivenWorker) -> None:
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2", left=0.5), at=1.0)
    assert worker.timers == {"worker-deadline": 1.5}
    assert codes(worker.pass_until(2.0)) == [("j-2", "deadline")]
    assert worker.role.jobs == 1


def test_a_job_whose_deadline_passed_on_the_way_is_not_run(worker: DrivenWorker) -> None:
    assert codes(worker.take(activation(left=0.0), at=1.0)) == [("j-1", "deadline")]
    assert not only(RunUnits, worker.done)


def test_a_run_that_comes_too_late_to_the_executor_is_answered_so(worker: DrivenWorker) -> None:
    """Found by the fault simulator: behind the measurement of another model it began after its deadline."""
    (run,) = only(RunUnits, worker.take(activation(left=0.5), at=1.0))
    assert run.until == 1.5
    actions = worker.take(RunFailed(run.run, "deadline", "its deadline passed before it began"), at=2.0)
    assert codes(actions) == [("j-1", "deadline")]


def test_a_job_whose_deadline_passed_in_its_run_is_not_sent_on(worker: DrivenWorker) -> None:
    worker.take(activation(left=0.5), at=1.0)
    actions = finish(worker, at=2.0)
    assert codes(actions) == [("j-1", "deadline")] and not works(actions)


def test_a_newer_frame_of_a_stream_replaces_the_one_that_waits(worker: DrivenWorker) -> None:
    for job in ("f-1", "f-2", "f-3"):
        worker.take(activation(job, stream="camera"), at=1.0)
    assert codes(worker.done) == [("f-2", "superseded")]
    finish(worker, at=1.1)
    assert only(RunUnits, worker.done)[-1].run == "f-3-3"


def test_streams_of_the_same_name_of_other_models_are_other_streams(worker: DrivenWorker) -> None:
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("f-1", stream="camera"), at=1.0)
    worker.take(activation("f-2", stream="camera", model="objects"), at=1.0)
    assert codes(worker.done) == []


def test_streams_of_the_same_name_at_other_requesters_are_other_streams(worker: DrivenWorker) -> None:
    worker.take(activation("j-0"), at=1.0)
    worker.take(activation("f-1", stream="camera"), at=1.0)
    worker.take(activation("f-2", stream="camera", requester="other"), at=1.0)
    assert codes(worker.done) == []


def test_a_frame_sent_again_does_not_replace_a_newer_one(worker: DrivenWorker) -> None:
    worker.take(activation("j-0"), at=1.0)
    worker.take(activation("f-2", stream="camera"), at=1.0)
    worker.take(activation("f-1", stream="camera", attempt=1), at=1.0)
    assert codes(worker.done) == []


def test_a_frame_on_its_way_back_replaces_none_that_waits_for_its_first_units(worker: DrivenWorker) -> None:
    route = (Hop("one", 1), Hop("two", 3), Hop("one", 4))
    worker.take(activation("j-0"), at=1.0)
    worker.take(activation("f-2", route=route, stream="camera"), at=1.0)
    worker.take(activation("f-1", position=3, route=route, stream="camera", sender="two"), at=1.0)
    assert codes(worker.done) == []

    worker.take(activation("f-3", route=route, stream="camera"), at=1.0)
    assert codes(worker.done) == [("f-2", "superseded")]


def test_a_full_queue_takes_a_newer_frame_in_place_of_the_older(worker: DrivenWorker) -> None:
    worker.role.expect(DIGEST, 0, 2, 3.0)
    worker.take(activation("j-0"), at=1.0)
    worker.take(activation("f-1", stream="camera"), at=1.0)
    worker.take(activation("f-2", stream="camera"), at=1.0)
    assert codes(worker.done) == [("f-1", "superseded")]
    worker.take(activation("j-1"), at=1.0)
    assert codes(worker.done)[1:] == [("j-1", "busy")]


def test_an_activation_delivered_twice_is_run_once(worker: DrivenWorker) -> None:
    worker.take(activation(), at=1.0)
    assert worker.take(activation(), at=1.0) == []
    finish(worker, at=1.1)
    assert worker.take(activation(), at=1.2) == []


def test_another_attempt_of_a_job_is_another_activation(worker: DrivenWorker) -> None:
    worker.take(activation(), at=1.0)
    worker.take(activation(attempt=1), at=1.0)
    assert worker.role.jobs == 2


def test_a_job_sent_again_goes_on_from_the_activation_that_is_there(worker: DrivenWorker) -> None:
    worker.take(activation(), at=1.0)
    finish(worker, at=1.1)

    actions = worker.take(
        activation(route=(Hop("one", 2), Hop("three", 4)), attempt=1, left=8.0, section=b"not looked at"),
        at=3.0,
    )

    assert not only(RunUnits, actions) and worker.role.idle
    ((device, onward),) = works(actions)
    assert (device, onward.position, onward.attempt, onward.left) == ("three", 2, 1, 8.0)
    assert onward.timings == (Timing("one", 0, 2, 0.0, 0.02, 0.001),)
    assert bytes(decode_activation(sent("work", actions)[0].payload)[1]) == b"output"


def test_it_does_so_however_much_waits(worker: DrivenWorker) -> None:
    worker.take(activation(), at=1.0)
    finish(worker, at=1.1)
    worker.role.expect(DIGEST, 0, 2, 6.0)
    for number in range(2, 6):
        worker.take(activation(f"j-{number}"), at=1.2)

    assert [device for device, _ in works(worker.take(activation(attempt=1), at=1.3))] == ["two"]


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt": 1, "route": (Hop("one", 3), Hop("two", 4))},
        {"attempt": 1, "route": (Hop("one", 2, "f16"), Hop("two", 4))},
        {"attempt": 1, "route": (Hop("one", 4),)},
        {"attempt": 1, "requester": "other"},
        {"attempt": 1, "job": "j-2"},
    ],
    ids=["another cut", "another codec", "the end of the route", "another requester", "another job"],
)
def test_what_is_not_the_same_is_run(worker: DrivenWorker, fields: dict[str, Any]) -> None:
    worker.take(activation(), at=1.0)
    finish(worker, at=1.1)

    assert only(RunUnits, worker.take(activation(**fields), at=1.2))
    finish(worker, at=1.3)


def test_what_came_of_another_codec_before_it_is_run_anew(worker: DrivenWorker) -> None:
    def route(codec: str) -> tuple[Hop, ...]:
        return Hop("two", 1, codec), Hop("one", 2), Hop("two", 4)

    worker.take(activation(position=1, route=route("q8")), at=1.0)
    finish(worker, at=1.1)

    assert only(RunUnits, worker.take(activation(position=1, route=route("raw"), attempt=1), at=1.2))
    finish(worker, at=1.3)


def test_kept_activations_are_bounded_in_bytes_and_the_oldest_go() -> None:
    worker = DrivenWorker(Worker("one", TOPICS))
    worker.role.held = {DIGEST}
    for job in ("j-1", "j-2", "j-3"):
        worker.take(activation(job), at=1.0)
        worker.take(RunFinished(worker.running, bytes(KEPT_BYTES * 2 // 5), 0.02, 0.001), at=1.1)

    again = [only(RunUnits, worker.take(activation(job, attempt=1), at=1.2)) for job in ("j-3", "j-2")]
    assert again == [[], []]
    assert only(RunUnits, worker.take(activation("j-1", attempt=1), at=1.3))


def test_one_that_alone_is_too_large_to_keep_takes_nobodys_place() -> None:
    worker = DrivenWorker(Worker("one", TOPICS))
    worker.role.held = {DIGEST}
    for job, nbytes in (("j-1", 5), ("j-2", KEPT_BYTES)):
        worker.take(activation(job), at=1.0)
        worker.take(RunFinished(worker.running, bytes(nbytes), 0.02, 0.001), at=1.1)

    assert not only(RunUnits, worker.take(activation("j-1", attempt=1), at=1.2))
    assert only(RunUnits, worker.take(activation("j-2", attempt=1), at=1.3))


def test_what_is_past_its_deadline_is_kept_no_longer() -> None:
    kept = KeptActivations()
    worker = DrivenWorker(Worker("one", TOPICS))
    worker.role.held, worker.role._kept = {DIGEST}, kept
    for job, at in (("j-1", 1.0), ("j-2", 2.0), ("j-3", 11.5)):
        worker.take(activation(job), at=at)
        finish(worker, at=at + 0.1)

    assert len(kept) == 2


def test_the_same_job_id_of_another_requester_is_another_job(worker: DrivenWorker) -> None:
    worker.take(activation("j-1", position=2, route=(Hop("two", 2), Hop("one", 4))), at=1.0)
    finish(worker, at=1.1)
    worker.done.clear()
    worker.taken.clear()
    worker.take(
        activation("j-1", position=2, route=(Hop("two", 2), Hop("one", 4)), requester="other"), at=1.2
    )
    assert worker.role.jobs == 1


def test_what_is_remembered_against_duplicates_is_bounded() -> None:
    worker = Worker("one", TOPICS)  # holds nothing: every activation is refused at once
    for number in range(5000):
        worker.handle(activation(f"j-{number}"), 1.0)
    assert len(worker._seen) == 4096 and worker.jobs == 0


def test_work_for_another_device_is_refused(worker: DrivenWorker) -> None:
    assert codes(worker.take(activation(route=(Hop("two", 4),)), at=1.0)) == [("j-1", "bad-message")]


def test_work_on_a_model_it_does_not_hold_is_refused(worker: DrivenWorker) -> None:
    assert codes(worker.take(activation(digest="0" * 64), at=1.0)) == [("j-1", "unknown-model")]


def test_a_message_of_another_version_is_answered_when_its_sender_can_be_read(worker: DrivenWorker) -> None:
    payload = bytearray(activation().payload)
    payload[2] = 9
    actions = worker.take(message("work", bytes(payload), device="one"), at=1.0)
    (answer,) = replies(actions)
    assert (answer.job, answer.code) == ("j-1", "wrong-version") and "version 9" in (answer.text or "")
    worker.done.clear()


def test_garbage_is_logged_once_in_ten_seconds_and_answered_to_nobody(worker: DrivenWorker) -> None:
    for number in range(100):
        worker.take(
            message("work", b"EM\x01\x01garbage" + bytes([number]), device="one"), at=1.0 + number / 50
        )
    assert len(only(Log, worker.done)) == 1 and not sent("reply", worker.done)
    (log,) = only(Log, worker.take(message("work", b"", device="one"), at=12.0))
    assert "99 more" in log.text


def test_a_header_full_of_timings_does_not_break_the_one_who_adds_his(worker: DrivenWorker) -> None:
    full = tuple(Timing("one", 0, 2, 0.0, 0.0, 0.0) for _ in range(128))
    worker.take(activation(timings=full), at=1.0)
    ((_, onward),) = works(finish(worker, at=1.1))
    assert len(onward.timings) == 128 and onward.timings[-1].run == 0.02


def test_a_failed_run_is_answered_and_the_next_one_starts(worker: DrivenWorker) -> None:
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2"), at=1.0)
    actions = worker.take(RunFailed("j-1-1", "run-failed", "out of memory"), at=1.1)
    assert codes(actions) == [("j-1", "run-failed")] and only(RunUnits, actions)[0].run == "j-2-2"


def test_a_model_of_which_every_run_fails_is_no_flood_of_log(worker: DrivenWorker) -> None:
    logs: list[Log] = []
    for number in range(1, 31):
        at = 1.0 + number / 10
        worker.take(activation(f"j-{number}"), at=at)
        logs += only(Log, worker.take(RunFailed(f"j-{number}-{number}", "run-failed", "no memory"), at=at))

    assert len(logs) == 1


def test_a_failure_keeps_the_code_that_the_executor_gave_it(worker: DrivenWorker) -> None:
    worker.take(activation(), at=1.0)
    assert codes(worker.take(RunFailed("j-1-1", "bad-message", "3 tensors"), at=1.1)) == [
        ("j-1", "bad-message")
    ]


def test_a_lost_executor_answers_the_job_that_it_ran(worker: DrivenWorker) -> None:
    worker.take(activation("j-1"), at=1.0)
    worker.take(activation("j-2"), at=1.0)
    actions = worker.take(ExecutorLost("killed by signal 9"), at=1.1)
    assert codes(actions) == [("j-1", "run-failed")] and only(RunUnits, actions)[0].run == "j-2-2"
    # An answer of the dead executor changes nothing.
    assert worker.take(RunFinished("j-1-1", b"late", 0.1, 0.0), at=1.2) == []


def test_a_receipt_goes_to_the_sender_when_it_asks_for_one(worker: DrivenWorker) -> None:
    actions = worker.take(activation(receipt=True, sender="zero", attempt=2), at=1.0)
    (receipt,) = sent("receipt", actions)
    assert isinstance(actions[0], RunUnits)  # sending it takes longer than giving the executor its work
    assert receipt.topic == TOPICS.build("receipt", requester="zero") and receipt.qos == 0
    assert decode_json(Receipt, receipt.payload) == Receipt("j-1", 2, "one")
    assert works(finish(worker, at=1.1))[0][1].receipt
    assert sent("work", worker.done)[0].token == "work:j-1:2:2"


def test_an_emulated_board_takes_at_least_its_pace() -> None:
    worker = Worker("one", TOPICS, pace=lambda digest, start, stop: 0.1 * (stop - start))
    worker.held = {DIGEST}
    (run,) = only(RunUnits, worker.handle(activation(), 1.0))
    assert run.at_least == pytest.approx(0.2)


def test_the_deadline_timer_is_set_only_when_an_earlier_deadline_comes(worker: DrivenWorker) -> None:
    worker.take(activation("j-0"), at=1.0)
    assert only(SetTimer, worker.take(activation("j-1", left=5.0), at=1.0))
    assert not only(SetTimer, worker.take(activation("j-2", left=9.0), at=1.0))
    assert only(SetTimer, worker.take(activation("j-3", left=1.0), at=1.0))


def test_a_timer_that_fires_for_nothing_does_nothing(worker: DrivenWorker) -> None:
    assert worker.take(TimerFired("worker-deadline"), at=1.0) == []


def test_what_a_new_model_takes_is_remembered_after_thousands_of_others(worker: DrivenWorker) -> None:
    for number in range(5000):
        worker.role.expect(f"{number:064x}", 0, 2, 0.02)
    worker.role.expect(DIGEST, 0, 2, 3.0)

    for job in ("j-1", "j-2"):
        worker.take(activation(job), at=1.0)

    assert worker.role.waiting_seconds == pytest.approx(3.0)
    while worker.at_executor:
        finish(worker, worker.now + 1.0)
