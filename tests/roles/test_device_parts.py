"""Rules of the parts of a device that are not about jobs: preparer, profiler, meter."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import MeasuredRun, Profile, ReadyPartition
from edgemesh.roles.actions import (
    Action,
    FindProfile,
    LoadUnits,
    Log,
    MeasureUnits,
    StoreProfile,
    UnloadUnits,
)
from edgemesh.roles.events import (
    Connected,
    Event,
    ExecutorLost,
    ProfileFound,
    RangeLoaded,
    RangeRefused,
    RunMeasured,
    TimerFired,
)
from edgemesh.roles.preparer import Preparer
from edgemesh.roles.profiler import REFRESH_SECONDS, Profiler
from tests.roles.build import DIGEST, FACE, TOPICS
from tests.roles.driven import Driven, only, sent

# --- preparer --------------------------------------------------------------------------------------------


def planned(*route: Hop, origin: str = "app") -> Assignment:
    return Assignment(1, 1, "face", DIGEST, origin, "latency", route, (), 0.0, 0.1, "test")


def prepare(preparer: Driven, *assignments: Assignment, held: tuple[str, ...] = (DIGEST,)) -> list[Action]:
    actions: list[Action] = preparer.role.reconsider(assignments, held, preparer.now)
    preparer._note(actions)
    return actions


BOTH = planned(Hop("me", 2), Hop("two", 3), Hop("me", 4))


def test_loads_every_partition_that_an_assignment_gives_this_device() -> None:
    preparer = Driven(Preparer("me"))
    assert prepare(preparer, BOTH) == [LoadUnits(DIGEST, 0, 2), LoadUnits(DIGEST, 3, 4)]
    assert prepare(preparer, BOTH) == []
    preparer.take(RangeLoaded(DIGEST, 0, 2, 1))
    assert preparer.role.ready == {ReadyPartition(DIGEST, 0, 2)}


def test_loads_only_what_is_on_disk() -> None:
    assert prepare(Driven(Preparer("me")), BOTH, held=()) == []


def test_a_partition_no_longer_assigned_is_unloaded_twenty_seconds_later() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, BOTH)
    for partition in ((0, 2), (3, 4)):
        preparer.take(RangeLoaded(DIGEST, *partition, 1))
    for at in (1.0, 8.0, 15.0):  # other assignments change meanwhile: the time does not begin anew
        preparer.pass_until(at)
        prepare(preparer, planned(Hop("two", 4)))
    assert only(UnloadUnits, preparer.pass_until(20.9)) == []
    gone = only(UnloadUnits, preparer.pass_until(21.1))
    assert gone == [UnloadUnits(DIGEST, 0, 2), UnloadUnits(DIGEST, 3, 4)] and preparer.role.ready == set()


def test_a_partition_assigned_again_in_time_stays_loaded() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, BOTH)
    preparer.take(RangeLoaded(DIGEST, 0, 2, 1))
    prepare(preparer, planned(Hop("two", 4)))
    preparer.pass_until(10.0)
    prepare(preparer, BOTH)
    assert only(UnloadUnits, preparer.pass_until(60.0)) == []
    assert ReadyPartition(DIGEST, 0, 2) in preparer.role.ready


def test_what_was_loaded_too_late_is_unloaded_too() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    prepare(preparer, planned(Hop("two", 4)))
    preparer.take(RangeLoaded(DIGEST, 0, 4, 1), at=50.0)
    assert only(UnloadUnits, preparer.pass_until(71.0)) == [UnloadUnits(DIGEST, 0, 4)]


def test_a_lost_executor_loads_everything_anew() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, BOTH)
    preparer.take(RangeLoaded(DIGEST, 0, 2, 1))
    actions = preparer.take(ExecutorLost("killed"))
    assert only(LoadUnits, actions) == [LoadUnits(DIGEST, 0, 2), LoadUnits(DIGEST, 3, 4)]
    assert preparer.role.ready == set()


def test_a_partition_that_kills_the_executor_is_not_loaded_for_ever() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    loads = [len(only(LoadUnits, preparer.take(ExecutorLost("killed")))) for _ in range(5)]
    assert loads == [1, 1, 0, 0, 0]
    assert only(Log, preparer.done)[-1].level == "error"


def test_a_partition_is_not_blamed_for_what_other_content_does_to_the_executor() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    for _ in range(5):
        assert only(LoadUnits, preparer.take(ExecutorLost("killed", "5" * 64))) == [LoadUnits(DIGEST, 0, 4)]
    assert only(Log, preparer.done) == []


def test_a_refused_partition_is_tried_again_when_it_was_assigned_anew() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    assert only(Log, preparer.take(RangeRefused(DIGEST, 0, 4, "no memory")))[0].level == "error"
    assert prepare(preparer, planned(Hop("me", 4))) == []
    prepare(preparer, planned(Hop("two", 4)))
    assert prepare(preparer, planned(Hop("me", 4))) == [LoadUnits(DIGEST, 0, 4)]


def test_a_refused_partition_is_tried_again_ever_later_and_said_once() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    times = [0.0]
    for _ in range(9):
        preparer.take(RangeRefused(DIGEST, 0, 4, "no memory"))
        assert only(LoadUnits, preparer.pass_until(min(preparer.timers.values()))) == [
            LoadUnits(DIGEST, 0, 4)
        ]
        times.append(preparer.now)
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0]
    (log,) = only(Log, preparer.done)
    assert log.level == "error" and "no memory; tried again" in log.text

    preparer.take(RangeLoaded(DIGEST, 0, 4, 1))
    assert preparer.role.ready == {ReadyPartition(DIGEST, 0, 4)}
    assert not only(LoadUnits, preparer.pass_until(9000.0))


def test_a_refused_partition_that_is_wanted_no_longer_is_not_tried_again() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    preparer.take(RangeRefused(DIGEST, 0, 4, "no memory"))
    prepare(preparer, planned(Hop("two", 4)))
    assert not only(LoadUnits, preparer.pass_until(3600.0))


def test_a_refusal_that_comes_when_nobody_wants_the_partition_holds_nothing_up() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    prepare(preparer, planned(Hop("two", 4)))
    assert preparer.take(RangeRefused(DIGEST, 0, 4, "no memory")) == []
    assert prepare(preparer, planned(Hop("me", 4))) == [LoadUnits(DIGEST, 0, 4)]


def test_what_was_loaded_of_content_that_is_gone_is_not_ready_when_it_comes_back() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    preparer.take(RangeLoaded(DIGEST, 0, 4, 1))
    prepare(preparer, planned(Hop("me", 4)), held=())
    assert preparer.role.ready == set()

    assert prepare(preparer, planned(Hop("me", 4))) == [LoadUnits(DIGEST, 0, 4)]
    preparer.take(RangeLoaded(DIGEST, 0, 4, 1), at=5.0)
    assert preparer.role.ready == {ReadyPartition(DIGEST, 0, 4)}
    assert not only(UnloadUnits, preparer.pass_until(60.0))


def test_content_that_goes_while_it_is_loaded_is_loaded_anew_when_it_comes_back() -> None:
    preparer = Driven(Preparer("me"))
    prepare(preparer, planned(Hop("me", 4)))
    prepare(preparer, held=())
    # The executor closes the content after this load.
    assert preparer.take(RangeLoaded(DIGEST, 0, 4, 1)) == [] and preparer.role.ready == set()
    assert prepare(preparer, planned(Hop("me", 4))) == [LoadUnits(DIGEST, 0, 4)]


# --- profiler --------------------------------------------------------------------------------------------


class DrivenProfiler(Driven):
    """Hands the profiler what is held; ``idle`` says whether the worker is."""

    def __init__(self, emulate: Any = None) -> None:
        self.idle = True
        self.held = {DIGEST: FACE}
        profiler = Profiler(
            "me",
            TOPICS,
            runtime_versions={"tflite": "1"},
            threads=4,
            is_idle=lambda: self.idle,
            emulate=emulate,
        )
        super().__init__(profiler)

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        if at is not None:
            self.pass_until(at)
        actions: list[Action] = self.role.handle(event, self.now, self.held)
        self._note(actions)
        return actions

    def _fire(self, name: str) -> list[Action]:
        return self.take(TimerFired(name))

    def measure(self, seconds: float = 0.01) -> None:
        """Answer measurements until none is asked for."""
        while True:
            asked = only(MeasureUnits, self.done)
            answered = len([1 for _ in range(getattr(self, "answered", 0))])
            if len(asked) == answered:
                return
            self.answered = answered + 1
            action = asked[answered]
            units = action.stop - action.start
            took = RunMeasured(DIGEST, action.start, action.stop, seconds * units * 0.9, seconds / 10)
            self.take(took, at=self.now + 0.01)


@pytest.fixture
def profiler() -> DrivenProfiler:
    """Connected, with a model held whose profile is in no cache."""
    driven = DrivenProfiler()
    driven.take(Connected(), at=0.0)
    assert driven.role.add(FACE) == [FindProfile(FACE)]
    return driven


def test_measures_each_unit_the_whole_and_prefixes_then_publishes_and_keeps(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    profiler.measure()
    ranges = {(a.start, a.stop) for a in only(MeasureUnits, profiler.done)}
    assert {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (0, 2), (2, 4)} <= ranges
    (published,) = sent("profile", profiler.done)
    profile = decode_json(Profile, published.payload)
    assert profile.seconds == pytest.approx((0.009,) * 4) and profile.digest == DIGEST
    assert {(run.start, run.stop) for run in profile.runs} >= {(0, 4), (0, 2)}
    assert only(StoreProfile, profiler.done) == [StoreProfile(profile)] and published.retain


def test_what_lost_its_name_while_it_was_measured_is_told_under_the_other(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    assert profiler.role.renamed(replace(FACE, name="twin"), "face") == []

    profiler.measure()

    (published,) = sent("profile", profiler.done)
    assert TOPICS.parse(published.topic).names["model"] == "twin"


def test_a_cached_profile_is_published_without_measuring(profiler: DrivenProfiler) -> None:
    cached = Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4)
    profiler.take(ProfileFound(DIGEST, cached), at=0.1)
    assert len(sent("profile", profiler.done)) == 1 and not only(MeasureUnits, profiler.done)


def test_a_cached_profile_of_other_units_is_not_used(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, Profile(DIGEST, "tflite", "1", 4, (0.01,) * 3)), at=0.1)
    assert only(MeasureUnits, profiler.done) and not sent("profile", profiler.done)


def test_a_model_that_is_cut_otherwise_meanwhile_is_measured_as_if_for_the_first_time(
    profiler: DrivenProfiler,
) -> None:
    cached = Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4, runs=(MeasuredRun(0, 4, 0.04),))
    profiler.take(ProfileFound(DIGEST, cached), at=0.1)
    fewer = (*FACE.boundaries[:1], *FACE.boundaries[2:])
    profiler.held[DIGEST] = replace(FACE, units=FACE.units[:3], boundaries=fewer)
    profiler.pass_until(REFRESH_SECONDS + 1.0)
    profiler.measure()
    published = profiler.role.published[DIGEST]
    assert len(published.seconds) == 3 and all(run.stop <= 3 for run in published.runs)


def test_measures_only_while_nothing_else_runs(profiler: DrivenProfiler) -> None:
    profiler.idle = False
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    assert not only(MeasureUnits, profiler.pass_until(30.0))
    profiler.idle = True
    assert len(only(MeasureUnits, profiler.pass_until(31.0))) == 1


def test_measures_again_every_half_hour(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4)), at=0.1)
    profiler.pass_until(REFRESH_SECONDS + 1.0)
    profiler.measure(seconds=0.02)
    assert profiler.role.published[DIGEST].seconds == pytest.approx((0.018,) * 4)


class SlowBoard(DrivenProfiler):
    """Takes ``seconds[u]`` for unit ``u``, and notes how long a job would have waited for each piece."""

    def __init__(self, seconds: tuple[float, ...]) -> None:
        super().__init__()
        self.seconds = seconds
        self.pieces: list[float] = []
        self.take(Connected(), at=0.0)
        self.role.add(FACE)

    def measure_all(self, until: float) -> None:
        answered = 0
        while True:
            asked = only(MeasureUnits, self.done)
            if answered < len(asked):
                action = asked[answered]
                answered += 1
                run = sum(self.seconds[action.start : action.stop])
                once = action.runs == 1
                took = run if once and run >= 0.12 else 2 * run if once else max(0.12, 4 * run)
                self.pieces.append(took)
                self.take(RunMeasured(DIGEST, action.start, action.stop, run, 0.0), at=self.now + took)
            elif self.timers and min(self.timers.values()) <= until:
                self.pass_until(min(self.timers.values()))
            else:
                return


def test_a_long_model_is_measured_again_in_pieces_of_one_unit() -> None:
    board = SlowBoard((0.06, 1.8, 0.9, 0.01))
    runs = (MeasuredRun(0, 4, 2.5), MeasuredRun(0, 3, 2.4))
    earlier = Profile(DIGEST, "tflite", "1", 4, (0.03, 0.9, 0.9, 0.01), runs=runs)
    board.take(ProfileFound(DIGEST, earlier), at=0.1)
    board.measure_all(REFRESH_SECONDS + 30.0)

    published = board.role.published[DIGEST]
    assert published.seconds == pytest.approx(board.seconds)
    assert max(board.pieces) <= 1.8
    # What a job would wait too long for was not measured: it changed as its units did.
    told = {(run.start, run.stop): run.seconds for run in published.runs}
    assert told[0, 4] == pytest.approx(2.5 * 2.77 / 1.84)


def test_a_short_model_is_measured_as_before_in_a_tenth_of_a_second_each() -> None:
    board = SlowBoard((0.001, 0.002, 0.001, 0.002))
    board.take(ProfileFound(DIGEST, None), at=0.1)
    board.measure_all(60.0)

    assert {(0, 4), (0, 2), (2, 4)} <= {(run.start, run.stop) for run in board.role.published[DIGEST].runs}
    assert max(board.pieces) <= 0.12


def test_a_model_is_measured_again_only_when_no_job_came_for_a_while() -> None:
    board = SlowBoard((0.01,) * 4)
    board.take(ProfileFound(DIGEST, Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4)), at=0.1)
    for second in range(20):
        board.pass_until(REFRESH_SECONDS - 5.0 + second)
        board.role.ran(board.now)
    assert not only(MeasureUnits, board.done)
    board.pass_until(board.now + 5.0)
    assert only(MeasureUnits, board.done)


def test_an_executor_lost_while_measuring_is_measured_again_but_not_for_ever(
    profiler: DrivenProfiler,
) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    for attempt in range(3):
        assert len(only(MeasureUnits, profiler.done)) == attempt + 1
        profiler.take(ExecutorLost("killed"), at=1.0 + attempt)
        profiler.pass_until(1.9 + attempt)
    assert len(only(MeasureUnits, profiler.done)) == 3
    assert only(Log, profiler.done)[-1].level == "error"


def test_a_model_is_measured_however_often_others_kill_the_executor(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    for attempt in range(5):
        profiler.take(ExecutorLost("killed", "5" * 64), at=1.0 + attempt)
        profiler.pass_until(1.9 + attempt)
    assert len(only(MeasureUnits, profiler.done)) == 6
    assert only(Log, profiler.done) == []


def test_losses_of_days_before_are_forgotten_once_something_was_measured(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    for attempt in range(4):
        profiler.take(ExecutorLost("killed", DIGEST), at=10.0 * attempt + 1.0)
        profiler.pass_until(10.0 * attempt + 2.0)
        asked = only(MeasureUnits, profiler.done)[-1]
        profiler.take(RunMeasured(DIGEST, asked.start, asked.stop, 0.01, 0.001), at=10.0 * attempt + 3.0)
    assert only(Log, profiler.done) == []


def test_a_refusal_about_something_else_does_not_concern_it(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    assert profiler.take(RangeRefused("0" * 64, 0, 1, "another model"), at=0.2) == []
    assert profiler.take(RunMeasured("0" * 64, 0, 1, 9.0, 0.0), at=0.2) == []
    profiler.measure()
    assert DIGEST in profiler.role.published


def test_a_measurement_that_is_refused_is_made_again_ever_more_seldom(profiler: DrivenProfiler) -> None:
    """Found by a reader: memory that was short once kept a device out of all plans for good."""
    profiler.take(ProfileFound(DIGEST, None), at=0.0)
    began = []
    for _ in range(8):
        asked = only(MeasureUnits, profiler.done)
        began.append(profiler.now)
        profiler.take(RangeRefused(DIGEST, 0, 1, "no memory"), at=profiler.now)
        while len(only(MeasureUnits, profiler.done)) == len(asked):
            profiler.pass_until(profiler.now + 1.0)
    pauses = [after - before for before, after in pairwise(began)]
    assert pauses[0] <= 61.0 and all(a <= b <= REFRESH_SECONDS + 1.0 for a, b in pairwise(pauses))
    assert pauses[-1] > 20 * pauses[0]
    assert len(only(Log, profiler.done)) == 1  # once for the same trouble

    profiler.answered = len(only(MeasureUnits, profiler.done)) - 1
    profiler.measure()

    assert DIGEST in profiler.role.published
    profiler.pass_until(profiler.now + REFRESH_SECONDS + 1.0)
    profiler.take(RangeRefused(DIGEST, 0, 1, "no memory"), at=profiler.now)
    assert len(only(Log, profiler.done)) == 2  # a new trouble, which begins with short pauses
    asked = only(MeasureUnits, profiler.done)
    profiler.pass_until(profiler.now + 61.0)
    assert len(only(MeasureUnits, profiler.done)) > len(asked)


def test_a_model_that_comes_back_is_profiled_again(profiler: DrivenProfiler) -> None:
    profiler.take(ProfileFound(DIGEST, Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4)), at=0.1)
    profiler.role.forget(DIGEST)
    assert profiler.role.published == {} and profiler.role.add(FACE) == [FindProfile(FACE)]


@pytest.mark.parametrize("found", [None, Profile(DIGEST, "tflite", "1", 4, (0.01,) * 4)])
def test_nothing_is_told_of_content_that_lost_its_name_while_its_profile_was_looked_for(
    profiler: DrivenProfiler, found: Profile | None
) -> None:
    """Found by the fault simulator: it is still held until what took its name is here."""
    profiler.role.forget(DIGEST)

    profiler.take(ProfileFound(DIGEST, found), at=0.1)

    assert not sent("profile", profiler.done) and profiler.role.published == {}
    assert not only(MeasureUnits, profiler.done)


def test_a_model_of_a_runtime_that_is_not_here_is_not_profiled(profiler: DrivenProfiler) -> None:
    assert profiler.role.add(replace(FACE, digest="0" * 64, format="torch")) == []


def test_an_emulated_board_tells_its_own_times_and_keeps_the_machines() -> None:
    profiler = DrivenProfiler(emulate=lambda manifest, seconds, whole: [10 * s for s in seconds])
    profiler.take(Connected(), at=0.0)
    profiler.role.add(FACE)
    profiler.take(ProfileFound(DIGEST, None), at=0.1)
    profiler.measure()
    told = decode_json(Profile, sent("profile", profiler.done)[0].payload)
    assert told.seconds == pytest.approx((0.09,) * 4) and told.emulated
    assert next(run.seconds for run in told.runs if run.stop - run.start == 4) == pytest.approx(0.36)
    (kept,) = only(StoreProfile, profiler.done)
    assert kept.profile.seconds == pytest.approx((0.009,) * 4) and not kept.profile.emulated
