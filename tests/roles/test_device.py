"""Rules of a device: what its parts make of an event together, and what never leaves it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.link import LinkReport
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import About, Heartbeat, HeldModel, Profile, ReadyPartition
from edgemesh.protocol.topics import TOPICS as ROWS
from edgemesh.roles.actions import (
    Action,
    DropContent,
    FindContent,
    FindProfile,
    JobEnded,
    LoadUnits,
    MeasureUnits,
    Publish,
    RunUnits,
    Subscribe,
)
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import (
    Connected,
    ContentStored,
    Disconnected,
    ExecutorLost,
    ProfileFound,
    PublishRefused,
    RangeLoaded,
    Refusal,
    RunFinished,
)
from tests.roles.build import (
    DIGEST,
    FACE,
    TOPICS,
    about,
    activation,
    assignment,
    manifest,
    message,
    state,
    submitted,
)
from tests.roles.driven import Driven, only, sent, works

SETTINGS = DeviceSettings("one", "b-1", "edgemesh test", "pi-4b", {"tflite": "2.14"}, 4, 1 << 30)
STATE = TOPICS.build("state", device="one")
ONLINE = Publish(STATE, b"online", qos=1, retain=True, resend=False)


class DrivenDevice(Driven):
    """Also checks that nothing goes to the broker that is for this device, and that its queue is bounded."""

    def check(self) -> None:
        own = [TOPICS.build("work", device="one")]
        own += [TOPICS.build(kind, requester="one") for kind in ("reply", "receipt")]
        assert not [action for action in only(Publish, self.done) if action.topic in own]
        assert self.role.worker.jobs <= 257


@pytest.fixture
def device() -> Iterator[DrivenDevice]:
    """Device ``one``, connected at 0.0; nothing is held yet."""
    driven = DrivenDevice(Device(SETTINGS, TOPICS))
    driven.take(Connected(), at=0.0)
    driven.take(state("one"))
    yield driven
    driven.check()


@pytest.fixture
def holding(device: DrivenDevice) -> DrivenDevice:
    """The same with the model held and profiled."""
    hold(device)
    return device


def hold(device: DrivenDevice, told: Manifest = FACE) -> None:
    device.take(message("model", told, model=told.name))
    device.take(ContentStored(told.digest))
    device.take(
        ProfileFound(told.digest, Profile(told.digest, "tflite", "2.14", 4, (0.01,) * told.unit_count))
    )


def run(device: DrivenDevice, seconds: float = 0.02) -> list[Action]:
    """The run under way ends."""
    return device.take(RunFinished(device.running, b"output", seconds, 0.001))


def last_about(device: DrivenDevice) -> About:
    return decode_json(About, sent("about", device.done)[-1].payload)


def last_heartbeat(actions: list[Action]) -> Heartbeat:
    return decode_json(Heartbeat, sent("heartbeat", actions)[-1].payload)


# --- presence --------------------------------------------------------------------------------------------


def test_says_that_it_is_online_after_it_subscribed(device: DrivenDevice) -> None:
    kinds = [a for a in device.done if isinstance(a, (Publish, Subscribe))]
    first = next(i for i, a in enumerate(kinds) if isinstance(a, Publish))
    assert kinds[first] == ONLINE
    assert {f"edgemesh/v1/home/{rest}" for rest in ("device/one/work", "reply/one", "model/+")} <= {
        a.filter for a in only(Subscribe, kinds[:first])
    }
    assert device.role.will() == Publish(STATE, b"offline", qos=1, retain=True)
    assert device.role.farewell() == [Publish(STATE, b"stopped", qos=1, retain=True)]


def test_says_again_that_it_is_online_when_its_own_late_will_appears(device: DrivenDevice) -> None:
    actions = device.take(message("state", b"offline", device="one"), at=5.0)
    assert actions == [ONLINE]
    assert device.role.view.online("one", 5.0)


def test_does_not_contradict_its_own_farewell(device: DrivenDevice) -> None:
    assert not sent("state", device.take(message("state", b"stopped", device="one"), at=5.0))


def test_gives_a_sign_of_life_every_two_seconds(device: DrivenDevice) -> None:
    beats = [decode_json(Heartbeat, a.payload) for a in sent("heartbeat", device.pass_until(20.0))]
    assert len(beats) == 10 and [b.seq for b in beats] == list(range(beats[0].seq, beats[0].seq + 10))
    assert {b.boot for b in beats} == {"b-1"}


def test_its_heartbeat_tells_queue_and_busy_fraction(holding: DrivenDevice) -> None:
    for job in ("j-1", "j-2"):
        holding.take(activation(job), at=2.5)
    told = last_heartbeat(holding.pass_until(4.0))
    assert told.queue == 2 and told.queued_seconds > 0.0 and told.busy == 0.0
    run(holding, seconds=0.5)
    assert last_heartbeat(holding.pass_until(6.0)).busy == pytest.approx(0.2505)


def test_about_lists_the_models_it_holds(holding: DrivenDevice) -> None:
    assert last_about(holding).models == (HeldModel("face", DIGEST),)
    assert last_about(holding).board == "pi-4b" and last_about(holding).runtimes == {"tflite": "2.14"}


def test_its_heartbeat_follows_at_once_when_a_partition_is_ready_or_lost(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4)))
    assert only(LoadUnits, holding.done) == [LoadUnits(DIGEST, 0, 4)]
    told = last_heartbeat(holding.take(RangeLoaded(DIGEST, 0, 4, 1)))
    assert told.ready == (ReadyPartition(DIGEST, 0, 4),)
    assert last_heartbeat(holding.take(ExecutorLost("killed"))).ready == ()


def test_a_loaded_partition_is_expected_to_take_what_the_profile_says(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4)))
    holding.take(RangeLoaded(DIGEST, 0, 4, 1))
    holding.take(activation(route=(Hop("one", 4),)))
    assert holding.role.worker.queued_seconds(holding.now) == pytest.approx(0.04)


# --- local first -----------------------------------------------------------------------------------------


def test_a_job_that_arises_and_runs_here_never_goes_to_the_broker(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4), origin="one"))
    actions = holding.take(submitted(), at=1.0)
    assert only(RunUnits, actions) and not only(Publish, actions)
    actions = run(holding)
    assert not only(Publish, actions)
    (ended,) = only(JobEnded, actions)
    assert ended.code is None and bytes(ended.section) == b"output" and ended.route == (Hop("one", 4),)


def test_only_what_leaves_the_device_is_sent_and_timed(holding: DrivenDevice) -> None:
    holding.take(state("two"))
    holding.take(assignment(Hop("one", 2), Hop("two", 4), origin="one"))
    assert not only(Publish, holding.take(submitted(), at=1.0))
    ((device, header),) = works(run(holding))
    assert device == "two" and header.position == 2 and header.receipt and header.requester == "one"
    assert holding.role.meter._sent.tokens("work:") == ["work:j-1:0:2"]
    assert holding.role.requester.open_jobs == 1


@pytest.mark.parametrize("planned", [False, True], ids=["no plan", "a plan that keeps all here"])
def test_serves_itself_while_the_broker_is_away_and_says_so(holding: DrivenDevice, planned: bool) -> None:
    if planned:
        holding.take(assignment(Hop("one", 4), origin="one"))
    holding.take(Disconnected(), at=1.0)
    holding.take(submitted(), at=2.0)
    (ended,) = only(JobEnded, run(holding))
    assert ended.code is None and ended.route == (Hop("one", 4),) and ended.alone is True


def test_does_not_call_itself_alone_where_a_plan_keeps_all_here(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4), origin="one"))
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    for job, at in (("j-1", 3.0), ("j-2", 4.0)):
        holding.take(submitted(job), at=at)
        if job == "j-2":
            holding.take(Disconnected(), at=4.1)  # it runs as planned all the same
        (ended,) = only(JobEnded, run(holding))
        assert ended.code is None and ended.route == (Hop("one", 4),) and ended.alone is False


def test_is_not_alone_over_a_given_route(holding: DrivenDevice) -> None:
    """As of its own route, no assignment's epoch is known of it."""
    holding.take(submitted(route=(Hop("one", 4),)), at=1.0)
    (ended,) = only(JobEnded, run(holding))
    assert ended.code is None and ended.epoch == (0, 0) and ended.alone is False


