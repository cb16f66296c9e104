"""Idle and busy watts are learned where samples tell them, and stay the board's where they do not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.planning.power_estimate import PowerEstimator

LOADS = (0.02, 0.15, 0.4, 0.6, 0.85, 0.97)


def fed(
    estimator: PowerEstimator,
    idle: float,
    busy: float,
    *,
    loads: tuple[float, ...] = LOADS,
    count: int = 120,
    noise: float = 0.0,
    outliers: float = 0.0,
    seed: int = 1,
) -> PowerEstimator:
    """Samples of a machine on the line from ``idle`` to ``busy``."""
    chance = random.Random(seed)
    for number in range(count):
        load = min(max(loads[number % len(loads)] + chance.uniform(-0.02, 0.02), 0.0), 1.0)
        watts = (idle + (busy - idle) * load) * max(0.2, chance.gauss(1.0, noise))
        estimator.observe(
            load, chance.choice((9000.0, 0.01)) if chance.random() < outliers else watts, number
        )
    return estimator


@settings(max_examples=200, deadline=None)
@given(
    idle=st.floats(0.4, 60.0),
    span=st.floats(1.3, 6.0),
    board_error=st.tuples(st.floats(0.6, 1.7), st.floats(0.6, 1.7)),
    noise=st.floats(0.0, 0.1),
    seed=st.integers(0, 1000),
)
def test_both_ends_are_learned_whatever_the_board_was_said_to_draw(
    idle: float, span: float, board_error: tuple[float, float], noise: float, seed: int
) -> None:
    busy = idle * span
    wrong = sorted((idle * board_error[0], busy * board_error[1]))

    found = fed(PowerEstimator(*wrong), idle, busy, noise=noise, outliers=0.04, seed=seed).estimate(200.0)

    assert found is not None
    # By its own stated uncertainty: three standard deviations.
    assert abs((found.busy_watts - found.idle_watts) - (busy - idle)) <= 3.0 * found.error * (
        found.busy_watts - found.idle_watts
    )
    assert found.idle_watts == pytest.approx(idle, rel=0.15) and found.busy_watts == pytest.approx(
        busy, rel=0.15
    )
    assert found.learned or span < 2.0


def test_a_device_that_was_only_seen_idle_keeps_its_boards_busy_watts() -> None:
    found = fed(PowerEstimator(2.7, 6.4), 1.6, 5.0, loads=(0.02, 0.05)).estimate(200.0)

    assert found is not None and not found.learned
    assert found.idle_watts == pytest.approx(1.6, rel=0.1)
    assert found.busy_watts == pytest.approx(6.4, rel=0.1)


def test_without_a_board_nothing_is_claimed_before_load_has_varied() -> None:
    estimator = PowerEstimator()
    assert estimator.estimate(0.0) is None
    fed(estimator, 3.0, 9.0, loads=(0.05, 0.1))
    seen_idle = estimator.estimate(200.0)
    fed(estimator, 3.0, 9.0)
    seen_all = estimator.estimate(200.0)

    assert seen_idle is not None and not seen_idle.learned
    assert seen_all is not None and seen_all.learned
    assert (seen_all.idle_watts, seen_all.busy_watts) == (
        pytest.approx(3.0, rel=0.05),
        pytest.approx(9.0, rel=0.05),
    )


def test_an_idle_night_does_not_outvote_a_busy_minute() -> None:
    estimator = fed(PowerEstimator(1.0, 10.0), 2.0, 7.0, count=30)
    for number in range(10_000):
        estimator.observe(0.0, 2.0, 200.0 + number)

    found = estimator.estimate(10_300.0)

    assert found is not None and found.learned and found.busy_watts == pytest.approx(7.0, rel=0.05)


def test_what_is_extrapolated_far_from_little_load_is_not_learned() -> None:
    found = fed(PowerEstimator(1.0, 20.0), 1.0, 60.0, loads=(0.02, 0.12, 0.22)).estimate(200.0)

    assert found is not None and found.error < 0.25 and not found.learned


def test_the_newest_samples_of_a_load_count() -> None:
    estimator = fed(PowerEstimator(2.0, 7.0), 2.0, 7.0, count=600)

    found = fed(estimator, 4.0, 14.0, count=600).estimate(700.0)

    assert found is not None and found.busy_watts == pytest.approx(14.0, rel=0.1)


def test_samples_of_another_power_supply_are_forgotten() -> None:
    estimator = fed(PowerEstimator(2.0, 7.0), 20.0, 70.0)
    later = 7 * 3600.0

    found = estimator.estimate(later)

    assert found is not None and not found.learned and found.busy_watts == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("load", "watts"),
    [(0.5, float("nan")), (0.5, -1.0), (0.5, 0.0), (0.5, 1e9), (float("nan"), 5.0), (-0.1, 5.0), (1.1, 5.0)],
)
def test_nonsense_is_no_sample(load: float, watts: float) -> None:
    estimator = PowerEstimator()
    for number in range(10):
        estimator.observe(load, watts, float(number))

    assert estimator.estimate(10.0) is None


def test_load_never_lowers_the_watts() -> None:
    found = fed(PowerEstimator(), 9.0, 3.0).estimate(200.0)

    assert found is not None and found.busy_watts >= found.idle_watts and not found.learned
