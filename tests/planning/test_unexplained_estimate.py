"""Whose the time is that nobody accounts for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.unexplained_estimate import HEALING_SECONDS, LARGEST_FACTOR, UnexplainedTime


def jobs(
    unexplained: UnexplainedTime,
    told: Mapping[str, float],
    extra: float,
    *,
    start: float = 0.0,
    count: int = 40,
) -> float:
    """One job a second whose devices say what is in ``told`` and that takes ``extra`` more; when it ends."""
    for number in range(count):
        accounted = sum(told.values())
        unexplained.observe(told, accounted + 0.01 + extra, accounted, 0.01, start + number)
    return start + count


def test_a_device_that_says_a_tenth_is_found_out() -> None:
    unexplained = UnexplainedTime()

    now = jobs(unexplained, {"liar": 0.01}, 0.09)

    assert 8.0 < unexplained.factor("liar", now) <= 10.0


def test_an_honest_device_on_a_fitful_link_is_not_blamed() -> None:
    unexplained = UnexplainedTime()
    for second in range(300):
        late = 0.3 if second % 5 == 0 else 0.004
        unexplained.observe({"honest": 0.05}, 0.05 + 0.02 + late, 0.05, 0.02, float(second))

    assert unexplained.factor("honest", 300.0) == 1.0


def test_what_does_not_last_is_nobodys() -> None:
    unexplained = UnexplainedTime()

    now = jobs(unexplained, {"one": 0.01}, 0.5, count=15)

    assert unexplained.factor("one", now) == 1.0


def test_on_a_route_of_two_the_one_without_another_witness_is_charged() -> None:
    unexplained = UnexplainedTime()
    now = jobs(unexplained, {"honest": 0.02, "liar": 0.01}, 0.09)
    assert unexplained.factor("honest", now) > 1.0  # nobody can tell yet

    now = jobs(unexplained, {"honest": 0.02}, 0.0, start=now)

    assert unexplained.factor("honest", now) == 1.0
    assert unexplained.factor("liar", now) > 8.0


def test_a_route_on_which_a_device_hardly_runs_is_no_witness() -> None:
    unexplained = UnexplainedTime()
    now = jobs(unexplained, {"liar": 0.01}, 0.09)

    now = jobs(unexplained, {"liar": 0.0001, "other": 0.02}, 0.0009, start=now)

    assert unexplained.factor("liar", now) > 8.0


def test_an_old_suspicion_is_dropped() -> None:
    unexplained = UnexplainedTime()
    now = jobs(unexplained, {"liar": 0.01}, 0.09)

    assert unexplained.factor("liar", now + 2 * HEALING_SECONDS) == 1.0


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.floats(0.0, 1e9), max_size=3),
            st.floats(-1e9, 1e9),
            st.floats(0.0, 1e9),
            st.floats(0.0, 1e9),
            st.floats(0.0, 30.0),
        ),
        max_size=40,
    )
)
def test_whatever_is_reported_the_factor_stays_within_bounds(reports: list) -> None:
    unexplained, now = UnexplainedTime(), 0.0
    for told, seconds, accounted, crossings, pause in reports:
        now += pause
        unexplained.observe(told, seconds, accounted, crossings, now)

    for device in "abcd":
        assert 1.0 <= unexplained.factor(device, now) <= LARGEST_FACTOR


def test_a_suspicion_over_three_devices_is_shared() -> None:
    unexplained = UnexplainedTime()
    now = jobs(unexplained, {"a": 0.01, "b": 0.01, "c": 0.01}, 0.3)

    factors = [unexplained.factor(device, now) for device in "abc"]

    assert factors == pytest.approx([factors[0]] * 3) and 9.0 < factors[0] < 11.0


def test_device_names_that_came_and_went_keep_no_newcomer_out() -> None:
    """Found by a reader: a planning that failed for ever once 257 names had run one content."""
    unexplained = UnexplainedTime()
    for number in range(300):
        unexplained.observe({f"container-{number}": 0.01}, 0.02, 0.01, 0.005, float(number))

    now = jobs(unexplained, {"liar": 0.01}, 0.09, start=300.0)

    assert 8.0 < unexplained.factor("liar", now) <= 10.0
    assert unexplained.factor("container-0", now) == 1.0


def test_a_device_of_which_only_routes_are_remembered_is_not_charged() -> None:
    unexplained = UnexplainedTime()
    many = {f"container-{number}": 0.01 for number in range(300)}

    now = jobs(unexplained, many, 300.0)

    assert unexplained.factor("container-0", now) == 1.0
    assert unexplained.factor("container-299", now) > 8.0
