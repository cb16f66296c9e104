"""Rules of the answer pace: what is learnt of answers that come while more jobs are under way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.roles.answer_pace import AnswerPace
from edgemesh.roles.routes import Lane


def lane(device: str) -> Lane:
    return device, "content"


class Asker:
    """A requester's jobs over devices, as the pace is told of them."""

    def __init__(self) -> None:
        self.pace = AnswerPace()
        self.under_way: Counter[str] = Counter()
        self.now = 0.0

    def send(self, device: str, jobs: int = 1, *, at: float | None = None) -> None:
        self.now = self.now if at is None else at
        for _ in range(jobs):
            self.pace.sent([lane(device)], self.count, self.now)
            self.under_way[device] += 1

    def answer(self, device: str, at: float) -> None:
        self.now = at
        self.under_way[device] -= 1
        self.pace.answered([lane(device)], self.count, at)

    def lose(self, device: str) -> None:
        """A job ends without a result."""
        self.under_way[device] -= 1

    def seconds(self, *devices: str, at: float, heard: float | None = None) -> float:
        return self.pace.seconds(map(lane, devices), self.count, at, at if heard is None else heard)

    def count(self, lane: Lane) -> int:
        return self.under_way[lane[0]]


def answered_every(gap: float, device: str = "one", *, jobs: int = 8) -> Asker:
    """Some jobs sent at once, all but two of them answered."""
    asker = Asker()
    asker.send(device, jobs)
    for number in range(jobs - 2):
        asker.answer(device, number * gap)
    return asker


def test_nothing_is_known_of_jobs_that_come_one_at_a_time() -> None:
    asker = Asker()

    for second in range(20):
        asker.send("one")
        asker.answer("one", second + 0.5)
    assert not asker.pace
    asker.send("one", 5, at=20.0)

    assert asker.seconds("one", at=20.0) == 0.0


def test_a_job_waits_for_all_that_are_under_way_over_its_slowest_device() -> None:
    asker = Asker()
    asker.send("one", 14)
    asker.send("two", 8)
    for number in range(6):
        asker.answer("one", number * 0.5 + 0.25)
        asker.answer("one", number * 0.5 + 0.5)
        asker.answer("two", number * 0.5 + 0.5)

    assert asker.seconds("one", at=3.0) == pytest.approx(0.75)
    assert asker.seconds("one", "two", at=3.0) == pytest.approx(1.5)


def test_where_nothing_is_answered_a_job_takes_at_least_as_long_as_that() -> None:
    """Else a device whose jobs all come too late would have no pace, and be sent all that others refuse."""
    asker = Asker()
    asker.send("one", 3, at=1.0)

    assert asker.seconds("one", at=1.0) == 0.0
    assert asker.seconds("one", at=1.5) == pytest.approx(1.5)
    asker.answer("one", 2.0)
    assert asker.seconds("one", at=2.0) == 0.0
    asker.pace.interrupted()
    assert asker.seconds("one", at=9.0) == 0.0


def test_silence_counts_until_the_last_moment_of_which_all_answers_have_come() -> None:
    asker = Asker()
    asker.send("one", 3, at=1.0)

    assert asker.seconds("one", at=9.0, heard=1.0) == 0.0
    assert asker.seconds("one", at=9.0, heard=float("-inf")) == 0.0
    assert asker.seconds("one", at=9.0, heard=5.0) == pytest.approx(12.0)


def test_time_in_which_nothing_was_under_way_is_no_gap() -> None:
    asker = Asker()
    for burst in range(4):
        asker.send("one", 7)
        for number in range(6):
            asker.answer("one", burst * 5.0 + number * 0.25)
        asker.lose("one")  # the last of them is never answered
    asker.send("one", at=17.0)

    assert asker.seconds("one", at=17.0) == pytest.approx(0.5)


def test_the_time_without_a_broker_is_no_gap() -> None:
    asker = answered_every(0.1)
    for outage in range(4):
        asker.pace.interrupted()
        asker.answer("one", 60.0 * outage + 60.0)
        asker.send("one")

    assert asker.seconds("one", at=4.0) < 1.0


def test_one_long_pause_does_not_refuse_the_jobs_after_it() -> None:
    asker = answered_every(0.1)

    asker.answer("one", 9.0)

    assert asker.seconds("one", at=9.0) == pytest.approx(0.2)


def test_a_device_with_no_job_is_never_too_slow_for_the_next_one() -> None:
    asker = answered_every(60.0)
    asker.lose("one")

    assert asker.seconds("one", at=300.0) == pytest.approx(120.0)
    asker.lose("one")
    assert asker.seconds("one", at=300.0) == 0.0


def test_what_was_slow_refuses_nobody_for_ever() -> None:
    """What is under way ends by its deadline, and what was known is old by then."""
    asker = answered_every(5.0)

    assert asker.seconds("one", at=26.0) == pytest.approx(15.0)
    asker.send("one", at=40.0)
    assert asker.seconds("one", at=46.0) == pytest.approx(63.0)
    for _ in range(3):
        asker.lose("one")
    asker.send("one", 8, at=46.0)
    assert asker.seconds("one", at=46.0) == 0.0

    for number in range(6):
        asker.answer("one", 50.0 + number * 0.1)
    assert asker.seconds("one", at=50.5) == pytest.approx(0.3)


def test_a_job_that_was_lost_on_its_way_does_not_refuse_all_others() -> None:
    asker = Asker()
    asker.send("one", at=0.0)

    assert asker.seconds("one", at=29.0) == pytest.approx(29.0)
    assert asker.seconds("one", at=31.0) == 0.0


def test_the_time_before_a_job_was_sent_is_no_gap() -> None:
    asker = Asker()
    asker.send("one", at=0.0)  # lost on its way
    for minute in range(1, 9):
        asker.send("one", at=60.0 * minute)
        asker.now += 0.5
        asker.under_way["one"] -= 1
        asker.pace.answered([lane("one")], asker.count, asker.now, 60.0 * minute)

    assert asker.seconds("one", at=asker.now) <= 1.0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["send", "answer", "lose"])), max_size=200))
def test_no_wait_is_longer_than_all_that_was_seen(steps: list[tuple[str, str]]) -> None:
    asker, now, busy_since, longest = Asker(), 0.0, {"a": 0.0, "b": 0.0}, 0.0
    for device, step in steps:
        now += 0.5
        if step == "send":
            if not asker.under_way[device]:
                busy_since[device] = now
            asker.send(device, at=now)
        elif asker.under_way[device]:
            asker.lose(device) if step == "lose" else asker.answer(device, now)
            longest = max(longest, now - busy_since[device])
        jobs = asker.under_way[device]
        if jobs:
            longest = max(longest, now - busy_since[device])
        assert asker.seconds(device, at=now) <= longest * (jobs + 1) + 1e-9
