"""Unit times from the profile, corrected by jobs."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgemesh.planning.unit_time_estimate import (
    CORRECTION_RANGE,
    PROFILE_ERROR,
    MeasuredRun,
    UnitTimeEstimator,
    UnitTimes,
)

UNITS = [0.002, 0.004, 0.001, 0.003]


def run_seconds(times: UnitTimes, start: int, stop: int) -> float:
    return times.run_overhead + times.run_factor * float(times.seconds[start:stop].sum())


def measured(start: int, stop: int, *, overhead: float = 0.0005, factor: float = 0.8) -> MeasuredRun:
    return MeasuredRun(start, stop, overhead + factor * sum(UNITS[start:stop]))


def test_a_profile_without_runs_is_taken_as_the_sum_of_its_units() -> None:
    times = UnitTimeEstimator(UNITS).estimate(0.0)

    assert (times.run_overhead, times.run_factor) == (0.0, 1.0)
    assert (times.uncertainty, times.age) == (PROFILE_ERROR, math.inf)


def test_measured_runs_give_overhead_and_factor() -> None:
    runs = [measured(0, 1), measured(0, 3), measured(2, 4), measured(0, 4)]

    times = UnitTimeEstimator(UNITS, runs).estimate(0.0)

    assert times.run_overhead == pytest.approx(0.0005)
    assert times.run_factor == pytest.approx(0.8)


def test_one_measured_run_out_of_line_changes_little() -> None:
    runs = [measured(0, k) for k in (1, 2, 3, 4)] + [measured(k, 4) for k in (1, 2, 3)]
    runs[2] = MeasuredRun(0, 3, 1.0)

    times = UnitTimeEstimator(UNITS, runs).estimate(0.0)

    assert run_seconds(times, 0, 4) == pytest.approx(0.0005 + 0.8 * 0.010, rel=0.1)


def test_runs_that_would_give_a_negative_overhead_give_none() -> None:
    runs = [measured(0, k, overhead=-0.001, factor=1.2) for k in (1, 2, 4)]

    times = UnitTimeEstimator(UNITS, runs).estimate(0.0)

    assert times.run_overhead == 0.0
    assert 0.5 < times.run_factor < 1.2


def test_a_throttled_board_is_followed_after_four_jobs() -> None:
    estimator = UnitTimeEstimator(UNITS, [measured(0, 2), measured(0, 4)])
    for second in range(20):
        estimator.observe(measured(0, 4), float(second))

    for second in range(20, 24):
        whole = measured(0, 2)
        estimator.observe(whole._replace(seconds=2.5 * whole.seconds), float(second))

    times = estimator.estimate(24.0)
    assert run_seconds(times, 0, 4) == pytest.approx(2.5 * measured(0, 4).seconds)


def test_a_first_run_that_disagrees_with_the_profile_makes_it_doubtful_and_a_second_overthrows_it() -> None:
    estimator = UnitTimeEstimator(UNITS)

    estimator.observe(MeasuredRun(0, 4, 0.021), 1.0)
    doubted = estimator.estimate(1.0)
    estimator.observe(MeasuredRun(0, 4, 0.021), 2.0)
    overthrown = estimator.estimate(2.0)

    assert run_seconds(doubted, 0, 4) == pytest.approx(0.010)
    assert doubted.uncertainty == PROFILE_ERROR
    assert run_seconds(overthrown, 0, 4) == pytest.approx(0.021)


def test_agreeing_jobs_make_the_estimate_certain_and_scattered_ones_less_so() -> None:
    steady, shaky, noise = UnitTimeEstimator(UNITS), UnitTimeEstimator(UNITS), Random(1)
    for second in range(7):
        steady.observe(MeasuredRun(0, 4, 0.010), float(second))
        shaky.observe(MeasuredRun(0, 4, 0.010 * noise.lognormvariate(0.0, 0.5)), float(second))

    assert steady.estimate(7.0).uncertainty < 0.05 < shaky.estimate(7.0).uncertainty <= PROFILE_ERROR


def test_a_unit_without_a_time_cannot_be_run() -> None:
    times = UnitTimeEstimator([0.001, math.nan, -1.0, math.inf]).estimate(0.0)

    assert np.isinf(times.seconds).tolist() == [False, True, True, True]


@given(st.lists(st.floats(0.0, 1e5), min_size=4, max_size=4), st.floats(0.0, 1e5), st.floats(0.0, 1e5))
@example([5e-324] * 4, 5e-324, 5e-324)
@example([86_400.0] * 4, 5e-324, 1.0)
def test_no_profile_whatever_gives_an_absurd_estimate(seconds: list[float], run: float, job: float) -> None:
    estimator = UnitTimeEstimator(seconds, [MeasuredRun(0, 4, run), MeasuredRun(0, 2, run)])
    estimator.observe(MeasuredRun(1, 3, job), 0.0)

    times = estimator.estimate(1.0)

    assert (np.isfinite(times.seconds) & (times.seconds > 0.0)).all()
    assert math.isfinite(times.run_overhead) and 0.0 < times.run_factor < 1e6


@given(
    st.lists(st.tuples(st.integers(-2, 6), st.integers(-2, 6), st.floats()), max_size=30),
    st.lists(st.tuples(st.integers(-2, 6), st.integers(-2, 6), st.floats()), max_size=8),
)
def test_no_timings_whatever_give_an_absurd_estimate(jobs: list, runs: list) -> None:
    estimator = UnitTimeEstimator([*UNITS, math.inf], [MeasuredRun(*run) for run in runs])
    profile = estimator.estimate(0.0)

    for second, job in enumerate(jobs):
        estimator.observe(MeasuredRun(*job), float(second))

    times = estimator.estimate(float(len(jobs)))
    ratio = run_seconds(times, 0, 4) / run_seconds(profile, 0, 4)
    assert CORRECTION_RANGE[0] * 0.999 <= ratio <= CORRECTION_RANGE[1] * 1.001
    assert 0.0 <= times.uncertainty <= PROFILE_ERROR
    assert times.run_overhead >= 0.0 and times.run_factor > 0.0


def test_a_run_that_was_measured_off_the_line_is_predicted_as_it_was_measured() -> None:
    runs = [measured(0, 2), measured(0, 3), measured(2, 4), measured(0, 4)]
    off = measured(1, 4)._replace(seconds=1.15 * measured(1, 4).seconds)
    estimator = UnitTimeEstimator([*UNITS, math.inf], [*runs, off])
    for second in range(5):
        estimator.observe(off._replace(seconds=2.0 * off.seconds), float(second))

    times = estimator.estimate(5.0)

    assert times.runs is not None
    assert times.runs[1, 4] == pytest.approx(2.0 * off.seconds, rel=0.02)
    assert times.runs[0, 4] == pytest.approx(2.0 * measured(0, 4).seconds, rel=0.02)
    assert np.isinf(times.runs[4, 5]) and np.isinf(times.runs[0, 5]) and np.isinf(times.runs[2, 2])


def test_a_short_unit_that_takes_what_its_profile_says_does_not_make_the_device_faster() -> None:
    # Noise of the long runs makes the line through them start at 0.1 s, many times what the last unit takes.
    long = [MeasuredRun(0, 3, 3.0), MeasuredRun(0, 2, 2.05), MeasuredRun(1, 3, 2.05), MeasuredRun(1, 4, 2.06)]
    estimator = UnitTimeEstimator([1.0, 1.0, 1.0, 0.02], long)
    for second in range(10):
        estimator.observe(MeasuredRun(3, 4, 0.02), float(second))

    assert estimator.estimate(10.0).correction == pytest.approx(1.0, rel=0.02)
