"""Waiting times from heartbeats and from jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.queue_estimate import QueueEstimates


def test_a_queue_counts_when_three_heartbeats_in_a_row_show_it() -> None:
    queues, seen = QueueEstimates(), []
    for seconds in (0.0, 0.4, 0.0, 0.4, 0.5, 0.6, 0.01):
        queues.heard("pi", seconds)
        seen.append(queues.seconds("pi", 0.0))

    assert seen == [0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.0]


def test_jobs_that_did_not_wait_say_more_than_heartbeats_that_caught_one_under_way() -> None:
    queues = QueueEstimates()
    for second in range(6):
        queues.heard("pi", 1.5)
        queues.waited("pi", 0.001, float(second))

    assert queues.seconds("pi", 6.0) == 0.0
    assert queues.seconds("pi", 60.0) == 1.5  # no job came for long: only the heartbeats are left


def test_a_growing_queue_is_followed_and_one_wait_alone_is_not() -> None:
    queues, seen = QueueEstimates(), []
    for second, wait in enumerate((0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 1.0, 2.0, 3.0)):
        queues.waited("pi", wait, float(second))
        seen.append(queues.seconds("pi", float(second)))

    assert seen[:6] == [0.0] * 6 and seen[-1] == 2.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1e300))))
def test_whatever_is_said_the_estimate_is_bounded(said: list[tuple[bool, float]]) -> None:
    queues = QueueEstimates()
    for second, (job, seconds) in enumerate(said):
        if job:
            queues.waited("pi", seconds, float(second))
        else:
            queues.heard("pi", seconds)
        assert 0.0 <= queues.seconds("pi", float(second)) <= 60.0


def test_names_that_reports_made_up_keep_no_device_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemesh.planning.queue_estimate._DEVICES", 4)
    queues = QueueEstimates()
    for number in range(10):
        queues.heard(f"container-{number}", 1.0)
        queues.waited(f"container-{number}", 1.0, 0.0)

    for second in range(3):
        queues.heard("pi", 0.5)
        queues.waited("pi", 2.0, float(second))

    assert queues.knows("pi") and not queues.knows("container-0")
    assert queues.seconds("pi", 3.0) == 2.0 and queues.seconds("pi", 60.0) == 0.5
