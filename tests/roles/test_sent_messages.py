"""Sent messages: what waits behind others, on whichever link, is not taken for a slow link."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.planning.instance import Link
from edgemesh.planning.link_estimate import receiver_share
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.link import LinkReport, Receipt, Transfer
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import Connected, PublishAcknowledged
from edgemesh.roles.meter import Meter
from edgemesh.roles.sent_messages import SentMessages
from tests.roles.build import TOPICS, message
from tests.roles.driven import Driven
from tests.roles.test_meter import report, work

SIZE = 200_000


@settings(max_examples=100, deadline=None)
@given(
    base=st.floats(0.0005, 0.05),
    up=st.floats(2e6, 1e8),
    down=st.floats(3e5, 1e8),
    every=st.floats(0.0, 0.3),
    sizes=st.lists(st.integers(20_000, 800_000), min_size=1, max_size=12),
)
def test_what_waits_in_the_broker_for_the_receivers_link_tells_of_its_own_bytes_only(
    base: float, up: float, down: float, every: float, sizes: list[int]
) -> None:
    """However many messages queue there: each shows the receiver's rate, once its share is taken out."""
    messages, sender = SentMessages(), Link(base / 2.0, up, base / 2.0, down)
    messages.add("base", 64, None, 0.0)
    messages.acknowledged("base", 64 / up + base)
    left = through = 0.0
    happens = []
    for number, nbytes in enumerate(sizes):
        at = 1.0 + number * every
        left = max(left, at) + nbytes / up
        through = max(through, left + base / 2.0) + nbytes / down
        happens += [(at, 0, number), (left + base, 1, number), (through + base, 2, number)]

    for at, what, number in sorted(happens):
        if what == 0:
            messages.add(str(number), sizes[number], "two", at)
        elif what == 1:
            messages.acknowledged(str(number), at)
        else:
            timed = messages.arrived(str(number), at, "two")
            assert timed is not None and not timed.held_up
            share = timed.after_receipt
            if share is None:
                share = receiver_share(timed.nbytes, timed.seconds, sender)
            assert share == pytest.approx(timed.nbytes / down, rel=1e-6, abs=2.0 * base + 65 / up)


@pytest.fixture
def messages() -> SentMessages:
    """Of a connection on which a small message takes 10 ms."""
    known = SentMessages()
    known.add("base", 64, None, 0.0)
    known.acknowledged("base", 0.01)
    return known


def test_an_acknowledgement_right_behind_what_others_send_may_be_late(messages: SentMessages) -> None:
    for name in ("behind", "later"):
        messages.add(name, SIZE, "two", 1.0)
    messages.came_in(SIZE, 2.0)

    behind, later = messages.acknowledged("behind", 2.005), messages.acknowledged("later", 2.1)

    assert behind is not None and behind.held_up
    assert later is not None and not later.held_up


def test_an_echo_behind_what_others_send_took_only_what_came_after_that(messages: SentMessages) -> None:
    messages.add("probe", SIZE, None, 1.0)
    messages.acknowledged("probe", 1.1)
    messages.came_in(SIZE, 3.0)

    echo = messages.arrived("probe", 3.2)

    assert echo is not None and echo.held_up
    assert echo.after_acknowledgement == pytest.approx(0.2)


def test_small_messages_from_others_hold_nothing_up(messages: SentMessages) -> None:
    messages.add("probe", SIZE, None, 1.0)
    messages.came_in(500, 1.5)
    acknowledged, echo = messages.acknowledged("probe", 1.505), messages.arrived("probe", 1.6)
    assert acknowledged is not None and not acknowledged.held_up
    assert echo is not None and not echo.held_up


def test_the_meter_tells_what_queued_messages_took_and_leaves_out_what_was_held_up() -> None:
    driven = Driven(Meter("me", "b-1", TOPICS))
    driven.take(Connected(), at=0.0)
    driven.pass_until(1.25)
    driven.role.watch([work(f"work:j-{number}:0:0", SIZE) for number in range(3)], 1.25)
    for number in range(3):
        driven.take(PublishAcknowledged(f"work:j-{number}:0:0"), at=1.3)
    for number, at in enumerate((1.5, 1.625, 1.75)):
        if number == 2:
            driven.role.came_in(message("work", bytes(SIZE), device="me"), 1.75)
        driven.take(message("receipt", Receipt(f"j-{number}", 0, "two"), requester="me"), at=at)

    told = [transfer for transfer in report(driven, 3.0).transfers if transfer.kind == "received"]

    # The third came right behind a large message to us.
    assert [transfer.after_receipt for transfer in told] == [None, pytest.approx(0.125)]


def test_estimates_keep_a_links_rate_while_jobs_queue_for_it() -> None:
    """A burst of 40 jobs of 200 KB for a link of 5 MB/s: 40 ms each, and not 1.6 s for the last."""
    estimates, rate = MeshEstimates(), 5e6
    estimates.observe_queue("two", 0.0)
    transfers = [Transfer("received", SIZE, 0.005 + SIZE / rate, "two")]
    transfers += [
        Transfer("received", SIZE, 0.005 + (number + 1) * SIZE / rate, "two", SIZE / rate)
        for number in range(1, 40)
    ]
    estimates.learn(message("link", encode_json(LinkReport("b-1", tuple(transfers))), requester="me"), 1.0)
    assert estimates.link("two", 1.0).link.rate_down == pytest.approx(rate, rel=0.2)
