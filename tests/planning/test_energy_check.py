"""A plug checks the model over minutes: by its counter where it is fine enough, else by the power it says."""

from __future__ import annotations

import pytest

from edgemesh.planning.energy_check import WINDOW, EnergyCheck

KILOWATT_HOUR = 3.6e6


class Hour:
    """A device of 5 W by its model on a plug; time goes by in looks of 2.5 s."""

    def __init__(self) -> None:
        self.check = EnergyCheck()
        self.now = 0.0
        self.energy = 1000.0 * KILOWATT_HOUR

    def passes(
        self,
        seconds: float,
        *,
        truth: float,
        every: float = 30.0,
        step: float | None = None,
        held: float | None = None,
    ) -> EnergyCheck:
        """``step`` is the resolution of the counter in joules; ``held`` what the plug reports as watts."""
        end = self.now + seconds
        due = self.now
        while self.now < end:
            if self.now >= due:
                due += every
                counted = None if step is None else self.energy // step * step
                self.check.reported(counted, self.now)
            self.check.passed(5.0, held, 2.5)
            self.energy += truth * 2.5
            self.now += 2.5
        return self.check


def test_nothing_is_said_before_enough_minutes_were_compared() -> None:
    check = Hour().passes(2.5 * WINDOW, truth=6.0, step=1.0)

    assert check.ratio is None and not check.steady


@pytest.mark.parametrize("step", [1.0, 0.001 * KILOWATT_HOUR / 100], ids=["joules", "hundredths of a Wh"])
def test_a_fine_counter_tells_the_ratio_though_no_power_is_reported(step: float) -> None:
    check = Hour().passes(6 * WINDOW, truth=6.0, step=step)

    assert check.ratio == pytest.approx(1.2, rel=0.03) and check.steady


@pytest.mark.parametrize("step", [0.001 * KILOWATT_HOUR, 0.01 * KILOWATT_HOUR])
def test_a_coarse_counter_leaves_it_to_the_power_that_is_held(step: float) -> None:
    # Ten minutes of 7 W are one step of 0.001 kWh or two.
    check = Hour().passes(6 * WINDOW, truth=7.0, step=step, held=7.0)

    assert check.ratio == pytest.approx(1.4, rel=0.02) and check.steady


def test_a_counter_that_was_reset_or_wrapped_is_not_taken_for_energy() -> None:
    hour = Hour()
    hour.energy = 0.0
    hour.passes(WINDOW / 2, truth=6.0, step=1.0)
    hour.energy = 0.0
    check = hour.passes(3.5 * WINDOW, truth=6.0, step=1.0)

    assert check.ratio == pytest.approx(1.2, rel=0.03) and check.steady


def test_a_machine_that_slept_does_not_count_what_it_used_meanwhile() -> None:
    hour = Hour()
    hour.passes(4 * WINDOW, truth=6.0, step=1.0)
    hour.energy += 3600.0 * 2.0
    hour.now += 3600.0
    hour.check.passed(5.0, None, 3600.0)
    check = hour.passes(3 * WINDOW, truth=6.0, step=1.0)

    assert check.ratio == pytest.approx(1.2, rel=0.03) and check.steady


def test_what_goes_up_and_down_is_not_steady() -> None:
    hour = Hour()
    for truth in (4.0, 9.0, 4.0, 9.0, 4.0):
        hour.passes(1.2 * WINDOW, truth=truth, step=1.0)

    assert hour.check.ratio is not None and not hour.check.steady


def test_a_plug_with_a_whole_desk_behind_it_is_no_check() -> None:
    assert Hour().passes(6 * WINDOW, truth=80.0, step=1.0).ratio is None


def test_a_power_that_nobody_confirms_ends_the_window() -> None:
    hour = Hour()
    hour.passes(WINDOW / 2, truth=6.0, held=6.0)
    hour.passes(WINDOW / 2, truth=6.0, held=None, every=1e9)
    check = hour.passes(2.5 * WINDOW, truth=6.0, held=6.0)

    assert check.ratio is None  # two whole windows since
    assert hour.passes(1.5 * WINDOW, truth=6.0, held=6.0).ratio == pytest.approx(1.2, rel=0.02)
