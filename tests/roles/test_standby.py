"""Rules of standing by: a role is taken when nobody holds it, and by one of several."""

from __future__ import annotations

import pytest

from edgemesh.protocol.assignment import Holder
from edgemesh.roles.actions import Log, Subscribe
from edgemesh.roles.events import Connected, Disconnected, PublishAcknowledged
from edgemesh.roles.standby import RoleTaken, Standby
from tests.roles.build import TOPICS, message
from tests.roles.driven import Driven, only

TOPIC = TOPICS.build("gateway", slot="0")
SOUNDING = TOPICS.build("probe", requester="standby-b-1")


def standby(boot: str = "b-1") -> Driven:
    driven = Driven(Standby("gateway 0", TOPIC, boot, SOUNDING))
    driven.take(Connected(), at=0.0)
    driven.take(PublishAcknowledged("standby-sounding"), at=0.001)
    return driven


def holder(state: str, boot: str = "b-9", term: int = 4):  # type: ignore[no-untyped-def]
    return message("gateway", Holder(state, "laptop", boot, term), slot="0")  # type: ignore[arg-type]


def test_a_role_that_nobody_ever_held_is_taken_in_term_one() -> None:
    waiting = standby()
    assert only(Subscribe, waiting.done) == [Subscribe(TOPIC, 1)]
    assert waiting.role.taken is None
    waiting.pass_until(1.0)
    assert waiting.role.taken == RoleTaken(1)


def test_on_a_slow_link_it_waits_until_the_state_of_a_holder_can_have_come() -> None:
    waiting = Driven(Standby("gateway 0", TOPIC, "b-1", SOUNDING))
    waiting.take(Connected(), at=0.0)
    waiting.pass_until(1.9)
    assert waiting.role.taken is None

    waiting.take(holder("online"), at=2.0)
    waiting.take(PublishAcknowledged("standby-sounding"), at=2.0)
    waiting.pass_until(10.0)

    assert waiting.role.taken is None


@pytest.mark.parametrize("payload", [b"", b"{}"])
def test_what_the_policy_memory_beside_it_reads_says_nothing_of_the_holder(payload: bytes) -> None:
    """An empty one is a policy that was taken back."""
    waiting = standby()
    waiting.take(holder("online"), at=0.1)

    actions = waiting.take(message("policy", payload, model="face"), at=1.0)
    waiting.pass_until(10.0)

    assert not actions and waiting.role.taken is None


def test_on_a_slow_link_it_leaves_a_faster_one_the_time_to_be_heard() -> None:
    waiting = Driven(Standby("gateway 0", TOPIC, "b-1", SOUNDING))
    waiting.take(Connected(), at=0.0)
    waiting.take(PublishAcknowledged("standby-sounding"), at=2.0)
    waiting.take(holder("online"), at=2.1)
    waiting.take(holder("offline"), at=5.0)
    waiting.pass_until(8.9)
    waiting.take(holder("online", boot="b-77", term=5), at=8.9)
    waiting.pass_until(20.0)

    assert waiting.role.taken is None


def test_a_broker_that_does_not_acknowledge_keeps_it_waiting_but_not_for_ever() -> None:
    waiting = Driven(Standby("gateway 0", TOPIC, "b-1", SOUNDING))
    waiting.take(Connected(), at=0.0)
    waiting.pass_until(9.9)
    assert waiting.role.taken is None
    waiting.pass_until(10.1)
    assert waiting.role.taken == RoleTaken(1)


def test_while_a_holder_repeats_its_state_it_is_left_alone() -> None:
    waiting = standby()
    for step in range(100):
        waiting.take(holder("online"), at=0.1 + 5.0 * step)
    assert waiting.role.taken is None and len(only(Log, waiting.done)) == 1


def test_a_holder_that_goes_is_followed_in_a_higher_term_in_half_a_second() -> None:
    for word in ("offline", "stopped"):
        waiting = standby()
        waiting.take(holder("online"), at=0.1)
        waiting.take(holder(word), at=3.0)
        waiting.pass_until(3.5)
        assert waiting.role.taken == RoleTaken(5)


def test_a_term_that_nobody_can_rise_above_is_not_believed() -> None:
    waiting = standby()
    waiting.take(holder("online", term=(1 << 53) - 1), at=0.1)
    waiting.take(holder("offline", term=4), at=3.0)
    waiting.pass_until(3.5)
    assert waiting.role.taken == RoleTaken(5)


def test_of_two_standbys_the_slower_hears_of_the_faster() -> None:
    one, two = standby("b-1"), standby("b-2")
    for waiting in (one, two):
        waiting.take(holder("online"), at=0.1)
        waiting.take(holder("offline"), at=3.0)
    faster, slower = sorted((one, two), key=lambda waiting: waiting.timers["standby"])
    gap = slower.timers["standby"] - faster.timers["standby"]
    assert gap > 0.02
    faster.pass_until(faster.timers["standby"])
    slower.take(holder("online", boot="b-77", term=5), at=faster.now + gap / 2)
    slower.pass_until(10.0)
    assert faster.role.taken is not None and slower.role.taken is None


def test_a_state_that_is_not_repeated_is_a_dead_holders() -> None:
    waiting = standby()
    waiting.take(holder("online"), at=0.1)
    waiting.pass_until(15.0)
    assert waiting.role.taken is None
    waiting.pass_until(17.0)
    assert waiting.role.taken == RoleTaken(5)


def test_its_own_state_of_before_does_not_keep_it_waiting() -> None:
    waiting = standby("b-1")
    waiting.take(holder("online", boot="b-1", term=7), at=0.1)
    waiting.pass_until(0.6)
    assert waiting.role.taken == RoleTaken(8)


def test_silence_while_the_broker_is_away_is_no_reason_to_take_a_role() -> None:
    waiting = standby()
    waiting.take(holder("online"), at=0.1)
    waiting.take(Disconnected(), at=1.0)
    waiting.pass_until(300.0)
    assert waiting.role.taken is None
    waiting.take(Connected(), at=300.0)
    waiting.take(holder("online"), at=300.1)
    waiting.pass_until(310.0)
    assert waiting.role.taken is None


def test_garbage_and_a_cleared_state_do_not_stop_it() -> None:
    for payload in (b"{", b"", b"\xff"):
        waiting = standby()
        waiting.take(message("gateway", payload, slot="0"), at=0.1)
        waiting.pass_until(1.0)
        assert waiting.role.taken == RoleTaken(1)
