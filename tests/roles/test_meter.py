"""Meter: transfers on the sender's own clock, runs, jobs, and probes that cost next to nothing."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.planning.level import FRESH_AGE
from edgemesh.protocol.activation import Timing
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import JobReport, LinkReport, Receipt
from edgemesh.protocol.presence import State
from edgemesh.roles.actions import Action, JobEnded, Publish
from edgemesh.roles.events import Connected, MessageReceived, PublishAcknowledged
from edgemesh.roles.job_reports import LISTED
from edgemesh.roles.link_probe import PATIENCE_SECONDS, PROBE_BYTES
from edgemesh.roles.meter import Meter
from edgemesh.roles.sent_messages import SentMessages
from tests.roles.build import DIGEST, TOPICS, message
from tests.roles.driven import Driven, sent


class DrivenMeter(Driven):
    """Shows the meter what it sends itself, as a device does."""

    def _note(self, actions: list[Action]) -> None:
        super()._note(actions)
        self.role.watch(actions, self.now)

    def run(self, seconds: float, at: float) -> list[Action]:
        """Units that ran until ``at``, and what the meter does before and then."""
        before = self.pass_until(at)
        actions: list[Action] = self.role.ran(DIGEST, 0, 2, seconds, at)
        self._note(actions)
        return [*before, *actions]


def meter() -> DrivenMeter:
    driven = DrivenMeter(Meter("me", "b-1", TOPICS))
    driven.take(Connected(), at=0.0)
    return driven


def work(token: str | None = "work:j-1:0:0", nbytes: int = 5000, device: str = "two") -> Publish:
    return Publish(TOPICS.build("work", device=device), bytes(nbytes), qos=1, token=token)


def reports(driven: Driven, until: float) -> list[LinkReport]:
    return [decode_json(LinkReport, p.payload) for p in sent("link", driven.pass_until(until))]


def report(driven: Driven, until: float) -> LinkReport:
    (published,) = reports(driven, until)
    return published


# --- transfers -------------------------------------------------------------------------------------------


def test_times_a_message_to_its_acknowledgement_and_to_its_receipt() -> None:
    driven = meter()
    driven.pass_until(1.25)
    driven.role.watch([work(), work(token=None)], 1.25)
    driven.take(PublishAcknowledged("work:j-1:0:0"), at=1.375)
    driven.take(message("receipt", Receipt("j-1", 0, "two"), requester="me"), at=1.75)
    acknowledged, received = report(driven, 3.0).transfers
    assert (acknowledged.kind, acknowledged.nbytes, acknowledged.peer) == ("acknowledged", 5000, None)
    assert (received.kind, received.nbytes, received.peer) == ("received", 5000, "two")
    assert acknowledged.seconds == pytest.approx(0.125) and received.seconds == pytest.approx(0.5)


def test_a_message_that_nobody_receipts_is_timed_to_its_acknowledgement() -> None:
    driven = meter()
    driven.role.watch([work("sent:j-1:0:0")], 1.0)
    driven.take(PublishAcknowledged("sent:j-1:0:0"), at=1.5)
    (acknowledged,) = report(driven, 3.0).transfers
    assert (acknowledged.kind, acknowledged.seconds) == ("acknowledged", pytest.approx(0.5))
    assert driven.role._sent.tokens("sent:") == []


def test_a_receipt_of_another_device_or_attempt_tells_nothing() -> None:
    driven = meter()
    driven.role.watch([work()], 1.0)
    for receipt in (Receipt("j-1", 0, "three"), Receipt("j-1", 1, "two"), Receipt("j-2", 0, "two")):
        driven.take(message("receipt", receipt, requester="me"), at=1.5)
    driven.take(message("receipt", b"{", requester="me"), at=1.5)
    assert reports(driven, 5.0) == []


@settings(max_examples=60, deadline=None)
@given(
    latency=st.floats(0.0005, 0.2),
    rate=st.floats(2e5, 1e8),
    every=st.floats(0.0, 0.3),
    sizes=st.lists(st.integers(20_000, 800_000), min_size=1, max_size=12),
)
def test_waiting_for_earlier_messages_is_not_taken_for_a_slow_link(
    latency: float, rate: float, every: float, sizes: list[int]
) -> None:
    """However many messages queue: each takes the link's latency and its own bytes."""
    messages = SentMessages()
    messages.add("base", 64, None, 0.0)
    messages.acknowledged("base", 64 / rate + latency)
    free, arrivals = 0.0, []
    for number, nbytes in enumerate(sizes):
        handed_over = 1.0 + number * every
        free = max(free, handed_over) + nbytes / rate
        arrivals.append((handed_over, 0, number, nbytes))
        arrivals.append((free + latency, 1, number, nbytes))

    for at, arrived, number, nbytes in sorted(arrivals):
        if not arrived:
            messages.add(str(number), nbytes, None, at)
            continue
        timed = messages.acknowledged(str(number), at)
        assert timed is not None
        assert timed.seconds == pytest.approx(latency + nbytes / rate, rel=1e-6, abs=65 / rate)


