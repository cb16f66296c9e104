"""A plan gives way to one that is better by more than the estimates can be wrong, and to no other."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.goal import Goal
from edgemesh.planning.plan import Crossing, Hop, Partition, Plan, Prediction
from edgemesh.planning.switching import (
    CLEAR_DWELL,
    LASTING_SECONDS,
    MARGIN,
    Doubt,
    Errors,
    Gain,
    Rivalry,
    doubt_about,
    gain,
    seconds_by_source,
)
from edgemesh.planning.value import value_of

LATENCY = Goal("latency")
ENERGY = Goal("bounded-energy")
CERTAIN = Errors({}, {})
ROUND = 2.0


def plan(device: str, seconds: float, joules: float = 0.0, *, link: float = 0.0) -> Plan:
    """All units on one device: so many seconds of running, so many on its link."""
    partition = Partition(0, 4, device, "raw")
    arrival = Crossing(0, "app", device, "raw", 1000, 0.0, 0.0, 0.0, link, 0.0) if link else None
    hop = Hop(partition, arrival, 0.0, seconds, joules)
    return Plan((partition,), "raw", Prediction((hop,), None, seconds + link, joules))


def look(
    rivalry: Rivalry,
    kept: Plan,
    new: Plan,
    now: float,
    *,
    goal: Goal = LATENCY,
    bound: float | None = None,
    errors: Errors = CERTAIN,
) -> bool:
    """One round with two plans, of which the better one is found; whether ``new`` takes over."""
    rivalry.keep(kept.prediction, bound, now)
    plans = {kept.partitions: kept, new.partitions: new}
    best = min(
        plans.values(),
        key=lambda p: (bound is not None and p.total > bound, value_of(p.prediction, goal)),
    )
    won = [
        rivalry.wins(rival, kept.prediction, plans[rival.partitions].prediction, bound, goal, errors, now)
        for rival in rivalry.rivals(best, kept, now)
    ]
    return any(won)


# --- doubt -----------------------------------------------------------------------------------------------


def test_what_two_plans_have_in_common_cannot_be_wrong_between_them() -> None:
    errors = Errors({"pi": 0.5}, {"pi": 0.1}, down={"pi": 0.1})
    slow_link, fast_link = plan("pi", 1.0, link=0.2), plan("pi", 1.0, link=0.1)

    doubt = doubt_about(
        seconds_by_source(slow_link.prediction), seconds_by_source(fast_link.prediction), errors
    )

    assert doubt == Doubt(pytest.approx(0.1 * 0.1), 0.0)


def test_a_latency_that_nobody_measured_makes_no_large_message_doubtful() -> None:
    partition = Partition(0, 4, "pi", "raw")
    arrival = Crossing(
        0, "app", "pi", "raw", 600_000, 0.0, 0.25, 0.0, 0.0625, 0.0, latency_up=0.001, latency_down=0.002
    )
    prediction = Prediction((Hop(partition, arrival, 0.0, 0.5, 0.0),), None, 0.8125, 0.0)
    errors = Errors({}, {}, latency={"app": 1.4, "pi": 1.4})

    terms = seconds_by_source(prediction)

    assert terms["up", "app"] == pytest.approx(0.249) and terms["down", "pi"] == pytest.approx(0.0605)
    assert doubt_about(terms, {}, errors).measured == pytest.approx(1.4 * math.hypot(0.001, 0.002))


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.0, 10.0)), st.floats(0.01, 1.0))
def test_a_plan_cannot_be_wrong_against_itself(seconds: dict[str, float], error: float) -> None:
    terms = {("run", device): amount for device, amount in seconds.items()}

    assert doubt_about(terms, terms, Errors(dict.fromkeys("abcdef", error), {})) == Doubt(0.0, 0.0)


def test_a_guess_counts_less_against_a_plan_than_scatter_of_the_same_size() -> None:
    scattered, guessed = Gain(1.0, 0.6, Doubt(0.2, 0.0)), Gain(1.0, 0.6, Doubt(0.0, 0.2))

    assert guessed.is_clear and not scattered.is_clear


def test_energy_is_compared_in_joules_and_where_it_is_equal_in_seconds() -> None:
    thrifty, quick = plan("a", 2.0, 1.0).prediction, plan("b", 1.0, 2.0).prediction

    assert gain(quick, thrifty, ENERGY, CERTAIN).relative == pytest.approx(math.log(2.0))
    assert gain(thrifty, quick, ENERGY, CERTAIN).relative == pytest.approx(-math.log(2.0))
    equal = gain(plan("a", 2.0, 1.0).prediction, plan("b", 1.0, 1.0).prediction, ENERGY, CERTAIN)
    assert equal.relative == pytest.approx(math.log(2.0))


# --- clear gains -----------------------------------------------------------------------------------------


def test_a_clear_gain_wins_once_the_plan_in_force_has_stayed_its_least_time() -> None:
    rivalry = Rivalry(since=0.0)

    assert not look(rivalry, plan("a", 1.0), plan("b", 0.5), CLEAR_DWELL / 2)
    assert look(rivalry, plan("a", 1.0), plan("b", 0.5), CLEAR_DWELL)


@pytest.mark.parametrize("share", [0.5 * MARGIN, 0.9 * MARGIN])
def test_a_gain_within_the_margin_never_wins(share: float) -> None:
    rivalry = Rivalry(since=0.0)

    assert not any(look(rivalry, plan("a", 1.0), plan("b", 1.0 - share), at * ROUND) for at in range(1, 500))


def test_a_gain_within_the_errors_of_the_estimates_does_not_win_at_once() -> None:
    doubtful = Errors({"a": 0.1, "b": 0.1}, {})

    assert not look(Rivalry(0.0), plan("a", 1.0), plan("b", 0.75), 10.0, errors=doubtful)
    assert look(Rivalry(0.0), plan("a", 1.0), plan("b", 0.5), 10.0, errors=doubtful)


# --- lasting gains ---------------------------------------------------------------------------------------


def test_a_small_gain_wins_when_it_lasts() -> None:
    rivalry, doubtful = Rivalry(0.0), Errors({"a": 0.05, "b": 0.05}, {})

    won = [look(rivalry, plan("a", 1.0), plan("b", 0.92), at * ROUND, errors=doubtful) for at in range(1, 30)]

    first = (won.index(True) + 1) * ROUND
    assert LASTING_SECONDS <= first <= LASTING_SECONDS + 2 * ROUND


@pytest.mark.parametrize("seed", range(5))
def test_noise_wins_at_most_once_an_hour(seed: int) -> None:
    """Two plans that are equal in truth, with estimates that scatter by 5 %, independently every round."""
    chance, switches, spread = Random(seed), 0, 0.05
    errors = Errors({"a": spread, "b": spread}, {})
    kept, other, rivalry = "a", "b", Rivalry(0.0)
    for step in range(1, int(3600 / ROUND)):
        times = {device: math.exp(chance.gauss(0.0, spread)) for device in "ab"}
        if look(rivalry, plan(kept, times[kept]), plan(other, times[other]), step * ROUND, errors=errors):
            kept, other, rivalry = other, kept, Rivalry(step * ROUND)
            switches += 1

    assert switches <= 1


# --- the latency bound -----------------------------------------------------------------------------------


def test_a_plan_that_breaks_the_bound_gives_way_to_a_dearer_one_that_keeps_it() -> None:
    thrifty, quick = plan("a", 2.0, 1.0), plan("b", 1.0, 3.0)

    assert look(Rivalry(0.0), thrifty, quick, 10.0, goal=ENERGY, bound=1.25)
    assert not look(Rivalry(0.0), thrifty, quick, 10.0, goal=ENERGY, bound=2.0)


def test_a_plan_that_breaks_the_bound_does_not_give_way_to_one_that_breaks_it_less() -> None:
    rivalry, kept, late, good = Rivalry(0.0), plan("a", 3.0, 1.0), plan("b", 2.0, 2.0), plan("c", 1.0, 3.0)
    rivalry.rivals(late, kept, 1.0)

    won = [
        rival.partitions[0].device
        for rival in rivalry.rivals(good, kept, 10.0)
        for new in (late, good)
        if new.partitions == rival.partitions
        and rivalry.wins(rival, kept.prediction, new.prediction, 1.25, ENERGY, CERTAIN, 10.0)
    ]

    assert won == ["c"]


def test_a_plan_a_little_over_the_bound_stays_for_a_while_and_not_for_good() -> None:
    rivalry, doubtful = Rivalry(0.0), Errors({"a": 0.02, "b": 0.02}, {})
    thrifty, quick = plan("a", 1.33, 1.0), plan("b", 1.0, 3.0)

    won = [
        look(rivalry, thrifty, quick, at * ROUND, goal=ENERGY, bound=1.25, errors=doubtful)
        for at in range(1, 30)
    ]

    assert won.index(True) * ROUND >= LASTING_SECONDS / 2


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_at_the_bound_does_not_come_and_go(seed: int) -> None:
    """The thrifty plan's latency is that of the bound, give or take the noise of every round."""
    chance, switches, bound, spread = Random(seed), 0, 1.25, 0.03
    errors = Errors({"a": spread, "b": spread}, {})
    kept, rivalry = "a", Rivalry(0.0)
    for step in range(1, int(3600 / ROUND)):
        noise = {device: math.exp(chance.gauss(0.0, spread)) for device in "ab"}
        plans = {"a": plan("a", bound * noise["a"], noise["a"]), "b": plan("b", noise["b"], 3.0 * noise["b"])}
        other = "b" if kept == "a" else "a"
        if look(rivalry, plans[kept], plans[other], step * ROUND, goal=ENERGY, bound=bound, errors=errors):
            kept, rivalry = other, Rivalry(step * ROUND)
            switches += 1

    assert switches <= 2
