"""Speed checks: what no job runs is measured now and then, at next to no cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.presence import MeasuredRun, Profile, Resources
from edgemesh.roles.actions import Action, MeasureUnits
from edgemesh.roles.events import Connected, ExecutorLost, ResourcesRead, RunMeasured
from edgemesh.roles.speed_check import CHECK_COST, CHECK_SECONDS, SpeedCheck
from tests.roles.build import DIGEST
from tests.roles.driven import Driven, only

OTHER = "f" * 64
PROFILE = Profile(DIGEST, "tflite", "1", 4, (0.0001, 0.02, 0.3), runs=(MeasuredRun(0, 3, 0.32),))


class DrivenCheck(Driven):
    """A machine that takes ``slower`` times what its profile says, and ``loading`` in addition."""

    def __init__(self, *profiles: Profile, told: tuple[Profile, ...] = (), loading: float = 0.01) -> None:
        self.profiles = {profile.digest: profile for profile in profiles}
        self.told = {profile.digest: profile for profile in told or profiles}
        self.idle = True
        self.slower = 1.0
        self.loading = loading
        self.spent = 0.0
        self.reports: list[tuple[float, tuple[Any, ...]]] = []
        super().__init__(
            SpeedCheck(self.profiles, self.told, is_idle=lambda: self.idle, report=self._reported)
        )
        self.take(Connected(), at=0.0)

    def _reported(
        self, digest: str, start: int, stop: int, seconds: float, now: float, *, probe: bool
    ) -> list[Action]:
        assert probe
        self.reports.append((now, (digest, start, stop, seconds)))
        return []

    def go_on(self, until: float) -> list[MeasureUnits]:
        """Let time pass, and measure what is asked for."""
        asked: list[MeasureUnits] = []
        while self.now < until:
            for action in only(MeasureUnits, self.pass_until(min([until, *self.timers.values()]))):
                asked.append(action)
                profile = self.profiles[action.digest]
                seconds = self.slower * profile.seconds[action.start]
                took = self.loading + (action.runs + 1) * seconds
                self.spent += took
                measured = RunMeasured(action.digest, action.start, action.stop, seconds, 0.0)
                self.take(measured, at=self.now + took)
        return asked


def test_a_model_that_nobody_runs_is_checked_by_a_short_run_now_and_then() -> None:
    driven = DrivenCheck(PROFILE)

    asked = driven.go_on(300.0)

    assert {(a.start, a.stop) for a in asked} == {(1, 2)}
    assert 10 <= len(asked) <= 300.0 / CHECK_SECONDS
    assert driven.reports[0][1] == (DIGEST, 1, 2, pytest.approx(0.02))


def test_checks_take_less_than_a_hundredth_of_the_devices_time() -> None:
    slow = replace(PROFILE, seconds=(2.0, 3.0, 4.0), runs=())
    driven = DrivenCheck(slow, replace(slow, digest=OTHER), loading=1.0)

    asked = driven.go_on(36_000.0)

    assert driven.spent <= 2 * CHECK_COST * 36_000.0 + 15.0
    assert {a.digest for a in asked} == {DIGEST, OTHER}


def test_a_model_that_jobs_run_is_not_checked() -> None:
    driven = DrivenCheck(PROFILE)
    asked: list[MeasureUnits] = []
    for second in range(60):
        driven.role.ran(DIGEST, float(second), surprising=False)
        asked += driven.go_on(float(second + 1))

    assert asked == []


def test_nothing_is_measured_while_the_device_works() -> None:
    driven = DrivenCheck(PROFILE)
    driven.idle = False

    assert driven.go_on(60.0) == []
    driven.idle = True
    assert len(driven.go_on(61.0)) == 1


def test_a_speed_that_has_changed_is_checked_until_it_is_clear() -> None:
    driven = DrivenCheck(PROFILE)
    driven.go_on(300.0)

    driven.slower = 3.0
    before = len(driven.reports)
    driven.go_on(330.0)

    assert 3 <= len(driven.reports) - before <= 6
    times = [at for at, _ in driven.reports[before:]]
    assert times[2] - times[0] < 2.0
    assert driven.reports[-1][1][3] == pytest.approx(0.06)


def test_a_first_check_that_disagrees_with_the_profile_is_followed_by_others_at_once() -> None:
    driven = DrivenCheck(PROFILE)
    driven.slower = 2.0

    driven.go_on(CHECK_SECONDS + 5.0)

    times = [at for at, _ in driven.reports]
    assert len(times) >= 3 and times[2] - times[0] < 2.0


def test_a_job_that_surprises_and_stays_alone_is_followed_by_checks_at_once() -> None:
    driven = DrivenCheck(PROFILE)
    driven.go_on(300.0)
    driven.slower = 3.0

    driven._note(driven.role.ran(DIGEST, 300.0, surprising=True))
    before = len(driven.reports)
    driven.go_on(304.0)

    assert len(driven.reports) - before >= 3


@pytest.mark.parametrize(
    "reading",
    [Resources(0.05, 1 << 30, 1 << 29, throttled=("under-voltage",)), Resources(0.9, 1 << 30, 1 << 29)],
)
def test_a_machine_that_is_throttled_or_loaded_is_checked_at_once(reading: Resources) -> None:
    driven = DrivenCheck(PROFILE)
    driven.take(ResourcesRead(Resources(0.05, 1 << 30, 1 << 29)), at=1.0)
    driven.go_on(300.0)

    driven.take(ResourcesRead(reading))
    before = len(driven.reports)
    driven.go_on(303.0)

    assert len(driven.reports) - before >= 3


def test_an_emulated_board_reports_its_own_times() -> None:
    told = replace(PROFILE, seconds=tuple(10 * s for s in PROFILE.seconds), emulated=True)
    driven = DrivenCheck(PROFILE, told=(told,))
    driven.slower = 1.5

    driven.go_on(20.0)

    assert driven.reports[0][1][3] == pytest.approx(1.5 * 0.2)


def test_an_executor_that_dies_is_asked_again_and_a_model_that_is_gone_is_not() -> None:
    driven = DrivenCheck(PROFILE)
    assert len(only(MeasureUnits, driven.pass_until(CHECK_SECONDS))) == 1
    driven.take(ExecutorLost("killed"), at=11.0)
    assert len(driven.go_on(25.0)) >= 1

    driven.told.clear()
    driven.profiles.clear()
    assert driven.go_on(60.0) == []