def test_a_job_elsewhere_when_the_broker_goes_runs_here_at_once(holding: DrivenDevice) -> None:
    holding.take(state("two"))
    holding.take(assignment(Hop("two", 4), origin="one"))
    assert works(holding.take(submitted(), at=1.0))
    assert only(RunUnits, holding.take(Disconnected(), at=1.1))
    (ended,) = only(JobEnded, run(holding))
    assert ended.attempts == 2 and ended.alone is True


def test_is_alone_with_an_input_that_the_broker_refuses(holding: DrivenDevice) -> None:
    holding.take(state("two"))
    holding.take(assignment(Hop("two", 4), origin="one"))
    (large,) = sent("work", holding.take(submitted(), at=1.0))
    holding.take(PublishRefused(large, Refusal(200_000)), at=1.1)
    (ended,) = only(JobEnded, run(holding))
    assert ended.code is None and ended.route == (Hop("one", 4),) and ended.alone is True


# --- models ----------------------------------------------------------------------------------------------


def test_looks_for_the_content_of_every_model_that_fits(device: DrivenDevice) -> None:
    assert only(FindContent, device.take(manifest())) == [FindContent(FACE)]
    assert not only(FindContent, device.take(manifest()))
    torch = replace(FACE, name="other", digest="0" * 64, format="torch")
    assert not only(FindContent, device.take(message("model", torch, model="other")))
    size = 2 << 30
    chunks = ("0" * 64,) * (-(-size // 500_000))
    huge = replace(FACE, name="huge", digest="1" * 64, size=size, chunk_bytes=500_000, chunks=chunks)
    assert not only(FindContent, device.take(message("model", huge, model="huge")))


def test_a_removed_model_is_deleted_and_its_profile_withdrawn(holding: DrivenDevice) -> None:
    actions = holding.take(message("model", b"", model="face"))
    assert only(DropContent, actions) == [DropContent(DIGEST)]
    (withdrawn,) = sent("profile", actions)
    assert withdrawn.payload == b"" and withdrawn.retain
    assert last_about(holding).models == () and holding.role.worker.held == set()
    # Added again, it is profiled and told again.
    hold(holding)
    assert sent("profile", holding.done)[-1].payload and len(only(FindProfile, holding.done)) == 2


NEWER = replace(FACE, digest="0" * 64, revision=1)


def test_the_content_of_a_model_stays_until_what_takes_its_name_is_here(holding: DrivenDevice) -> None:
    actions = holding.take(message("model", NEWER, model="face"))
    assert not only(DropContent, actions) and only(FindContent, actions)

    actions = holding.take(ContentStored(NEWER.digest))

    assert only(DropContent, actions) == [DropContent(DIGEST)]
    assert set(holding.role.content.held) == {NEWER.digest}


def test_a_model_that_is_replaced_twice_leaves_nothing_behind(holding: DrivenDevice) -> None:
    newest = replace(NEWER, digest="1" * 64, revision=2)
    holding.take(message("model", NEWER, model="face"))
    assert only(DropContent, holding.take(message("model", newest, model="face"))) == [
        DropContent(NEWER.digest)
    ]

    assert only(DropContent, holding.take(ContentStored(newest.digest))) == [DropContent(DIGEST)]


def test_a_model_that_is_removed_while_it_is_replaced_leaves_nothing_behind(holding: DrivenDevice) -> None:
    holding.take(message("model", NEWER, model="face"))

    dropped = only(DropContent, holding.take(message("model", b"", model="face")))

    assert {action.digest for action in dropped} == {DIGEST, NEWER.digest}


def test_a_broker_that_takes_a_replacement_back_finds_the_content_of_before(holding: DrivenDevice) -> None:
    """It was killed before it had written the new manifest, and nobody holds the new content yet."""
    holding.take(message("model", NEWER, model="face"))
    holding.take(Disconnected())
    holding.take(Connected())

    actions = holding.take(message("model", FACE, model="face"))

    assert only(DropContent, actions) == [DropContent(NEWER.digest)]
    assert holding.role.content.models == [FACE] and only(FindProfile, actions)


def test_who_holds_a_newer_model_says_so_where_an_older_one_comes_back(holding: DrivenDevice) -> None:
    holding.take(message("model", NEWER, model="face"))
    holding.take(ContentStored(NEWER.digest))

    actions = holding.take(message("model", FACE, model="face"))

    (said,) = sent("model", actions)
    assert decode_json(Manifest, said.payload) == NEWER and said.retain
    assert holding.role.content.models == [NEWER] and not only(DropContent, actions)


def test_who_fetches_a_newer_model_says_so_too(holding: DrivenDevice) -> None:
    """Found by the fault simulator: its one holder was away, and did not know its name when it came back."""
    holding.take(message("model", NEWER, model="face"))

    actions = holding.take(message("model", FACE, model="face"))

    (said,) = sent("model", actions)
    assert decode_json(Manifest, said.payload) == NEWER and said.retain
    assert not only(DropContent, actions)


def test_a_model_for_another_runtime_takes_the_place_of_the_old_at_once(holding: DrivenDevice) -> None:
    """It is never here, so nothing need be kept until then."""
    other = replace(NEWER, format="torch")

    assert only(DropContent, holding.take(message("model", other, model="face"))) == [DropContent(DIGEST)]


def test_two_names_of_one_content_do_not_delete_it(holding: DrivenDevice) -> None:
    holding.take(message("model", replace(FACE, name="copy"), model="copy"))
    assert not only(DropContent, holding.take(message("model", b"", model="copy")))


def test_content_that_is_cut_otherwise_is_opened_loaded_and_measured_anew(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 2), Hop("two", 4)))
    holding.take(RangeLoaded(DIGEST, 0, 2, 1))
    fewer = (*FACE.boundaries[:1], *FACE.boundaries[2:])
    otherwise = replace(FACE, units=FACE.units[:3], boundaries=fewer, revision=FACE.revision + 1)

    actions = holding.take(message("model", otherwise, model="face"))
    assert only(FindContent, actions) == [FindContent(otherwise)] and not only(DropContent, actions)
    # What is open and loaded is of other units: nothing is run over it.
    assert holding.role.preparer.ready == set() and holding.role.worker.held == set()
    assert DIGEST not in holding.role.profiler.published

    actions = holding.take(ContentStored(DIGEST))
    assert only(LoadUnits, actions) == [LoadUnits(DIGEST, 0, 2)]
    assert only(FindProfile, actions) == [FindProfile(otherwise)]
    assert holding.role.content.held == {DIGEST: otherwise} and holding.role.worker.held == {DIGEST}
    assert last_about(holding).models == (HeldModel("face", DIGEST),)