def test_a_small_message_behind_a_large_one_is_no_sample_of_the_latency() -> None:
    """The broker's echo comes before its acknowledgement, and both after the message ahead is through."""
    driven = meter()
    small, large = sorted(sent("probe", driven.pass_until(0.5)), key=lambda probe: len(probe.payload))
    for probe, at in ((small, 0.51), (large, 0.55)):
        driven.take(PublishAcknowledged(probe.token or ""), at=at)
        driven.take(message("probe", probe.payload, requester="me"), at=at)
    reports(driven, 2.5)
    driven.role.watch([work("sent:j-1:0:0", 600_000), work("sent:j-2:0:0", 64)], 3.0)

    driven.take(PublishAcknowledged("sent:j-1:0:0"), at=3.75)
    driven.take(PublishAcknowledged("sent:j-2:0:0"), at=3.75)

    (told,) = report(driven, 5.0).transfers
    assert (told.nbytes, told.seconds) == (600_000, pytest.approx(0.75))


def test_an_echo_that_comes_before_its_acknowledgement_has_waited_all_the_same() -> None:
    messages = SentMessages()
    messages.add("large", 600_000, None, 0.0)
    messages.add("probe", 65_536, None, 0.25)
    messages.acknowledged("large", 1.0)

    timed = messages.arrived("probe", 1.125)

    assert timed is not None and not timed.alone
    assert timed.seconds == pytest.approx(0.125) and timed.waited == pytest.approx(0.75)


def test_what_is_never_acknowledged_does_not_pile_up() -> None:
    driven = meter()
    for number in range(10_000):
        driven.role.watch([work(f"work:j-{number}:0:0")], 1.0)
        driven.role._acknowledged(f"work:j-{number}:0:0", 1.1)
        driven.role.ran(f"{number:064x}", 0, 2, 0.1, 1.1)
        driven.role.ended(JobEnded(f"j-{number}", "face", 0.1, digest=DIGEST))
    driven.pass_until(3600.0)
    assert len(driven.role._sent) <= 64 and len(driven.role._usual) <= 256


# --- probes ----------------------------------------------------------------------------------------------


def probes_until(driven: DrivenMeter, end: float, took: float) -> list[Publish]:
    """Probes sent until ``end``; one of 64 KiB comes back after ``took``, a smaller one as much sooner."""
    begun = answered = len(driven.done)
    while driven.now < end:
        driven.pass_until(min(end, *driven.timers.values()))
        new = sent("probe", driven.done[answered:])
        answered = len(driven.done)
        began = driven.now
        for probe in new:
            back = began + took * len(probe.payload) / max(PROBE_BYTES)
            driven.take(message("probe", probe.payload, requester="me"), at=back)
    return sent("probe", driven.done[begun:])


def test_a_link_is_probed_three_times_at_first_often_for_a_minute_and_rarely_afterwards() -> None:
    driven = meter()
    first = probes_until(driven, 4.0, took=0.02)
    assert len(first) == 3 * len(PROBE_BYTES)
    assert {len(probe.payload) for probe in first} == set(PROBE_BYTES)
    assert 8 <= len(probes_until(driven, 60.0, took=0.02)) / len(PROBE_BYTES) <= 11
    assert 56 <= len(probes_until(driven, 660.0, took=0.02)) / len(PROBE_BYTES) <= 62


