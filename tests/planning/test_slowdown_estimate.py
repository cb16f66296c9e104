"""What a device's condition says of its speed before a run does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.slowdown_estimate import THROTTLED, OthersLoad, expected_slowdown


def test_our_own_runs_are_nobody_elses_load() -> None:
    load = OthersLoad()
    for _ in range(2):
        load.observe(cpu=0.6, own=0.6)

    assert load.share == 0.0


def test_a_burst_of_one_reading_does_not_count() -> None:
    load = OthersLoad()
    shares = []
    for cpu in (0.1, 1.0, 0.1, 1.0, 1.0):
        load.observe(cpu, own=0.0)
        shares.append(load.share)

    assert shares == [0.0, 0.1, 0.1, 0.1, 1.0]


def test_what_others_take_is_told_apart_from_runs_that_fill_the_rest() -> None:
    load = OthersLoad()
    for _ in range(2):
        load.observe(cpu=0.5 + 0.4 * 0.5, own=0.4)

    assert load.share == pytest.approx(0.5)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_load_never_makes_a_device_faster_and_half_the_cores_stay(one: float, other: float) -> None:
    low, high = sorted((one, other))

    assert 1.0 <= expected_slowdown(low, ()) <= expected_slowdown(high, ()) <= 2.0


def test_a_throttled_board_is_slower_and_an_idle_one_is_not() -> None:
    assert expected_slowdown(0.1, ()) == 1.0
    assert expected_slowdown(0.1, ("under-voltage",)) == THROTTLED