def test_measures_only_while_no_job_runs(device: DrivenDevice) -> None:
    device.take(manifest())
    device.take(ContentStored(DIGEST))
    device.take(activation(), at=1.0)
    device.take(ProfileFound(DIGEST, None), at=1.1)
    assert not only(MeasureUnits, device.pass_until(5.0))
    run(device)
    assert only(MeasureUnits, device.pass_until(6.0))


# --- a broker that lost its memory -----------------------------------------------------------------------


def test_says_manifests_again_when_the_broker_has_lost_what_it_retained(holding: DrivenDevice) -> None:
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    actions = holding.take(message("state", b"online", device="one"), at=2.1)
    (said,) = sent("model", actions)
    assert decode_json(Manifest, said.payload) == FACE and said.retain and said.qos == 1
    assert not sent("model", holding.take(message("state", b"online", device="one"), at=2.2))


def forgotten(device: DrivenDevice) -> list[str]:
    """The broker comes back empty: names that are said again."""
    device.take(Disconnected(), at=device.now + 1.0)
    device.take(Connected(), at=device.now + 1.0)
    actions = device.take(message("state", b"online", device="one"), at=device.now + 0.1)
    return sorted(decode_json(Manifest, said.payload).name for said in sent("model", actions))


def test_says_a_manifest_again_whose_content_is_on_its_way(device: DrivenDevice) -> None:
    """Seed 70042336 of the fault simulator: the only holder was off, and came back without the name."""
    device.take(message("model", FACE, model="face"))

    assert forgotten(device) == ["face"]


