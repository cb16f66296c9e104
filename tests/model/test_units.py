"""Where unit borders lie."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.model.units import unit_borders

Case = tuple[list[int], list[int], list[bool]]


@st.composite
def chains(draw: st.DrawFn, most: int = 40) -> Case:
    count = draw(st.integers(1, most))
    sizes = draw(st.lists(st.integers(0, 9), min_size=count + 1, max_size=count + 1))
    macs = draw(st.lists(st.sampled_from([0, 0, 1, 700, 1000]), min_size=count, max_size=count))
    allowed = draw(st.lists(st.booleans(), min_size=count + 1, max_size=count + 1))
    return sizes, macs, allowed


def _position_and_window(macs: list[int]) -> tuple[list[int], int]:
    position = list(accumulate(macs if any(macs) else [1] * len(macs), initial=0))
    return position, position[-1] // 1000


@given(chains(), st.integers(1, 200))
def test_borders_increase_from_the_first_operator_to_the_last_within_the_limit(
    case: Case, limit: int
) -> None:
    sizes, macs, allowed = case

    borders = unit_borders(sizes, macs, allowed, limit)

    assert borders[0] == 0 and borders[-1] == len(macs)
    assert all(a < b for a, b in pairwise(borders))
    assert len(borders) - 1 <= limit
    assert all(allowed[cut] for cut in borders[1:-1])


@given(chains())
def test_a_cut_left_out_has_a_border_that_is_no_larger_with_no_notable_compute_between(case: Case) -> None:
    sizes, macs, allowed = case
    position, window = _position_and_window(macs)

    borders = unit_borders(sizes, macs, allowed)

    for cut in set(range(1, len(macs))) - set(borders):
        assert not allowed[cut] or any(
            sizes[border] <= sizes[cut] and abs(position[border] - position[cut]) <= window
            for border in borders
        )


@given(chains())
def test_no_border_is_made_useless_by_another_one(case: Case) -> None:
    sizes, macs, allowed = case
    position, window = _position_and_window(macs)

    borders = unit_borders(sizes, macs, allowed)

    for border in borders[1:-1]:
        assert not any(
            other != border
            and sizes[other] <= sizes[border]
            and abs(position[other] - position[border]) <= window
            for other in borders
        )


@given(chains())
def test_a_cut_smaller_than_all_others_in_its_window_is_a_border(case: Case) -> None:
    sizes, macs, allowed = case
    position, window = _position_and_window(macs)

    borders = unit_borders(sizes, macs, allowed)

    for cut in range(1, len(macs)):
        rivals = [
            other
            for other in range(len(macs) + 1)
            if other != cut
            and abs(position[other] - position[cut]) <= window
            and (allowed[other] or other in (0, len(macs)))
        ]
        if allowed[cut] and all(sizes[cut] < sizes[other] for other in rivals):
            assert cut in borders


def test_convolution_bias_and_activation_are_one_unit() -> None:
    sizes = [300, 100, 100, 100, 50, 50, 20]
    macs = [1000, 0, 0, 1000, 0, 500]

    borders = unit_borders(sizes, macs, [True] * 7)

    assert borders == [0, 3, 5, 6]


def test_a_long_model_keeps_its_narrow_places_within_the_limit() -> None:
    sizes = [10] + [100 + i % 7 for i in range(1, 1000)] + [10]
    sizes[333], sizes[700] = 3, 4

    borders = unit_borders(sizes, [5] * 1000, [True] * 1001)

    assert len(borders) - 1 <= 200
    assert {333, 700} <= set(borders)


def test_operators_without_known_compute_are_told_apart_by_their_number() -> None:
    borders = unit_borders([9, 5, 5, 5, 9], [0, 0, 0, 0], [True] * 5)

    assert borders == [0, 1, 2, 3, 4]


def test_a_single_unit_can_be_asked_for() -> None:
    assert unit_borders([9, 1, 9], [1, 1], [True] * 3, limit=1) == [0, 2]
