"""Whatever order jobs end in, their submissions are acknowledged in the order of their coming."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.transport.acknowledgements import InOrder


def test_a_slow_one_holds_back_those_after_it_and_only_those() -> None:
    order = InOrder()
    for mid in (1, 2, 3):
        order.came(mid)

    assert order.answered(1) == [1]
    assert order.answered(3) == []
    assert order.answered(2) == [2, 3]


@given(st.permutations(range(1, 12)))
def test_every_message_is_acknowledged_once_in_order(answers: list[int]) -> None:
    order = InOrder()
    for mid in range(1, 12):
        order.came(mid)

    assert [due for mid in answers for due in order.answered(mid)] == list(range(1, 12))


def test_a_lost_connection_owes_nothing() -> None:
    order = InOrder()
    order.came(7)
    order.clear()
    order.came(8)

    assert order.answered(8) == [8]
