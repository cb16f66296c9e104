"""Links from samples on the sender's own clock."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.instance import Link
from edgemesh.planning.level import SAMPLE_AGE
from edgemesh.planning.link_estimate import (
    BASES,
    DEFAULT_LINK,
    SPLIT_ERROR,
    UNKNOWN,
    LinkEstimator,
    receiver_share,
)

BROKER = 0.0002


def probe(
    estimator: LinkEstimator, link: Link, now: float, *, noise: Random | None = None, kinds: str = "up tail"
) -> None:
    """One self-probe of 64 bytes and one of 64 KiB."""
    for nbytes in (64, 65536):
        factor = noise.lognormvariate(0.0, 0.15) if noise else 1.0
        base = link.latency_up + link.latency_down + BROKER
        up = (base + nbytes / link.rate_up) * factor
        tail = nbytes / link.rate_down * (noise.lognormvariate(0.0, 0.15) if noise else 1.0)
        times = {"up": up, "tail": tail, "echo": up + tail, "down": base * factor + tail}
        for kind in kinds.split():
            estimator.observe(kind, nbytes, times[kind], now)  # type: ignore[arg-type]


def assert_close(found: Link, wanted: Link, factor: float) -> None:
    pairs = [
        (found.latency_up + found.latency_down, wanted.latency_up + wanted.latency_down),
        (found.rate_up, wanted.rate_up),
        (found.rate_down, wanted.rate_down),
    ]
    for value, truth in pairs:
        assert truth / factor <= value <= truth * factor, (value, truth)


@pytest.mark.parametrize("kinds", ["up tail", "up echo", "up down", "echo down", "echo tail"])
def test_exact_samples_of_two_kinds_give_the_exact_link(kinds: str) -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)
    link = Link(0.001, 1.5e6, 0.004, 6e6)

    for second in range(3):
        probe(estimator, link, float(second), kinds=kinds)

    assert_close(estimator.estimate(3.0).link, link, 1.02)


@pytest.mark.parametrize("seed", range(20))
def test_noisy_samples_give_a_link_within_a_third(seed: int) -> None:
    estimator, noise = LinkEstimator(broker_seconds=BROKER), Random(seed)
    link = Link(0.002, 2e6, 0.002, 5e6)

    for second in range(8):
        probe(estimator, link, float(second), noise=noise)

    estimate = estimator.estimate(8.0)
    assert_close(estimate.link, link, 1.34)
    assert estimate.uncertainty < 0.3


def test_a_step_is_followed_after_three_probes() -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)
    good, bad = Link(0.001, 5e6, 0.001, 5e6), Link(0.02, 2e5, 0.02, 4e5)
    for second in range(20):
        probe(estimator, good, float(second))

    for second in range(20, 23):
        probe(estimator, bad, float(second))

    assert_close(estimator.estimate(23.0).link, bad, 1.02)


def test_two_outliers_change_nothing() -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)
    link = Link(0.001, 5e6, 0.001, 5e6)
    for second in range(20):
        probe(estimator, link, float(second))

    for second in range(20, 22):
        probe(estimator, Link(3.0, 1e4, 3.0, 1e4), float(second))

    assert_close(estimator.estimate(22.0).link, link, 1.02)
    assert estimator.steps == 0


def test_without_samples_the_default_is_marked_unknown() -> None:
    estimate = LinkEstimator().estimate(0.0)

    assert (estimate.link, estimate.uncertainty, estimate.age) == (DEFAULT_LINK, UNKNOWN, math.inf)


def test_more_samples_make_an_estimate_more_certain() -> None:
    estimator, seen = LinkEstimator(broker_seconds=BROKER), []

    for second in range(4):
        seen.append(estimator.estimate(float(second)).uncertainty)
        probe(estimator, Link(0.001, 5e6, 0.001, 5e6), float(second))

    assert seen == sorted(seen, reverse=True) and seen[-1] < seen[0]


def test_an_old_estimate_stays_but_is_marked_unknown() -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)
    slow = Link(0.05, 1e5, 0.05, 1e5)
    for second in range(7):
        probe(estimator, slow, float(second))

    later = estimator.estimate(7.0 + 2 * SAMPLE_AGE)

    assert_close(later.link, slow, 1.02)
    assert later.uncertainty == UNKNOWN
    assert later.age > SAMPLE_AGE


def test_ways_that_are_only_seen_together_are_known_but_for_what_is_whose() -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)
    for second in range(8):
        probe(estimator, Link(0.001, 5e6, 0.001, 5e6), float(second), kinds="echo")

    together = estimator.estimate(8.0)
    probe(estimator, Link(0.001, 5e6, 0.001, 5e6), 8.0, kinds="up")

    assert together.is_split and together.uncertainty == pytest.approx(SPLIT_ERROR, rel=0.1)
    assert not estimator.estimate(9.0).is_split


def test_one_direction_stands_for_the_other_until_it_is_seen() -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)

    probe(estimator, Link(0.001, 3e5, 0.001, 9e9), 0.0, kinds="up")

    estimate = estimator.estimate(0.0)
    assert estimate.link.rate_down == pytest.approx(3e5, rel=0.01)
    assert estimate.uncertainty == UNKNOWN


def test_what_a_round_leaves_when_the_sender_is_known_is_the_receivers_share() -> None:
    sender, receiver = Link(0.001, 1e6, 0.002, 4e6), Link(0.003, 5e5, 0.004, 2e6)
    n = 50_000
    there = sender.latency_up + n / sender.rate_up + BROKER + n / receiver.rate_down + receiver.latency_down
    total = there + receiver.latency_up + BROKER + sender.latency_down

    share = receiver_share(n, total, sender, BROKER)

    assert share == pytest.approx(0.007 + BROKER + n / 2e6)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(BASES)),
            st.one_of(st.integers(-10, 10**9), st.just(0)),
            st.one_of(st.floats(), st.sampled_from([0.0, -1.0, math.nan, math.inf, 1e-300, 1e300])),
        ),
        max_size=40,
    )
)
def test_no_samples_whatever_give_an_absurd_link(samples: list) -> None:
    estimator = LinkEstimator(broker_seconds=BROKER)

    for second, (kind, nbytes, seconds) in enumerate(samples):
        estimator.observe(kind, nbytes, seconds, float(second))

    estimate = estimator.estimate(float(len(samples)))
    assert 1e-5 <= estimate.link.latency_up == estimate.link.latency_down <= 5.0
    assert 1e3 <= estimate.link.rate_up <= 1e10
    assert 1e3 <= estimate.link.rate_down <= 1e10
    assert 0.0 <= estimate.uncertainty <= UNKNOWN


def test_a_direction_that_jobs_show_is_known_though_the_other_is_not() -> None:
    estimator = LinkEstimator()
    for second in range(12):
        estimator.observe("up", 64, 0.004, float(second))
        estimator.observe("up", 100_000, 0.104, float(second))

    estimate = estimator.estimate(12.0)

    assert estimate.up_error < 0.1 and estimate.down_error == UNKNOWN
    assert estimate.uncertainty == estimate.down_error


# --- what one kind of sample says once another has made a step -------------------------------------------


def large(estimator: LinkEstimator, kind: str, rates: list[float], times: range) -> None:
    """Samples of 64 KiB that pass the given rates one after the other, on a link without latency."""
    for second in times:
        estimator.observe(kind, 65536, sum(65536 / rate for rate in rates), float(second))  # type: ignore[arg-type]


def test_an_echo_of_before_a_step_does_not_make_the_other_way_fast() -> None:
    estimator = LinkEstimator()
    estimator.observe("up", 64, 0.0001, 0.0)
    large(estimator, "up", [2e6], range(6))
    large(estimator, "echo", [2e6, 4e6], range(6))
    estimator.estimate(6.0)

    large(estimator, "up", [0.4e6], range(6, 12))

    estimate = estimator.estimate(12.0)
    assert estimate.link.rate_up == pytest.approx(0.4e6, rel=0.05)
    assert estimate.link.rate_down == pytest.approx(0.8e6, rel=0.1)  # as much slower: the best guess
    assert estimate.down_error == UNKNOWN


def test_the_first_echo_after_a_step_tells_the_other_way_again() -> None:
    estimator = LinkEstimator()
    estimator.observe("up", 64, 0.0001, 0.0)
    large(estimator, "up", [2e6], range(6))
    large(estimator, "echo", [2e6, 4e6], range(6))
    large(estimator, "up", [0.4e6], range(6, 12))

    large(estimator, "echo", [0.4e6, 4e6], range(12, 16))

    assert estimator.estimate(16.0).link.rate_down == pytest.approx(4e6, rel=0.3)


@pytest.mark.parametrize("known", ["down", "tail"])
def test_a_step_of_the_echo_tells_of_a_way_that_nothing_else_has_shown_since(known: str) -> None:
    estimator = LinkEstimator()
    estimator.observe("up", 64, 0.0001, 0.0)
    for kind, rates in (("up", [2e6]), (known, [4e6]), ("echo", [2e6, 4e6])):
        large(estimator, kind, rates, range(6))

    large(estimator, "up", [2e6], range(6, 12))
    large(estimator, "echo", [2e6, 0.5e6], range(6, 12))

    assert estimator.estimate(12.0).link.rate_down == pytest.approx(0.5e6, rel=0.1)


def test_rates_are_judged_by_the_latency_that_is_known_now() -> None:
    """What is measured while a connection opens is slow: it is neither the latency nor all but the rate."""
    estimator = LinkEstimator()
    for second, base in enumerate((0.03, 0.015, 0.015, 0.015)):
        estimator.observe("echo", 64, base, float(second))
        estimator.observe("echo", 65536, 0.015 + 65536 / 3e6 + 65536 / 3e6, float(second))

    estimate = estimator.estimate(4.0)

    assert estimate.link.rate_up == pytest.approx(3e6, rel=0.02)


def test_steps_are_counted_however_often_samples_are_judged_anew() -> None:
    estimator, seen = LinkEstimator(), [0]
    for second in range(60):
        slow = 5.0 if second >= 30 else 1.0
        estimator.observe("echo", 64, 0.001 * slow, float(second))
        estimator.observe("up", 65536, 0.001 * slow + 65536 * slow / 2e6, float(second))
        estimator.observe("echo", 65536, 0.001 * slow + 65536 * slow / 1e6, float(second))
        seen.append(estimator.steps)

    assert seen == sorted(seen)
    assert seen[30] == 0 and 1 <= seen[-1] <= 6


def test_a_link_in_the_middle_of_a_step_teaches_no_ratio_of_its_ways() -> None:
    estimator = LinkEstimator()
    estimator.observe("up", 64, 0.0001, 0.0)
    large(estimator, "up", [2e6], range(8))
    large(estimator, "echo", [2e6, 2e6], range(6, 8))
    estimator.estimate(8.0)

    for second in range(8, 16):
        large(estimator, "echo", [0.4e6, 0.4e6], range(second, second + 1))
        estimator.estimate(float(second))
        if second >= 10:
            large(estimator, "up", [0.4e6], range(second, second + 1))
            estimate = estimator.estimate(second + 0.9)

    assert estimate.link.rate_down == pytest.approx(0.4e6, rel=0.2)
    assert estimator._ratio == pytest.approx(1.0, rel=0.2)


def test_one_late_message_weighs_less_than_what_many_echoes_leave() -> None:
    estimator = LinkEstimator()
    estimator.observe("up", 64, 0.0001, 0.0)
    for kind, rates in (("up", [2e6]), ("echo", [2e6, 4e6])):
        large(estimator, kind, rates, range(8))

    estimator.observe("down", 65536, 65536 / 0.1e6, 8.0)

    assert estimator.estimate(8.0).link.rate_down == pytest.approx(4e6, rel=0.1)