@pytest.mark.parametrize("seed", range(3))
def test_probes_take_less_than_a_hundredth_of_a_slow_and_fitful_links_time(seed: int) -> None:
    driven, random, spent = meter(), Random(seed), 0.0
    while driven.now < 3600.0:
        took = random.choice((0.6, 0.6, 0.7, 4.0))
        probes = probes_until(driven, driven.now + 5.0, took)
        spent += sum(took * len(probe.payload) / max(PROBE_BYTES) for probe in probes)

    # Beside the three to begin with, and what a change that seemed to be one is worth.
    assert spent <= 0.01 * 3600.0 + 3 * 4.0


def test_a_link_that_changes_is_probed_until_the_change_is_clear() -> None:
    driven = meter()
    probes_until(driven, 300.0, took=0.02)

    # Ten seconds until the change can be seen at all, three until it is certain.
    after = probes_until(driven, 314.0, took=0.2)
    calm = probes_until(driven, 316.0, took=0.2)

    assert 3 <= len(after) / len(PROBE_BYTES) <= 5
    assert driven.role._probe._level.steps == 1 and calm == []


def test_a_job_whose_message_is_slow_calls_for_a_probe_at_once() -> None:
    driven = meter()
    probes_until(driven, 300.0, took=0.02)
    for number in range(8):
        driven.role.watch([work(f"sent:j-{number}:0:0", 65_536)], driven.now)
        driven.take(PublishAcknowledged(f"sent:j-{number}:0:0"), at=driven.now + 0.01)
    probes_until(driven, 320.0, took=0.02)
    idle = len(probes_until(driven, 322.0, took=0.02))

    driven.role.watch([work("sent:slow:0:0", 65_536)], driven.now)
    driven.take(PublishAcknowledged("sent:slow:0:0"), at=driven.now + 0.1)

    assert idle == 0
    assert len(probes_until(driven, driven.now + 1.0, took=0.02)) >= len(PROBE_BYTES)


def test_a_probe_that_comes_back_tells_both_ways() -> None:
    driven = meter()
    probe = next(p for p in sent("probe", driven.pass_until(0.5)) if len(p.payload) == 65_536)
    assert probe.token is not None
    driven.take(PublishAcknowledged(probe.token), at=0.6)
    driven.take(message("probe", probe.payload, requester="me"), at=0.7)
    told = {t.kind: t.seconds for t in report(driven, 1.5).transfers}
    assert told == {
        "acknowledged": pytest.approx(0.4),
        "echoed": pytest.approx(0.5),
        "tail": pytest.approx(0.1),
    }


def test_a_probe_waits_a_little_for_a_free_link_and_not_for_ever() -> None:
    driven = meter()
    probes_until(driven, 4.0, took=0.02)
    due = driven.role._probe.next_at
    driven.role.watch([work("sent:j-1:0:0", 600_000)], due - 0.5)

    waited = sent("probe", driven.pass_until(due + 1.0))
    freed = sent("probe", driven.take(PublishAcknowledged("sent:j-1:0:0"), at=due + 1.0))

    assert waited == [] and len(freed) == len(PROBE_BYTES)
    for probe in freed:
        driven.take(message("probe", probe.payload, requester="me"), at=driven.now + 0.02)
    due = driven.role._probe.next_at
    driven.role.watch([work("sent:j-2:0:0", 600_000)], due - 0.5)
    assert sent("probe", driven.pass_until(due + PATIENCE_SECONDS + 1.5)) != []


# --- a new decision node ---------------------------------------------------------------------------------


def leader(boot: str, state: State = "online") -> MessageReceived:
    return message("decision", Holder(state, "host", boot, 1), retained=True)


def told_to(driven: Driven, event: MessageReceived, at: float) -> list[LinkReport]:
    """Reports that come at once on ``event``."""
    return [decode_json(LinkReport, p.payload) for p in sent("link", driven.take(event, at))]


def transfer(driven: DrivenMeter, number: int, seconds: float, at: float) -> None:
    """One of 64 KiB that begins at ``at``."""
    driven.pass_until(at)
    driven.role.watch([work(f"sent:j-{number}:0:0", 65_536)], at)
    driven.take(PublishAcknowledged(f"sent:j-{number}:0:0"), at=at + seconds)


