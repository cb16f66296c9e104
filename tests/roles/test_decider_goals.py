"""Rules of the decision node beyond latency: energy, limits, zones, accuracy, shared devices, failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.accuracy import AccuracyBudget, CodecErrors
from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment, PlanFailure
from edgemesh.protocol.history import HistoryRequest
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.link import JobReport, LinkReport
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.presence import PowerFigures, Resources
from edgemesh.protocol.requests import Pin, PlanRequest, Policy, Price, Zone
from edgemesh.protocol.what_if import (
    ExplainRequest,
    ExplainResponse,
    FrontRequest,
    FrontResponse,
    WhatIfRequest,
    WhatIfResponse,
)
from edgemesh.roles.actions import Action, AnswerHistory, Log, Remember
from edgemesh.roles.decider import Decider
from edgemesh.roles.events import Connected, MessageReceived
from tests.roles.build import DIGEST, FACE, TOPICS, about, heartbeat, manifest, message, profile, state
from tests.roles.driven import only, sent
from tests.roles.test_decider import DrivenDecider, beat, devices, join, plans


@pytest.fixture
def decider() -> Iterator[DrivenDecider]:
    """A decision node connected at 0.0, whose clock began at Unix time 1000."""
    driven = DrivenDecider(Decider("laptop", "b-9", 3, TOPICS, unix_time=lambda now: 1000.0 + now))
    driven.take(Connected(), at=0.0)
    driven.take(manifest(), at=0.1)
    yield driven
    driven.check()


def resources(device: str, idle: float | None = None, busy: float = 0.0, **fields: Any) -> MessageReceived:
    power = None if idle is None else PowerFigures(idle, busy, fields.pop("radio", 0.0), "board test")
    return message("resources", Resources(0.1, 1 << 30, 1 << 29, power=power, **fields), device=device)


def policy(**fields: Any) -> MessageReceived:
    return message("policy", Policy(**fields), model="face")


def failures(actions: list[Action]) -> list[PlanFailure | None]:
    """Failures published; None for one taken back."""
    return [decode_json(PlanFailure, a.payload) if a.payload else None for a in sent("failure", actions)]


def remembered(actions: list[Action]) -> list[str]:
    return [action.record.kind for action in only(Remember, actions)]


# --- energy ----------------------------------------------------------------------------------------------


def test_takes_the_thrifty_device_within_the_bound_and_the_fast_one_where_it_would_break_it(
    decider: DrivenDecider,
) -> None:
    join(decider, "fast", 0.010)
    join(decider, "thrifty", 0.012)
    decider.take(resources("fast", 10.0, 60.0))
    decider.take(resources("thrifty", 2.0, 5.0))
    (plan,) = plans(beat(decider, 2.0, "fast", "thrifty"))
    assert devices(plan) == ["thrifty"] and plan.objective == "bounded-energy"
    assert plan.bound is not None and plan.seconds <= plan.bound
    assert plan.joules == pytest.approx(3.0 * 4 * 0.012, rel=0.05)
    assert sum(hop.joules for hop in plan.hops) == pytest.approx(plan.joules, rel=0.01)
    assert [(w.device, w.busy, w.source) for w in plan.watts] == [("thrifty", 3.0, "board test")]

    decider.take(policy(bound_factor=1.05))
    (plan,) = plans(beat(decider, 6.0, "fast", "thrifty"))
    assert devices(plan) == ["fast"] and plan.reason == "the policy changed"

    decider.take(policy(objective="energy"))
    (plan,) = plans(beat(decider, 10.0, "fast", "thrifty"))
    assert devices(plan) == ["thrifty"] and plan.bound is None


def test_without_any_watts_the_fastest_plan_is_taken_and_the_reader_is_told(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.010)
    join(decider, "slow", 0.012)
    (plan,) = plans(beat(decider, 2.0))
    assert devices(plan) == ["fast"] and plan.joules is None
    assert "no device tells its watts" in plan.notes[0]


def test_a_device_of_unknown_watts_counts_with_the_median_of_the_others(decider: DrivenDecider) -> None:
    for name, seconds, watts in (("a", 0.010, 50.0), ("b", 0.010, 40.0), ("silent", 0.0105, None)):
        join(decider, name, seconds)
        if watts is not None:
            decider.take(resources(name, 0.0, watts))
    (plan,) = plans(beat(decider, 2.0, "a", "b", "silent"))
    # With 0 W it would win.
    assert devices(plan) == ["b"]
    assert any("silent" in note and "median" in note for note in plan.notes)


def test_absurd_watts_are_not_believed(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.010)
    join(decider, "slow", 0.011)
    decider.take(resources("fast", 3.0, 10_000.0))
    decider.take(resources("slow", 3.0, 9.0))
    (plan,) = plans(beat(decider, 2.0))
    assert devices(plan) == ["fast"]
    assert any("10000 W" in note for note in plan.notes)


def test_a_joule_from_a_battery_counts_more(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.010)
    join(decider, "slow", 0.0105)
    decider.take(resources("fast", 1.0, 5.0, on_battery=True, battery=0.9))
    decider.take(resources("slow", 1.0, 6.0, on_battery=False))
    (plan,) = plans(beat(decider, 2.0))
    # 0.16 J against 0.21 J: the battery's count twice. What is told are joules as they are.
    assert devices(plan) == ["slow"]
    assert plan.joules == pytest.approx(5.0 * 4 * 0.0105, rel=0.05)


def test_money_is_saved_within_the_bound(decider: DrivenDecider) -> None:
    join(decider, "cloud", 0.010)
    join(decider, "slow", 0.012)
    decider.take(policy(objective="money", prices=(Price("cloud", per_second=0.001),)))
    (plan,) = plans(beat(decider, 3.0, "cloud", "slow"))
    assert devices(plan) == ["slow"] and plan.money == 0.0


# --- limits ----------------------------------------------------------------------------------------------


def test_a_battery_below_the_floor_gets_no_work_until_it_is_well_above_it(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    decider.take(policy(battery_floor=0.2))
    decider.take(resources("fast", battery=0.25, on_battery=True))
    assert devices(plans(beat(decider, 4.0))[-1]) == ["fast"]

    decider.take(resources("fast", battery=0.12, on_battery=True))
    (plan,) = plans(beat(decider, 8.0))
    assert devices(plan) == ["slow"]
    assert "battery at 12%, below the floor of 20%" in plan.reason and plan.at_once
    assert any(idle.device == "fast" and "12%" in idle.reason for idle in plan.idle)

    decider.take(resources("fast", battery=0.21, on_battery=True))
    assert plans(beat(decider, 20.0)) == []
    decider.take(resources("fast", battery=0.21, on_battery=False))
    back = plans(beat(decider, 30.0))[-1]
    assert devices(back) == ["fast"] and not back.at_once


def test_a_hot_device_gets_no_work_until_it_has_cooled_down(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    decider.take(policy(max_temperature=80.0))
    decider.take(resources("fast", temperature=81.0))
    assert devices(plans(beat(decider, 4.0))[-1]) == ["slow"]
    decider.take(resources("fast", temperature=79.0))
    assert plans(beat(decider, 10.0)) == []
    decider.take(resources("fast", temperature=74.0))
    assert devices(plans(beat(decider, 20.0))[-1]) == ["fast"]


# --- zones and pins --------------------------------------------------------------------------------------


def test_units_pinned_to_a_zone_run_on_its_devices_only(decider: DrivenDecider) -> None:
    for name, seconds in (("cloud", 0.001), ("pi", 0.05), ("laptop", 0.02)):
        join(decider, name, seconds)
    home = Zone("home", ("pi", "laptop"))
    decider.take(policy(zones=(home,), pins=(Pin(0, 4, zone="home"),)))
    assert devices(plans(beat(decider, 4.0, "cloud", "pi", "laptop"))[-1]) == ["laptop"]
    decider.take(policy(zones=(home,), pins=(Pin(0, 4, zone="home"), Pin(0, 4, "laptop", never=True))))
    assert devices(plans(beat(decider, 8.0, "cloud", "pi", "laptop"))[-1]) == ["pi"]


def test_a_pin_may_name_several_devices(decider: DrivenDecider) -> None:
    for name, seconds in (("cloud", 0.001), ("pi", 0.05), ("laptop", 0.02)):
        join(decider, name, seconds)
    decider.take(policy(pins=(Pin(0, 4, "pi", ("laptop", "unheard-of")),)))
    assert devices(plans(beat(decider, 4.0, "cloud", "pi", "laptop"))[-1]) == ["laptop"]


def test_a_pin_to_a_zone_without_devices_is_named_and_the_last_plan_stays(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    beat(decider, 4.0, "fast")
    decider.take(policy(pins=(Pin(0, 1, zone="home"),)))
    done = beat(decider, 10.0, "fast")
    assert plans(done) == []
    (failure,) = failures(done)
    assert failure is not None and failure.kind == "pinned" and "zone home" in failure.reason

    decider.take(policy(pins=(Pin(0, 1, "fast"),)))
    done = beat(decider, 14.0, "fast")
    assert len(plans(done)) == 1 and failures(done) == [None]


def test_contradictory_pins_are_named(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    decider.take(policy(pins=(Pin(0, 2, "fast"), Pin(1, 3, "slow"))))
    (failure,) = failures(beat(decider, 8.0))
    assert failure is not None and failure.kind == "pinned"
    assert "unit 1" in failure.reason


# --- accuracy --------------------------------------------------------------------------------------------


def measured(error: float) -> MessageReceived:
    """The model again, with float tensors at its cuts and q8 measured at each of them."""
    cuts = FACE.unit_count + 1
    figures = CodecErrors("q8", (error,) * cuts, (error,) * cuts, (1.0,) * cuts, 8)
    floats = tuple(tuple(replace(t, dtype="float32") for t in boundary) for boundary in FACE.boundaries)
    known = replace(FACE, boundaries=floats, codec_errors=(figures,))
    return message("model", known, model="face", retained=True)


def crossing(decider: DrivenDecider) -> list[Action]:
    """A model that has to cross from one device to another and back twice, over slow links."""
    join(decider, "one", 0.01)
    join(decider, "two", 0.01)
    pins = (Pin(0, 1, "one"), Pin(1, 2, "two"), Pin(2, 3, "one"), Pin(3, 4, "two"))
    decider.take(policy(codecs=("raw", "q8"), pins=pins, accuracy=AccuracyBudget(0.01)))
    return beat(decider, decider.now + 4.0, "one", "two")


def test_a_lossy_codec_that_nobody_measured_is_not_used(decider: DrivenDecider) -> None:
    plan = plans(crossing(decider))[-1]
    assert {hop.codec for hop in plan.route} == {"raw"}


@pytest.mark.parametrize(("error", "lossy"), [(0.003, 3), (0.006, 0), (0.02, 0)])
def test_errors_of_several_cuts_add_up_within_the_budget(
    decider: DrivenDecider, error: float, lossy: int
) -> None:
    decider.take(measured(error))
    plan = plans(crossing(decider))[-1]
    used = [hop.codec for hop in plan.route].count("q8")
    assert used == lossy and used * error <= 0.01


# --- shared devices --------------------------------------------------------------------------------------


def other_model() -> Any:
    return replace(FACE, name="other", digest="e" * 64)


def join_other(decider: DrivenDecider, device: str, seconds: float, memory: int) -> None:
    """``device`` holds and has measured both models."""
    other = other_model()
    told = about(device, DIGEST, other.digest)
    plain = bytes(told.payload).replace(b"1073741824", str(memory).encode())
    decider.take(MessageReceived(told.topic, plain, True))
    measured_profile = profile(device, *[seconds] * 4)
    payload = bytes(measured_profile.payload).replace(DIGEST.encode(), other.digest.encode())
    topic = TOPICS.parse(TOPICS.build("profile", device=device, model="other"))
    decider.take(MessageReceived(topic, payload, True))


def test_memory_that_another_model_takes_is_not_there(decider: DrivenDecider) -> None:
    need = sum(u.weight_bytes for u in FACE.units) + max(u.peak_bytes for u in FACE.units)
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    join_other(decider, "fast", 0.01, int(1.5 * need))
    join_other(decider, "slow", 0.05, 10 * need)
    beat(decider, 2.0)
    decider.take(message("model", other_model(), model="other", retained=True))
    (plan,) = plans(beat(decider, 8.0))
    assert plan.model == "other" and "slow" in devices(plan)


def ended(model: str, origin: str, epoch: tuple[int, int], seconds: float, device: str) -> JobReport:
    timing = Timing(device, 0, 4, 0.0, seconds * 0.9, 0.0)
    return JobReport(model, DIGEST, origin, *epoch, seconds, timings=(timing,))


def test_jobs_of_others_on_a_device_count_as_waiting(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.020)
    join(decider, "other", 0.025)
    (plan,) = plans(beat(decider, 2.0, "fast", "other"))
    assert devices(plan) == ["fast"]
    for _ in range(20):
        jobs = tuple(ended("face", "app", plan.epoch, 0.085, "fast") for _ in range(8))
        report = LinkReport("b-1", (), (), jobs)
        decider.take(message("link", report, requester="gateway-0"))
        beat(decider, decider.now + 1.0, "fast", "other")
    decider.take(message("request", PlanRequest("asker", "face", "fast"), verb="plan"))
    own = [p for p in plans(beat(decider, decider.now + 4.0, "fast", "other")) if p.origin == "fast"]
    assert devices(own[0]) == ["other"]


def test_too_many_plans_for_a_joint_planning_are_planned_singly_and_their_readers_told(
    decider: DrivenDecider, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(decider, "fast", 0.020)
    join(decider, "other", 0.025)
    decider.take(message("request", PlanRequest("asker", "face", "other"), verb="plan"))
    epochs = {plan.origin: plan.epoch for plan in plans(beat(decider, 4.0, "fast", "other"))}
    monkeypatch.setattr("edgemesh.roles.joint_plans.WORK", 1)
    monkeypatch.setattr("edgemesh.roles.joint_plans.Together", None)  # would raise where it is made
    for _ in range(20):
        jobs = tuple(ended("face", o, epochs[o], 0.05, "fast") for o in ("app", "other") for _ in range(8))
        decider.take(message("link", LinkReport("b-1", (), (), jobs), requester="gateway-0"))
        beat(decider, decider.now + 1.0, "fast", "other")
    join(decider, "third", 0.001)
    later = plans(beat(decider, decider.now + 30.0, "fast", "other", "third"))
    assert later and any("planned together" in note for note in later[-1].notes)
    assert not [log for log in only(Log, decider.done) if "failed" in log.text]


# --- outcomes, history, failures -------------------------------------------------------------------------


def test_outcomes_are_published_at_a_bounded_rate_and_remembered(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    (plan,) = plans(beat(decider, 2.0, "fast"))
    done: list[Action] = []
    for _ in range(90):
        report = LinkReport("b-1", (), (), (ended("face", "app", plan.epoch, 0.05, "fast"),))
        done += decider.take(message("link", report, requester="gateway-0"))
        done += beat(decider, decider.now + 1.0, "fast")
    outcomes = [decode_json(Outcome, a.payload) for a in sent("outcome", done)]
    assert 10 <= len(outcomes) <= 18
    assert outcomes[-1].jobs >= 80 and outcomes[-1].seconds == 0.05 and outcomes[-1].mape is not None
    assert 1 <= remembered(done).count("outcome") <= 2


def test_every_plan_failure_and_policy_goes_into_the_history(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    assert remembered(beat(decider, 4.0, "fast")) == ["assignment"]
    done = decider.take(policy(exclude=("fast",), changed_by="eva@desk"))
    assert [a.record.who for a in only(Remember, done)] == ["eva@desk"]
    done = beat(decider, 20.0, "fast")
    assert remembered(done) == ["failure"]
    (failure,) = failures(done)
    assert failure is not None and failure.kind == "excluded" and failure.since is not None
    assert 1004.0 <= failure.since <= 1007.0


def test_a_failure_that_an_earlier_leader_left_is_taken_back(decider: DrivenDecider) -> None:
    left = PlanFailure("face", "app", "unavailable", "no device has been seen yet")
    decider.take(message("failure", left, model="face", origin="app", retained=True))
    join(decider, "fast", 0.01)
    assert failures(beat(decider, 4.0, "fast")) == [None]


def test_a_removed_model_leaves_nothing_retained(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    decider.take(policy(exclude=("fast",)))
    beat(decider, 8.0, "fast")
    done = decider.take(message("model", b"", model="face"))
    assert {a.payload for a in (*sent("failure", done), *sent("assignment", done))} == {b""}


@pytest.mark.parametrize("kind", ["failure", "outcome"])
def test_what_is_retained_of_a_model_that_was_removed_while_nobody_decided_is_cleared(
    decider: DrivenDecider, kind: str
) -> None:
    failure = PlanFailure("gone", "app", "unavailable", "no device has been seen yet")
    left = failure if kind == "failure" else b"whatever it says"
    decider.take(message(kind, left, model="gone", origin="app", retained=True))
    done = beat(decider, 20.0, "fast")
    cleared = [a.topic for a in sent(kind, done) if not a.payload]
    assert cleared == [TOPICS.build(kind, model="gone", origin="app")]


@pytest.mark.parametrize("kind", ["failure", "outcome"])
@pytest.mark.parametrize("origin", ["app", "fast", "gone"])
def test_what_is_retained_of_an_origin_that_has_left_is_cleared(
    decider: DrivenDecider, kind: str, origin: str
) -> None:
    """``edgemesh plan`` told for ever, with an old reason, that a device which has left had no plan."""
    left = PlanFailure("face", origin, "unavailable", "pi is offline") if kind == "failure" else b"whatever"
    decider.take(message(kind, left, model="face", origin=origin, retained=True))
    join(decider, "fast", 0.01)

    done = beat(decider, 20.0, "fast")

    cleared = {a.topic for a in sent(kind, done) if not a.payload}
    gone = TOPICS.build(kind, model="face", origin="gone")
    assert (gone in cleared) is (origin == "gone")


def test_an_origin_without_a_plan_is_forgotten_when_it_leaves(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    join(decider, "idle", 0.05)
    decider.take(policy(exclude=("fast", "idle")))
    decider.take(message("request", PlanRequest("idle", "face", "idle"), verb="plan"))
    told = [a.topic for a in sent("failure", beat(decider, 8.0, "fast", "idle")) if a.payload]
    own = TOPICS.build("failure", model="face", origin="idle")
    assert own in told

    decider.take(state("idle", "stopped"))
    done = beat(decider, 20.0, "fast")

    assert own in [a.topic for a in sent("failure", done) if not a.payload]
    assert own not in [a.topic for a in sent("failure", done) if a.payload]


def test_a_plan_that_cannot_be_published_takes_no_other_with_it(
    decider: DrivenDecider, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def encoded(value: Any) -> bytes:
        if broken and isinstance(value, Assignment) and value.model == "bad":
            raise ValueError("half a surrogate pair")
        return encode_json(value)

    monkeypatch.setattr("edgemesh.roles.news.encode_json", encoded)
    decider.take(message("model", replace(FACE, name="bad"), model="bad", retained=True))
    join(decider, "fast", 0.01)
    done = beat(decider, 12.0, "fast")
    assert [plan.model for plan in plans(done)] == ["face"]
    assert ("bad", "app") not in decider.role.plans.in_force
    told = [log.text for log in only(Log, done) if "half a surrogate" in log.text]
    assert 1 <= len(told) <= 2 and "planning of bad for app failed: ValueError" in told[0]

    broken = False
    assert [plan.model for plan in plans(beat(decider, 24.0, "fast"))] == ["bad"]


def test_the_time_and_number_of_changes_are_in_the_message(decider: DrivenDecider) -> None:
    join(decider, "slow", 0.05)
    (first,) = plans(beat(decider, 4.0, "slow"))
    assert first.changes == 0 and first.since is not None and 1000.0 <= first.since <= 1004.0
    join(decider, "fast", 0.01)
    later = plans(beat(decider, 40.0))
    assert devices(later[-1]) == ["fast"] and later[-1].changes == 1
    assert later[-1].since is not None and later[-1].since > first.since + 3.0


# --- questions -------------------------------------------------------------------------------------------


def asked(decider: DrivenDecider, verb: str, request: Any) -> bytes:
    decider.take(message("request", request, verb=verb))
    (answer,) = sent("response", decider.pass_until(decider.now + 1.0))
    assert answer.topic == TOPICS.build("response", verb=verb)
    return answer.payload


def test_questions_are_answered_and_change_nothing(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    decider.take(resources("fast", 10.0, 60.0))
    decider.take(resources("slow", 1.0, 3.0))
    beat(decider, 10.0)
    before = len(plans(decider.done))

    what_if = decode_json(
        WhatIfResponse, asked(decider, "what-if", WhatIfRequest("asker", "face", "app", off=("fast",)))
    )
    front = decode_json(FrontResponse, asked(decider, "front", FrontRequest("asker", "face", "app")))
    why = decode_json(ExplainResponse, asked(decider, "explain", ExplainRequest("asker", "face", "app")))

    assert what_if.error is None and what_if.then is not None
    assert [hop.device for hop in what_if.then.route] == ["slow"]
    assert front.error is None and len(front.points) >= 2
    assert why.error is None and why.text
    assert len(plans(decider.done)) == before


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("what-if", WhatIfRequest("asker", "ghost", "app")),
        ("front", FrontRequest("asker", "ghost", "app")),
        ("explain", ExplainRequest("asker", "ghost", "app")),
    ],
)
def test_a_question_about_an_unknown_model_is_answered_with_the_reason(
    decider: DrivenDecider, verb: str, request_: Any
) -> None:
    assert b"no model ghost" in asked(decider, verb, request_)


def test_a_question_about_history_goes_to_the_disk(decider: DrivenDecider) -> None:
    request = HistoryRequest("asker", "face")
    decider.take(message("request", request, verb="history"))
    assert only(AnswerHistory, decider.pass_until(decider.now + 1.0)) == [AnswerHistory(request)]


def test_a_flood_of_questions_is_bounded(decider: DrivenDecider) -> None:
    for number in range(1000):
        decider.take(message("request", FrontRequest(f"asker-{number}", "ghost", "app"), verb="front"))
    assert 1 <= len(sent("response", decider.pass_until(20.0))) <= 33


def test_a_flood_of_questions_about_history_is_bounded(decider: DrivenDecider) -> None:
    first = decider.now
    for number in range(1000):
        decider.take(message("request", HistoryRequest(f"asker-{number}"), verb="history"))
    assert len(only(AnswerHistory, decider.done)) <= 1
    assert len(only(AnswerHistory, decider.pass_until(first + 1.0))) <= 11
    assert len(only(AnswerHistory, decider.pass_until(first + 20.0))) <= 32


def test_a_question_that_cannot_be_computed_is_refused_and_those_behind_it_are_answered(
    decider: DrivenDecider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Any:
        raise FloatingPointError("\ud800" * 5000)

    join(decider, "fast", 0.01)
    beat(decider, 4.0)
    monkeypatch.setattr("edgemesh.roles.questions.what_if_response", fails)
    decider.take(message("request", WhatIfRequest("first", "face", "app"), verb="what-if"))
    decider.take(message("request", FrontRequest("second", "face", "app"), verb="front"))

    refused, answered = sent("response", decider.pass_until(decider.now + 1.0))

    assert "cannot be computed" in (decode_json(WhatIfResponse, refused.payload).error or "")
    assert decode_json(FrontResponse, answered.payload).error is None


@pytest.mark.parametrize("field", ["battery_weight", "mains_weight", "per_second", "per_gigabyte"])
def test_a_policy_of_absurd_weights_is_refused_and_the_one_before_stays(
    decider: DrivenDecider, field: str
) -> None:
    join(decider, "fast", 0.01)
    given = Policy(battery_weight=0.5, mains_weight=0.5, prices=(Price("fast", 0.5, 0.5),))
    good = message("policy", given, model="face", retained=True)
    bad = bytes(good.payload).replace(f'"{field}":0.5'.encode(), f'"{field}":1e308'.encode())
    assert bad != good.payload
    decider.take(good)

    refused = decider.take(message("policy", bad, model="face", retained=True))

    (line,) = only(Log, refused)
    assert "policy of face" in line.text and field in line.text and "between 0 and 1,000,000" in line.text
    assert plans(beat(decider, 8.0, "fast"))


# --- bad input -------------------------------------------------------------------------------------------


def test_a_profile_of_another_content_is_said_and_not_used(decider: DrivenDecider) -> None:
    join(decider, "slow", 0.05)
    decider.take(state("fast"))
    decider.take(about("fast", DIGEST))
    other = bytes(profile("fast", *[1e-6] * 4).payload).replace(DIGEST.encode(), b"e" * 64)
    decider.take(message("profile", other, device="fast", model="face"))
    decider.take(heartbeat("fast"))
    (plan,) = plans(beat(decider, 4.0))
    assert devices(plan) == ["slow"]
    assert any("fast has not measured the model" in idle.reason for idle in plan.idle)


def test_a_profile_of_another_number_of_units_is_not_used(decider: DrivenDecider) -> None:
    join(decider, "slow", 0.05)
    join(decider, "fast", 0.01)
    decider.take(profile("fast", 0.01, 0.01))
    (plan,) = plans(beat(decider, 4.0))
    assert devices(plan) == ["slow"]


def test_a_deadline_that_no_plan_keeps_is_named_with_the_best_latency(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    decider.take(policy(bound_seconds=0.001))
    (failure,) = failures(beat(decider, 8.0, "fast"))
    assert failure is not None and failure.kind == "deadline"
    assert failure.kept == () or failure.kept == (Hop("fast", 4),)


def test_encodes_what_it_publishes_within_the_contract(decider: DrivenDecider) -> None:
    join(decider, "fast", 0.01)
    (plan,) = plans(beat(decider, 4.0, "fast"))
    assert decode_json(type(plan), encode_json(plan)) == plan


def test_a_plan_is_in_force_since_the_time_of_day_that_the_clock_says_then() -> None:
    """Found by a reader: a clock set after the start was never heard of, and `plan` told the old time."""
    began = 0.0
    driven = DrivenDecider(Decider("laptop", "b-9", 3, TOPICS, unix_time=lambda now: began + now))
    driven.take(Connected(), at=0.0)
    driven.take(manifest(), at=0.1)
    began = 1_000_000.0

    join(driven, "desk", 0.010)

    newest = plans(beat(driven, 2.0, "desk"))[-1]
    assert newest.since is not None and newest.since > began