def test_says_every_name_of_one_content_again(holding: DrivenDevice) -> None:
    holding.take(message("model", replace(FACE, name="beta"), model="beta"))

    assert {held.name for held in last_about(holding).models} == {"face", "beta"}
    assert forgotten(holding) == ["beta", "face"]


def test_a_name_that_was_removed_is_not_said_again(holding: DrivenDevice) -> None:
    holding.take(message("model", replace(FACE, name="beta"), model="beta"))
    holding.take(message("model", b"", model="beta"))

    assert not only(DropContent, holding.done)
    assert forgotten(holding) == ["face"]


def test_a_name_that_is_left_is_said_again_where_the_first_one_was_removed(holding: DrivenDevice) -> None:
    holding.take(message("model", replace(FACE, name="beta"), model="beta"))
    holding.take(message("model", FACE, model="face"))
    holding.take(message("model", b"", model="face"))

    assert forgotten(holding) == ["beta"]


@pytest.mark.parametrize("kept", [b"offline", b"online", b"stopped"])
def test_says_nothing_again_when_the_broker_has_kept_its_memory(holding: DrivenDevice, kept: bytes) -> None:
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    holding.take(message("state", kept, device="one", retained=True), at=2.1)
    assert not sent("model", holding.take(message("state", b"online", device="one"), at=2.2))


