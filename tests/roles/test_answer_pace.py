"""Rules of the answer pace: what is learnt of answers that come while more jobs are under way."""

from __future__ import annotations

import pytest

from edgemesh.roles.answer_pace import AnswerPace


def test_nothing_is_known_of_jobs_that_come_one_at_a_time() -> None:
    pace = AnswerPace()

    for second in range(20):
        pace.answered(["one"], lambda device: 0, float(second))

    assert not pace
    assert pace.seconds(["one"], lambda device: 5) == 0.0


def test_a_job_waits_for_all_that_are_under_way_over_its_slowest_device() -> None:
    pace = AnswerPace()

    for number in range(8):
        pace.answered(["one"], lambda device: 2, number * 0.1)
        pace.answered(["two"], lambda device: 2, number * 0.5)

    assert pace.seconds(["one"], lambda device: 3) == pytest.approx(0.4)
    assert pace.seconds(["one", "two"], lambda device: 3) == pytest.approx(2.0)


def test_the_time_in_which_nothing_was_under_way_is_no_gap() -> None:
    pace = AnswerPace()

    for number in range(6):
        pace.answered(["one"], lambda device: 1, number * 10.0)
        pace.answered(["one"], lambda device: 0, number * 10.0 + 0.2)

    assert pace.seconds(["one"], lambda device: 1) == pytest.approx(0.4)


def test_one_long_pause_does_not_refuse_the_jobs_after_it() -> None:
    pace = AnswerPace()

    for at in (0.0, 0.1, 0.2, 0.3, 9.0, 9.1):
        pace.answered(["one"], lambda device: 1, at)

    assert pace.seconds(["one"], lambda device: 1) == pytest.approx(0.2)


def test_a_device_with_no_job_is_never_too_slow_for_the_next_one() -> None:
    pace = AnswerPace()

    for number in range(8):
        pace.answered(["one"], lambda device: 2, number * 60.0)

    assert pace.seconds(["one"], lambda device: 1) == pytest.approx(120.0)
    assert pace.seconds(["one"], lambda device: 0) == 0.0