def test_a_new_decision_node_is_told_what_the_one_before_has_heard() -> None:
    driven = meter()
    driven.take(leader("first"), at=0.0)
    transfer(driven, 1, 0.25, at=1.0)
    driven.run(0.125, at=1.5)
    before = reports(driven, 4.0)

    (again,) = told_to(driven, leader("second"), at=4.0)

    assert again.transfers == before[0].transfers != ()
    assert again.jobs == () and again.runs == ()  # what is counted is not counted twice
    assert told_to(driven, leader("second"), at=4.5) == []
    assert reports(driven, 6.0) == []


def test_only_what_is_as_good_as_new_is_told_again() -> None:
    driven = meter()
    driven.take(leader("first"), at=0.0)
    transfer(driven, 1, 0.25, at=1.0)
    transfer(driven, 2, 0.125, at=2.0 + FRESH_AGE)

    (again,) = told_to(driven, leader("second"), at=3.0 + FRESH_AGE)

    assert [told.seconds for told in again.transfers] == [pytest.approx(0.125)]


def test_what_a_link_was_before_it_changed_is_not_told_again() -> None:
    driven = meter()
    driven.take(leader("first"), at=0.0)
    for number in range(12):
        transfer(driven, number, 0.5 if number < 6 else 0.1, at=1.0 + number)

    (again,) = told_to(driven, leader("second"), at=14.0)

    told = [t.seconds for t in again.transfers]
    assert told == pytest.approx([0.1] * len(told)) and len(told) >= 3


@pytest.mark.parametrize("event", [leader("second", "offline"), message("decision", b"{")])
def test_nobody_is_told_where_nobody_decides(event: MessageReceived) -> None:
    driven = meter()
    driven.take(leader("first"), at=0.0)
    transfer(driven, 1, 0.25, at=1.0)
    driven.pass_until(3.0)

    assert told_to(driven, event, at=3.0) == []


def test_a_foreign_probe_on_its_topic_is_ignored() -> None:
    driven = meter()
    driven.pass_until(0.5)
    for payload in (b"", b"probe:99:64", b"\xff" * 100, b"work:j-1:0:0"):
        assert driven.take(message("probe", payload, requester="me"), at=0.6) == []


# --- runs and jobs ---------------------------------------------------------------------------------------


def test_runs_are_reported_once_a_second() -> None:
    driven = meter()
    driven.run(0.125, at=0.1)
    told = report(driven, 1.0)
    assert [(run.start, run.stop, run.seconds, run.probe) for run in told.runs] == [(0, 2, 0.125, False)]
    assert reports(driven, 9.0) == []


def test_runs_that_are_not_as_usual_are_reported_at_once_but_not_each_for_itself() -> None:
    driven = meter()
    for number in range(20):
        driven.run(0.1, at=1.0 + number)
    driven.pass_until(30.0)

    began, at = 30.4, []
    for number in range(20):
        actions = driven.run(0.3, at=began + 0.05 * number)
        at += [driven.now] * len(sent("link", actions))
    at += [driven.now] * len(sent("link", driven.pass_until(began + 0.05 * 20)))

    assert 2 <= len(at) <= 7
    assert at[0] - began <= 0.1


def test_jobs_are_reported_with_what_their_requester_saw() -> None:
    driven = meter()
    timings = (Timing("two", 0, 4, 0.0, 0.125, 0.0),)
    driven.role.watch([work()], 0.5)
    driven.take(message("receipt", Receipt("j-1", 0, "two"), requester="me"), at=0.625)
    ended = JobEnded("j-1", "face", 0.5, timings=timings, digest=DIGEST, epoch=(2, 7))
    driven.role.ended(ended)

    told = report(driven, 2.0)

    assert told.jobs == (JobReport("face", DIGEST, "app", 2, 7, 0.5, 1, timings, pytest.approx(0.125)),)
    assert told.jobs[0].transfer == pytest.approx(0.375)


def test_of_many_jobs_some_are_listed_and_all_are_counted() -> None:
    driven = meter()
    for number in range(100):
        driven.role.ended(JobEnded(f"j-{number}", "face", 0.5, digest=DIGEST))
    driven.role.ended(JobEnded("never-sent", "face", 0.5, "no-route", "nobody"))

    told = report(driven, 1.5)

    assert (len(told.jobs), told.more_jobs) == (LISTED, 101 - LISTED)
