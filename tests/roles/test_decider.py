"""Rules of the decision node: when it plans, what it publishes, and what it survives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment, Holder, PlanFailure
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import LinkReport, Transfer
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Pin, PlanRequest, PlanResponse, Policy
from edgemesh.protocol.topics import TOPICS as ROWS
from edgemesh.roles.actions import Action, Publish
from edgemesh.roles.decider import REPLAN_SECONDS, TERMS_AT_ONCE, Decider
from edgemesh.roles.events import Connected, Disconnected
from edgemesh.roles.leadership import LAST_TERM
from tests.roles.build import (
    DIGEST,
    FACE,
    TOPICS,
    about,
    assignment,
    heartbeat,
    manifest,
    message,
    profile,
    state,
)
from tests.roles.driven import HearsItself, only, sent


class DrivenDecider(HearsItself):
    """Also checks that epochs only grow and that rounds of planning keep their distance."""

    def check(self) -> None:
        epochs = [plan.epoch for plan in plans(self.done)]
        assert epochs == sorted(set(epochs)), epochs


@pytest.fixture
def decider() -> Iterator[DrivenDecider]:
    """A decision node of term 3, connected at 0.0; its invariants are checked at the end."""
    driven = DrivenDecider(Decider("laptop", "b-9", 3, TOPICS))
    driven.take(Connected(), at=0.0)
    yield driven
    driven.check()


@pytest.fixture
def planned(decider: DrivenDecider) -> DrivenDecider:
    """The same with a model planned on ``fast``, beside a device ``slow``."""
    decider.take(manifest(), at=0.1)
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    beat(decider, 1.0)
    return decider


def join(decider: DrivenDecider, device: str, seconds: float) -> None:
    """A device comes that holds the model and has measured it."""
    decider.take(state(device))
    decider.take(about(device, DIGEST))
    decider.take(profile(device, *[seconds] * 4))
    decider.take(heartbeat(device))


def beat(decider: DrivenDecider, until: float, *devices: str) -> list[Action]:
    """Time passes while ``devices`` (``fast`` and ``slow`` unless named) give signs of life."""
    done: list[Action] = []
    while decider.now < until:
        done += decider.pass_until(min(until, decider.now + 1.0))
        for device in devices or ("fast", "slow"):
            done += decider.take(heartbeat(device))
    return done


def watch_rounds(decider: DrivenDecider) -> list[float]:
    """Times of the rounds of planning from here on."""
    rounds: list[float] = []
    original = decider.role._round

    def watched(now: float) -> list[Action]:
        rounds.append(now)
        actions: list[Action] = original(now)
        return actions

    decider.role._round = watched
    return rounds


def plans(actions: list[Action]) -> list[Assignment]:
    """Assignments published."""
    return [decode_json(Assignment, a.payload) for a in sent("assignment", actions) if a.payload]


def devices(plan: Assignment) -> list[str]:
    return [hop.device for hop in plan.route]


def answers(actions: list[Action]) -> list[PlanResponse]:
    return [decode_json(PlanResponse, a.payload) for a in sent("response", actions)]


# --- when it plans ---------------------------------------------------------------------------------------


def test_plans_when_the_burst_of_retained_messages_is_over(decider: DrivenDecider) -> None:
    decider.take(manifest(), at=0.1)
    join(decider, "fast", 0.01)
    assert plans(decider.done) == []
    (plan,) = plans(decider.pass_until(0.5))
    assert devices(plan) == ["fast"] and plan.epoch == (3, 1) and plan.origin == "app"
    assert plan.reason.startswith("first plan of this decision node")


def test_plans_at_most_every_two_seconds_whatever_comes(planned: DrivenDecider) -> None:
    rounds = watch_rounds(planned)
    for step in range(200):
        planned.take(profile("slow", *[0.05 + step * 1e-4] * 4), at=2.0 + step / 20)
        planned.take(heartbeat("fast"))
        planned.take(heartbeat("slow"))
    assert 4 <= len(rounds) <= 6
    assert all(b - a >= REPLAN_SECONDS - 1e-9 for a, b in pairwise(rounds))


def test_publishes_only_what_changes(planned: DrivenDecider) -> None:
    assert plans(beat(planned, 60.0)) == []


def test_plans_without_news_too_because_silence_is_no_event(planned: DrivenDecider) -> None:
    done = beat(planned, 15.0, "slow")
    assert devices(plans(done)[0]) == ["slow"]
    assert "fast is offline" in plans(done)[0].reason


def test_a_device_of_a_plan_that_goes_offline_is_replanned_at_once(planned: DrivenDecider) -> None:
    # A round is pending for later: it must not delay this one.
    planned.take(profile("slow", *[0.04] * 4), at=1.5)
    planned.take(state("fast", "offline"), at=1.6)
    (plan,) = plans(planned.pass_until(1.61))
    assert devices(plan) == ["slow"] and "fast is offline" in plan.reason


def test_a_pending_round_is_not_lost_by_one_at_once(planned: DrivenDecider) -> None:
    planned.take(state("fast", "offline"), at=1.6)
    planned.pass_until(1.61)
    planned.take(state("fast"), at=2.0)
    planned.take(heartbeat("fast"))
    assert devices(plans(beat(planned, 20.0))[-1]) == ["fast"]


def test_a_device_is_planned_with_as_soon_as_its_first_profile_is_there(planned: DrivenDecider) -> None:
    rounds = watch_rounds(planned)
    beat(planned, 20.0)
    planned.take(state("new"))
    planned.take(about("new", DIGEST))
    beat(planned, 22.5, "fast", "slow", "new")
    before = len(rounds)
    assert rounds[-1] > 20.0  # a round that knew nothing of its speed

    planned.take(profile("new", *[0.001] * 4))
    beat(planned, 23.0, "fast", "slow", "new")

    assert len(rounds) == before + 1
    planned.take(profile("new", *[0.0011] * 4))
    beat(planned, 23.5, "fast", "slow", "new")
    assert len(rounds) == before + 1, "a second one is news like any other"


def test_a_flapping_device_does_not_keep_the_planner_busy(planned: DrivenDecider) -> None:
    rounds = watch_rounds(planned)
    for step in range(1000):
        planned.take(state("fast", "offline" if step % 2 else "online"), at=3.0 + step / 1000)
    assert len(rounds) <= 6


def test_a_device_whose_loss_touches_no_plan_waits_for_the_next_round(planned: DrivenDecider) -> None:
    planned.take(state("slow", "offline"), at=1.2)
    assert plans(planned.pass_until(1.5)) == []


# --- what it publishes -----------------------------------------------------------------------------------


def test_a_plan_carries_fallbacks_that_avoid_each_of_its_devices(planned: DrivenDecider) -> None:
    plan = plans(planned.done)[-1]
    assert [(f.avoids, [hop.device for hop in f.route]) for f in plan.fallbacks] == [("fast", ["slow"])]


def test_fallbacks_are_renewed_when_devices_come_and_go(planned: DrivenDecider) -> None:
    join(planned, "third", 0.02)
    (plan,) = plans(beat(planned, 8.0, "fast", "slow", "third"))
    assert devices(plan) == ["fast"] and "third can be used now" in plan.reason
    assert [[hop.device for hop in f.route] for f in plan.fallbacks] == [["third"]]


def test_hundreds_of_devices_that_come_at_once_are_told_within_the_contract(planned: DrivenDecider) -> None:
    names = [f"board-{number:03d}-{'x' * 30}" for number in range(300)]
    for name in names:
        join(planned, name, 0.05)
    told = plans(beat(planned, 6.0))  # reading them raises where a text is too long
    assert any(plan.reason.startswith("fallbacks renewed: ") for plan in told)
    pin = Pin(0, 4, "gone", also=tuple(f"not-{name}" for name in names))
    planned.take(message("policy", Policy(pins=(pin,)), model="face"))
    reasons = [decode_json(PlanFailure, a.payload).reason for a in sent("failure", beat(planned, 14.0))]
    assert reasons and "others" in reasons[-1]


def test_a_plan_that_is_a_little_faster_does_not_replace_the_one_in_force(planned: DrivenDecider) -> None:
    join(planned, "slow", 0.0098)
    assert plans(beat(planned, 60.0)) == []
    join(planned, "slow", 0.008)
    (plan,) = plans(beat(planned, 100.0))
    assert devices(plan) == ["slow"] and "slow takes less" in plan.reason


def test_the_same_plan_is_published_again_when_its_prediction_moved_far(planned: DrivenDecider) -> None:
    join(planned, "slow", 0.2)
    join(planned, "fast", 0.03)
    (plan,) = plans(beat(planned, 60.0))
    assert devices(plan) == ["fast"] and plan.reason.startswith("estimates moved: ")


def test_a_slow_link_moves_the_plan(planned: DrivenDecider) -> None:
    slow = LinkReport(
        "b-1", tuple(Transfer("acknowledged", *s) for _ in range(7) for s in ((65_536, 6.0), (64, 0.002)))
    )
    slow_too = LinkReport("b-1", tuple(Transfer("tail", 65_536, 6.0) for _ in range(7)))
    for report in (slow, slow_too):
        planned.take(message("link", report, requester="fast"), at=20.0)
    (plan,) = plans(beat(planned, 40.0))
    assert devices(plan) == ["slow"]


def test_a_queue_counts_as_time(planned: DrivenDecider) -> None:
    done: list[Action] = []
    for step in range(20):
        done += planned.take(heartbeat("fast", queued=2.0), at=12.0 + step)
        done += planned.take(heartbeat("slow"))
    assert devices(plans(planned.done)[-1]) == ["slow"]


# --- policy ----------------------------------------------------------------------------------------------


def test_an_excluded_device_is_not_used(planned: DrivenDecider) -> None:
    planned.take(message("policy", Policy(exclude=("fast",)), model="face"), at=1.5)
    (plan,) = plans(beat(planned, 5.0))
    assert devices(plan) == ["slow"] and plan.reason == "the policy changed" and plan.at_once
    join(planned, "third", 0.08)
    (again,) = plans(beat(planned, 12.0, "fast", "slow", "third"))
    assert devices(again) == ["slow"] and again.at_once  # who missed the one before has to know it, too
    assert any("excluded" in idle.reason for idle in plan.idle if idle.device == "fast")


def test_a_pinned_unit_runs_where_it_is_pinned(planned: DrivenDecider) -> None:
    planned.take(message("policy", Policy(pins=(Pin(0, 1, "slow"),)), model="face"), at=1.5)
    (plan,) = plans(beat(planned, 5.0))
    assert plan.route[0] == Hop("slow", 1)


def test_a_unit_pinned_to_a_device_that_is_not_there_runs_nowhere(planned: DrivenDecider) -> None:
    planned.take(message("policy", Policy(pins=(Pin(0, 1, "camera"),)), model="face"), at=1.5)
    planned.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"))
    done = beat(planned, 5.0)
    assert plans(done) == []
    (answer,) = answers(done)
    assert not answer.planned and "camera" in answer.reason


def test_the_same_policy_again_changes_nothing_and_a_cleared_one_does(planned: DrivenDecider) -> None:
    policy = message("policy", Policy(exclude=("fast",)), model="face")
    planned.take(policy, at=1.5)
    beat(planned, 5.0)
    planned.take(policy)
    assert plans(beat(planned, 20.0)) == []
    planned.take(message("policy", b"", model="face"))
    assert devices(plans(beat(planned, 25.0))[-1]) == ["fast"]


# --- requests --------------------------------------------------------------------------------------------


def test_answers_a_request_after_planning_it_and_keeps_it_planned(planned: DrivenDecider) -> None:
    planned.take(message("request", PlanRequest("asker", "face", "slow"), verb="plan"), at=1.5)
    done = beat(planned, 4.0)
    (plan,) = plans(done)
    assert plan.origin == "slow"
    assert answers(done) == [PlanResponse("asker", "face", "slow", True, "an assignment is in force")]
    planned.take(state("fast", "offline"))
    assert {plan.origin for plan in plans(beat(planned, 8.0))} == {"app", "slow"}


def heard_itself(planned: DrivenDecider) -> Assignment:
    """The assignment in force comes back to whoever published it."""
    plan = plans(planned.done)[-1]
    planned.take(message("assignment", plan, model="face", origin="app"))
    return plan


def test_leads_above_what_a_requester_knows_of_a_leader_that_the_broker_forgot(
    planned: DrivenDecider,
) -> None:
    """Or whatever it publishes would be older than that, and nobody who knows it would go by it."""
    known = heard_itself(planned).epoch
    later = PlanRequest("asker", "face", "app", known[0] + 5, 1)

    planned.take(message("request", later, verb="plan"), at=2.0)

    (plan,) = plans(beat(planned, 4.0))
    assert plan.epoch > (later.term, later.sequence)


def test_a_requester_that_makes_up_a_term_does_not_use_them_up(planned: DrivenDecider) -> None:
    known = heard_itself(planned).epoch
    request = PlanRequest("asker", "face", "app", LAST_TERM, 1)

    planned.take(message("request", request, verb="plan"), at=2.0)

    assert known[0] < plans(beat(planned, 4.0))[-1].term <= known[0] + TERMS_AT_ONCE + 1


def test_a_requester_that_knows_what_is_in_force_changes_nothing(planned: DrivenDecider) -> None:
    known = heard_itself(planned).epoch

    planned.take(message("request", PlanRequest("asker", "face", "app", *known), verb="plan"), at=2.0)

    assert plans(beat(planned, 4.0)) == []


def test_a_request_for_an_unknown_model_or_origin_is_answered_with_the_reason(planned: DrivenDecider) -> None:
    beat(planned, 3.1)
    planned.take(message("request", PlanRequest("asker", "ghost", "app"), verb="plan"))
    planned.take(message("request", PlanRequest("asker", "face", "nowhere"), verb="plan"))
    unknown, nowhere = answers(beat(planned, 6.0))
    # Only who has heard of a model asks: news of it is on its way.
    assert not unknown.planned and unknown.soon and "no model ghost" in unknown.reason
    assert not nowhere.planned and not nowhere.soon and nowhere.reason == "no device nowhere in this mesh"


def test_any_device_may_come_while_those_connect_that_were_there_before(planned: DrivenDecider) -> None:
    """Seed 70028410 of the fault simulator: a broker without its store, and a policy for the others."""
    planned.take(message("policy", Policy(exclude=("fast", "slow")), model="face"), at=1.5)
    planned.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"))
    planned.take(message("request", PlanRequest("asker", "face", "nowhere"), verb="plan"))
    excluded, unknown = answers(beat(planned, 2.9))
    assert not excluded.planned and excluded.soon and "excluded" in excluded.reason
    assert not unknown.planned and unknown.soon

    planned.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"), at=3.1)
    (later,) = answers(beat(planned, 6.0))
    assert not later.planned and not later.soon and later.reason == excluded.reason


@pytest.mark.parametrize(("text", "soon"), [("offline", True), ("stopped", False)])
def test_devices_that_did_not_say_goodbye_may_be_back_soon(
    planned: DrivenDecider, text: str, soon: bool
) -> None:
    for device in ("fast", "slow"):
        planned.take(state(device, text))
    planned.pass_until(planned.now + 3.0)

    planned.take(message("request", PlanRequest("me", "face", "app"), verb="plan"))
    (answer,) = answers(planned.pass_until(planned.now + 3.0))

    assert not answer.planned and answer.soon == soon


@pytest.mark.parametrize("seconds", [8.0, 12.0])
def test_devices_that_are_silent_may_be_back_soon(planned: DrivenDecider, seconds: float) -> None:
    """Their access point is away: the broker says so only after one and a half keep-alives."""
    planned.pass_until(planned.now + seconds)

    planned.take(message("request", PlanRequest("me", "face", "app"), verb="plan"))
    (answer,) = answers(planned.pass_until(planned.now + 3.0))

    assert not answer.planned and answer.soon


def test_a_device_that_a_policy_names_may_be_on_its_way(planned: DrivenDecider) -> None:
    """A broker that has lost its store: who was paused meanwhile has not been seen since."""
    planned.take(message("policy", Policy(pins=(Pin(0, 1, "unseen"),)), model="face"))
    planned.pass_until(planned.now + 3.0)

    planned.take(message("request", PlanRequest("me", "face", "app"), verb="plan"))
    (answer,) = answers(planned.pass_until(planned.now + 3.0))

    assert not answer.planned and answer.soon and "has not seen" in answer.reason


def test_a_model_being_fetched_will_be_planned_soon(decider: DrivenDecider) -> None:
    decider.take(manifest(), at=0.1)
    decider.take(state("fast"))
    decider.take(about("fast"))
    decider.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"))
    (answer,) = answers(decider.pass_until(1.0))
    assert not answer.planned and answer.soon and "fast does not hold the model" in answer.reason


def test_devices_that_have_just_started_look_at_what_they_hold_first(planned: DrivenDecider) -> None:
    """Seed 70084747 of the fault simulator: profiles are retained, what devices hold was not told yet."""
    for device in ("fast", "slow"):
        planned.take(about(device, boot="b-2"), at=4.0)

    planned.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"))
    (answer,) = answers(beat(planned, 7.0))

    assert not answer.planned and answer.soon and "fast does not hold the model" in answer.reason


def test_a_flood_of_requests_is_bounded_and_crowds_nobody_out(planned: DrivenDecider) -> None:
    for number in range(5000):
        planned.take(
            message("request", PlanRequest("asker", f"m-{number}", f"o-{number}"), verb="plan"), at=1.5
        )
    assert len(planned.role._asked) <= 1024
    done = beat(planned, 4.0)
    assert len(answers(done)) <= 1024
    planned.take(message("request", PlanRequest("asker", "face", "slow"), verb="plan"))
    assert [plan.origin for plan in plans(beat(planned, 8.0))] == ["slow"]


def test_the_same_request_many_times_gets_one_answer(planned: DrivenDecider) -> None:
    for _ in range(100):
        planned.take(message("request", PlanRequest("asker", "face", "app"), verb="plan"), at=1.5)
    assert len(answers(beat(planned, 4.0))) == 1


# --- models that go, leaders that went -------------------------------------------------------------------


def test_a_removed_model_loses_its_assignments(planned: DrivenDecider) -> None:
    planned.take(message("request", PlanRequest("asker", "face", "slow"), verb="plan"), at=1.5)
    beat(planned, 4.0)
    cleared = sent("assignment", planned.take(message("model", b"", model="face")))
    assert sorted(a.topic for a in cleared) == [
        TOPICS.build("assignment", model="face", origin=origin) for origin in ("app", "slow")
    ]
    assert all(a.payload == b"" and a.retain for a in cleared)
    assert plans(beat(planned, 10.0)) == []


def test_the_assignment_of_a_model_that_was_removed_while_nobody_decided_is_cleared(
    decider: DrivenDecider,
) -> None:
    decider.take(assignment(Hop("fast", 4)), at=0.1)
    cleared = sent("assignment", decider.pass_until(10.0))
    assert [(a.topic, a.payload) for a in cleared[:1]] == [
        (TOPICS.build("assignment", model="face", origin="app"), b"")
    ]


def test_an_assignment_whose_manifest_comes_later_is_kept(decider: DrivenDecider) -> None:
    decider.take(assignment(Hop("fast", 4), origin="slow"), at=0.1)
    decider.take(manifest(), at=0.2)
    join(decider, "fast", 0.01)
    join(decider, "slow", 0.05)
    assert {plan.origin for plan in plans(beat(decider, 10.0))} == {"app", "slow"}
    assert all(a.payload for a in sent("assignment", decider.done))


@pytest.mark.parametrize("epoch", [(3, 57), (5, 2)])
def test_epochs_stay_above_those_of_retained_assignments(
    decider: DrivenDecider, epoch: tuple[int, int]
) -> None:
    decider.take(manifest(), at=0.1)
    decider.take(assignment(Hop("old", 4), epoch=epoch), at=0.1)
    join(decider, "fast", 0.01)
    (plan,) = plans(decider.pass_until(1.0))
    assert plan.epoch > epoch


def test_its_own_assignments_coming_back_change_nothing(planned: DrivenDecider) -> None:
    (mine,) = sent("assignment", planned.done)
    planned.take(message("assignment", mine.payload, model="face", origin="app"))
    assert plans(beat(planned, 10.0)) == []


def test_another_leaders_higher_epoch_is_overruled_with_a_higher_term(planned: DrivenDecider) -> None:
    planned.take(assignment(Hop("slow", 4), epoch=(4, 1)))
    (plan,) = plans(beat(planned, 10.0))
    assert plan.term == 5 and devices(plan) == ["fast"] and "another decision node" in plan.reason
    holders = [decode_json(Holder, a.payload) for a in sent("decision", beat(planned, 20.0))]
    assert holders and holders[-1].term == 5


def test_an_absurd_term_is_cleared_and_not_counted_on_from(planned: DrivenDecider) -> None:
    actions = planned.take(assignment(Hop("slow", 4), epoch=((1 << 53) - 1, 1)))
    assert [a.payload for a in sent("assignment", actions)] == [b""]
    assert planned.role._leads.term == 3


def test_after_reconnecting_everything_is_published_again(planned: DrivenDecider) -> None:
    planned.take(Disconnected(), at=5.0)
    assert only(Publish, planned.pass_until(11.0)) == []
    planned.take(Connected(), at=12.0)
    planned.take(manifest())
    join(planned, "fast", 0.01)
    (plan,) = plans(planned.pass_until(13.0))
    assert plan.sequence > 1


def silent_decider() -> DrivenDecider:
    """One that does not hear itself yet: its link is slow."""
    driven = DrivenDecider(Decider("laptop", "b-9", 2, TOPICS))
    driven.echoes = False
    driven.take(Connected(), at=0.0)
    driven.take(manifest(), at=0.1)
    join(driven, "fast", 0.01)
    return driven


def test_it_plans_once_it_has_read_what_was_said_before_it() -> None:
    driven = silent_decider()
    assert not plans(beat(driven, 3.0, "fast"))
    driven.take(message("decision", Holder("online", "laptop", "b-9", 2)), at=3.0)
    (plan,) = plans(beat(driven, 4.0, "fast"))
    assert plan.epoch == (2, 1)
    driven.check()


def test_a_node_that_took_the_role_in_the_term_of_another_leads_in_a_higher_one() -> None:
    """Found by the fault simulator: over slow links two had taken it before they heard of each other."""
    driven = silent_decider()
    actions = driven.take(message("decision", Holder("offline", "server", "b-8", 2)), at=1.0)
    (said,) = sent("decision", actions)
    assert decode_json(Holder, said.payload) == Holder("online", "laptop", "b-9", 3)
    assert decode_json(Holder, driven.role.will().payload).term == 3
    driven.take(message("decision", said.payload), at=2.0)
    (plan,) = plans(beat(driven, 3.0, "fast"))
    assert plan.epoch == (3, 1)
    driven.check()


def test_it_plans_although_its_own_word_never_comes_back() -> None:
    driven = silent_decider()
    assert not plans(beat(driven, 9.9, "fast"))
    assert plans(beat(driven, 12.0, "fast"))


def test_who_hears_late_of_another_leader_in_its_term_plans_anew(planned: DrivenDecider) -> None:
    planned.take(message("decision", Holder("online", "server", "b-8", 3)), at=2.0)
    (plan,) = plans(beat(planned, 6.0))
    assert plan.epoch[0] == 4


def test_its_state_is_repeated_every_five_seconds(planned: DrivenDecider) -> None:
    states = sent("decision", beat(planned, 61.0))
    assert 11 <= len(states) <= 13 and all(a.retain for a in states)
    assert decode_json(Holder, planned.role.will().payload) == Holder("offline", "laptop", "b-9", 3)


# --- what it survives ------------------------------------------------------------------------------------


def test_says_a_newer_manifest_again_where_an_older_one_takes_its_place(planned: DrivenDecider) -> None:
    """Found by the fault simulator: somebody who was cut off had added it before, and it came behind."""
    newer = replace(FACE, digest="0" * 64, revision=FACE.revision + 1)
    planned.take(message("model", newer, model="face"))

    (said,) = sent("model", planned.take(manifest()))

    assert decode_json(Manifest, said.payload) == newer and said.retain
    assert planned.role.view.manifests["face"] == newer
    assert not sent("model", planned.take(message("model", newer, model="face")))


def test_a_model_added_again_with_other_units_is_planned_anew(planned: DrivenDecider) -> None:
    fewer = replace(FACE, units=FACE.units[:3], boundaries=FACE.boundaries[:4])
    planned.take(message("model", fewer, model="face"))
    for device in ("fast", "slow"):
        planned.take(profile(device, 0.01, 0.01, 0.01))
    (plan,) = plans(beat(planned, 10.0))
    assert plan.route[-1].stop == 3 and "units changed" in plan.reason


def test_garbage_on_every_topic_leaves_it_running(planned: DrivenDecider) -> None:
    chance = random.Random(7)
    names = {"device": "fast", "model": "face", "origin": "app", "verb": "plan", "requester": "fast"}
    names |= {"slot": "0", "digest": DIGEST}
    for step in range(2000):
        kind = chance.choice(sorted(ROWS))
        wanted: Any = {name: value for name, value in names.items() if f"{{{name}}}" in ROWS[kind].pattern}
        payload = chance.choice(
            [
                b"",
                b"{",
                b"[]",
                b"null",
                b'{"term":1}',
                b"\xff\xfe",
                b"online",
                b"{}" * 9,
                chance.randbytes(40),
            ]
        )
        if kind in ("state", "about", "model", "policy") and payload in (b"", b"online"):
            continue  # that is no garbage: it clears the topic, or is a state
        planned.take(message(kind, payload, **wanted), at=2.0 + step / 500)
    join(planned, "fast", 0.2)
    assert devices(plans(beat(planned, 30.0))[-1]) == ["slow"]


def test_the_grace_after_connecting_ends_whatever_the_clock_rounds_to() -> None:
    # Three seconds later are, by subtraction, not yet three seconds: a timer would be set for ever.
    began = next(n / 10 for n in range(10_000) if (n / 10 + 3.0) - n / 10 < 3.0)
    driven = DrivenDecider(Decider("laptop", "b-9", 3, TOPICS))
    driven.take(Connected(), at=began)
    driven.take(manifest())

    told = driven.pass_until(began + 4.0)

    (failure,) = sent("failure", told)
    assert decode_json(PlanFailure, failure.payload).model == "face"
