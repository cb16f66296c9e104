"""A level follows steps within a few samples, and nothing else."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.level import SAMPLE_AGE, WINDOW, Level

GUESS = 0.5
POSITIVE = st.floats(1e-300, 1e300, allow_subnormal=False)


def level_of(*values: float, every: float = 1.0) -> Level:
    level = Level()
    for number, value in enumerate(values):
        level.add(value, number * every)
    return level


def value_of(level: Level) -> float:
    return level.read(level.newest_at, GUESS).value


@given(
    st.floats(1e-3, 1e3),
    st.lists(st.floats(-0.1, 0.1), min_size=5, max_size=20),
    st.lists(st.floats(-9.0, 9.0), max_size=2),
)
def test_one_or_two_outliers_of_any_size_change_nothing(
    truth: float, noise: list[float], outliers: list[float]
) -> None:
    calm = level_of(*(truth * math.exp(log) for log in noise))
    before = value_of(calm)

    for number, log in enumerate(outliers):
        calm.add(truth * math.exp(log), len(noise) + number)

    assert value_of(calm) == pytest.approx(before, rel=0.11)
    assert calm.steps == 0


@given(st.sampled_from([0.2, 1 / 3, 3.0, 5.0, 20.0]), st.integers(0, 10**9))
def test_a_step_is_followed_after_three_samples_a_second_apart_and_so_is_the_way_back(
    factor: float, seed: int
) -> None:
    noise = Random(seed)
    level, now = Level(), 0.0

    def run(truth: float, samples: int) -> None:
        nonlocal now
        for _ in range(samples):
            now += 1.0
            level.add(truth * math.exp(min(0.1, max(-0.1, noise.gauss(0.0, 0.05)))), now)

    run(0.01, 20)
    run(0.01 * factor, 3)
    assert value_of(level) == pytest.approx(0.01 * factor, rel=0.12)
    run(0.01 * factor, 20)
    run(0.01, 3)
    assert value_of(level) == pytest.approx(0.01, rel=0.12)
    assert level.steps == 2


def test_samples_that_come_at_once_need_to_be_one_more() -> None:
    level = level_of(*[0.01] * 20, every=0.1)

    steps = [level.add(0.03, 2.0 + 0.1 * number) for number in range(4)]

    assert steps == [False, False, False, True]


def test_outliers_that_agree_in_nothing_but_their_side_are_no_step() -> None:
    level = level_of(*[0.01] * 20)

    steps = [level.add(value, 20.0 + number) for number, value in enumerate((0.02, 0.5, 0.05, 3.0))]

    assert not any(steps)
    assert value_of(level) == pytest.approx(0.01)


def test_a_change_too_small_to_be_a_step_is_followed_by_the_median() -> None:
    level = level_of(*[0.01] * 20)

    for number in range(WINDOW // 2 + 1):
        level.add(0.0115, 20.0 + number)

    assert level.steps == 0
    assert value_of(level) == pytest.approx(0.0115)


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_scattered_outliers_are_hardly_ever_taken_for_a_step(seed: int) -> None:
    """An hour at one sample a second: 10 % noise, every twentieth sample off by 2 to 10."""
    random, level = Random(seed), Level()
    worst = 0.0
    for second in range(3600):
        outlier = random.uniform(2.0, 10.0) if random.random() < 0.05 else 1.0
        level.add(0.01 * max(0.5, random.gauss(1.0, 0.1)) * outlier, float(second))
        worst = max(worst, abs(math.log(value_of(level) / 0.01))) if second > 10 else 0.0

    assert level.steps <= 2
    assert level.steps or worst < 0.2


def test_what_was_measured_under_another_condition_is_overthrown_by_two_samples() -> None:
    level = level_of(*[0.01] * 20)

    level.changed(2.0)  # from now on 0.02 would be nothing new
    assert value_of(level) == pytest.approx(0.01)
    level.add(0.015, 20.0)
    level.add(0.015, 20.5)

    assert value_of(level) == pytest.approx(0.015)


def test_samples_that_showed_a_change_before_it_was_told_count_as_much_less_afterwards() -> None:
    told_late = level_of(*[0.01] * 20)
    told_late.add(0.02, 20.0)
    assert told_late.doubtful

    told_late.changed(2.0)

    assert not told_late.doubtful and value_of(told_late) == pytest.approx(0.01)
    told_late.changed(0.5)
    assert value_of(told_late) == pytest.approx(0.01)


def test_what_was_known_before_a_condition_comes_back_as_one_sample() -> None:
    level = level_of(*[0.01] * 5, *[0.03] * 10)

    level.back_to(level.before_step)

    assert value_of(level) == pytest.approx(0.01)
    level.add(0.03, 20.0)
    level.add(0.03, 20.5)
    assert value_of(level) == pytest.approx(0.03)


def test_doubt_and_age_make_a_level_uncertain() -> None:
    level = level_of(*[0.01] * 20)
    certain = level.read(20.0, GUESS).error

    level.add(0.05, 20.0)
    doubted = level.read(20.0, GUESS).error
    level.add(0.01, 21.0)

    assert certain < 0.02 < 0.3 < doubted <= GUESS
    ages = [level.read(21.0 + age, GUESS).error for age in (0.0, 60.0, 150.0, SAMPLE_AGE, 10 * SAMPLE_AGE)]
    assert ages == sorted(ages) and ages[-1] == GUESS
    assert level.read(10_000.0, GUESS).value == pytest.approx(0.01)


@given(st.lists(st.tuples(POSITIVE, st.floats(0.0, 400.0)), min_size=1, max_size=60))
def test_whatever_comes_the_level_lies_between_the_samples(samples: list[tuple[float, float]]) -> None:
    level, now = Level(), 0.0
    for value, pause in samples:
        now += pause
        level.add(value, now)

    value, error, age = level.read(now, GUESS)

    values = [value for value, _ in samples]
    assert min(values) * (1 - 1e-9) <= value <= max(values) * (1 + 1e-9)
    assert 0.0 <= error <= GUESS and age == 0.0