@pytest.mark.parametrize("known", [(), (DIGEST,)])
def test_says_a_model_again_that_an_older_store_does_not_know(
    holding: DrivenDevice, known: tuple[str, ...]
) -> None:
    """A broker that was killed soon after the model was added; where it knew of us that we hold it, it was
    removed since."""
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    holding.take(message("state", b"offline", device="one", retained=True), at=2.1)
    old = about("one", *known)
    holding.take(replace(old, retained=True))

    said = sent("model", holding.take(message("state", b"online", device="one"), at=2.2))

    assert [decode_json(Manifest, one.payload) for one in said] == ([] if known else [FACE])


def test_says_no_model_again_that_came_with_the_connection(holding: DrivenDevice) -> None:
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    holding.take(message("state", b"offline", device="one", retained=True), at=2.1)
    holding.take(replace(about("one"), retained=True))
    holding.take(message("model", FACE, model="face", retained=True))

    assert not sent("model", holding.take(message("state", b"online", device="one"), at=2.2))


def test_a_profile_is_told_under_the_name_that_is_left(holding: DrivenDevice) -> None:
    """Else a decision node would believe that the content was never measured here."""
    holding.take(message("model", replace(FACE, name="beta"), model="beta"))

    told = sent("profile", holding.take(message("model", b"", model="face")))

    assert [(TOPICS.parse(a.topic).names["model"], bool(a.payload)) for a in told] == [
        ("beta", True),
        ("face", False),
    ]
    assert decode_json(Profile, told[0].payload).digest == DIGEST


def test_a_connection_that_ended_too_soon_does_not_cover_up_a_broker_that_forgot(
    holding: DrivenDevice,
) -> None:
    holding.take(Disconnected(), at=1.0)
    holding.take(Connected(), at=2.0)
    holding.take(Disconnected(), at=2.1)  # its Will, or what it said itself, is retained now
    assert sent("model", holding.take(Connected(), at=3.0))
    assert not sent("model", holding.take(message("state", b"offline", device="one", retained=True), at=3.1))


def test_a_device_that_just_started_says_no_manifest(holding: DrivenDevice) -> None:
    assert not sent("model", holding.take(message("state", b"online", device="one")))


def test_runs_sent_ahead_are_reported_too_once_what_they_made_is_on_its_way(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4), origin="one"))
    for number in range(3):
        holding.take(activation(f"j-{number}", route=(Hop("one", 4),)))
        run(holding)
    for number in range(3, 6):
        holding.take(activation(f"j-{number}", route=(Hop("one", 4),)))
    assert len(holding.at_executor) == 2
    for _ in range(3):
        assert isinstance(run(holding)[0], Publish)
    holding.pass_until(holding.now + 60.0)
    told = [decode_json(LinkReport, a.payload) for a in sent("link", holding.done)]
    assert sum(len(report.runs) for report in told) == 6


# --- what it survives ------------------------------------------------------------------------------------


def test_garbage_on_every_topic_leaves_it_running(holding: DrivenDevice) -> None:
    chance = random.Random(11)
    names = {"device": "two", "model": "face", "origin": "one", "verb": "plan", "requester": "one"}
    names |= {"slot": "0", "digest": DIGEST}
    for step in range(2000):
        kind = chance.choice(sorted(ROWS))
        wanted: Any = {name: value for name, value in names.items() if f"{{{name}}}" in ROWS[kind].pattern}
        payload = chance.choice(
            [b"{", b"[]", b"null", b"\xff\xfe", b"EM\1\1", chance.randbytes(80), b"{}" * 9]
        )
        holding.take(message(kind, payload, **wanted), at=1.0 + step / 1000)
    holding.take(about("two", DIGEST))
    holding.take(assignment(Hop("one", 4), origin="one"))
    holding.take(submitted())
    assert only(JobEnded, run(holding))[0].code is None


def test_every_retained_timer_of_a_job_is_gone_when_it_ends(holding: DrivenDevice) -> None:
    holding.take(assignment(Hop("one", 4), origin="one"))
    for number in range(20):
        holding.take(submitted(f"j-{number}"))
    while holding.role.worker.jobs:
        run(holding)
    assert not [name for name in holding.timers if name.startswith("job:")]
    assert len(only(JobEnded, holding.done)) == 20
