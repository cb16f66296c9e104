"""Power meters, from simulated trees of the kernel: wraps, resets, absences, and whose figure counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.device.power import pmic
from edgemesh.device.power.battery import find_battery
from edgemesh.device.power.ina import chip_name, chip_watts, find_ina
from edgemesh.device.power.ina_address import InaAddress, parsed_ina
from edgemesh.device.power.meter import Meter, Place, Sampled
from edgemesh.device.power.meters import PowerMeters
from edgemesh.device.power.rapl import find_rapl
from edgemesh.errors import SettingsError

RANGE = 262_143_328_850
"""Microjoules at which the counter of an N100 wraps."""


def write(file: Path, text: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path, clock: Clock) -> Place:
    return Place(tmp_path, clock)


def domain(place: Place, folder: str, name: str, energy: int, wraps_at: int = RANGE) -> None:
    at = place.root / "sys/class/powercap" / folder
    write(at / "name", name)
    write(at / "energy_uj", energy)
    write(at / "max_energy_range_uj", wraps_at)


def advanced(place: Place, clock: Clock, seconds: float, **energies: int) -> None:
    """The counters after some seconds; ``_`` stands for what a keyword cannot hold."""
    clock.now += seconds
    for folder, energy in energies.items():
        write(
            place.root / "sys/class/powercap" / folder.replace("__", ":").replace("_", "-") / "energy_uj",
            energy,
        )


def found(meter: Meter | str | None) -> Meter:
    assert meter is not None and not isinstance(meter, str), meter
    return meter


# --- RAPL ------------------------------------------------------------------------------------------------


def test_rapl_adds_packages_and_not_what_lies_within_them(place: Place, clock: Clock) -> None:
    domain(place, "intel-rapl:0", "package-0", 1_000_000)
    domain(place, "intel-rapl:0:0", "core", 500_000)
    domain(place, "intel-rapl:1", "package-1", 5_000_000)
    domain(place, "intel-rapl-mmio:0", "package-0", 1_000_000)
    meter = found(find_rapl(place))
    assert meter.watts() is None  # a counter says nothing until it has advanced

    advanced(
        place, clock, 2.0, intel_rapl__0=21_000_000, intel_rapl__0__0=15_000_000, intel_rapl__1=15_000_000
    )

    assert meter.watts() == pytest.approx((20.0 + 10.0) / 2.0)
    assert meter.source == "rapl"


def test_rapl_takes_the_whole_platform_where_it_is_counted(place: Place, clock: Clock) -> None:
    domain(place, "intel-rapl:0", "package-0", 0)
    domain(place, "intel-rapl:1", "psys", 7)
    meter = found(find_rapl(place))
    meter.watts()

    advanced(place, clock, 1.0, intel_rapl__0=9_000_000, intel_rapl__1=14_000_007)

    assert (meter.watts(), meter.source) == (pytest.approx(14.0), "rapl psys")


def test_a_platform_counter_that_never_moves_does_not_hide_the_package(place: Place, clock: Clock) -> None:
    domain(place, "intel-rapl:0", "package-0", 5)
    domain(place, "intel-rapl:1", "psys", 0)
    meter = found(find_rapl(place))
    meter.watts()

    advanced(place, clock, 1.0, intel_rapl__0=9_000_005)

    assert meter.watts() == pytest.approx(9.0)


@given(
    start=st.integers(RANGE - 5_000_000_000, RANGE - 1),
    advances=st.lists(st.integers(1_000_000, 4_000_000_000), min_size=1, max_size=8),
)
def test_a_counter_that_wraps_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start: int, advances: list[int]
) -> None:
    clock = Clock()
    place = Place(tmp_path_factory.mktemp("wrap"), clock)
    domain(place, "intel-rapl:0", "package-0", start)
    meter = found(find_rapl(place))
    meter.watts()

    total = start
    for advance in advances:
        total += advance
        advanced(place, clock, 1.0, intel_rapl__0=total % RANGE)

        assert meter.watts() == pytest.approx(advance * 1e-6)


def test_a_counter_that_was_reset_gives_no_figure_and_then_goes_on(place: Place, clock: Clock) -> None:
    domain(place, "intel-rapl:0", "package-0", 200_000_000_000)
    meter = found(find_rapl(place))
    meter.watts()

    advanced(place, clock, 2.5, intel_rapl__0=1_000)
    after_reset = meter.watts()
    advanced(place, clock, 2.5, intel_rapl__0=25_001_000)

    assert after_reset is None
    assert meter.watts() == pytest.approx(10.0)


def test_counters_that_only_root_may_read_are_named_with_the_cure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain(place, "intel-rapl:0", "package-0", 5)

    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)  # the tests may run as root, who is never refused
    why = find_rapl(place)

    assert isinstance(why, str)
    assert "only root" in why and "intel-rapl:0/energy_uj" in why and "udev" in why


# --- battery ---------------------------------------------------------------------------------------------


def battery(place: Place, name: str, **files: object) -> None:
    for file, text in {"type": "Battery", "status": "Discharging", **files}.items():
        write(place.root / "sys/class/power_supply" / name / file, text)


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({"power_now": 7_300_000}, 7.3),
        ({"current_now": 650_000, "voltage_now": 11_400_000}, 7.41),
        ({"current_now": -650_000, "voltage_now": 11_400_000}, 7.41),
        ({"power_now": 7_300_000, "status": "Charging"}, None),
        ({"power_now": 0, "status": "Full"}, None),
        ({"power_now": "garbage"}, None),
    ],
)
def test_a_battery_tells_what_is_drawn_from_it_and_nothing_else(
    place: Place, files: dict[str, object], watts: float | None
) -> None:
    battery(place, "BAT0", **files)

    assert found(find_battery(place)).watts() == (None if watts is None else pytest.approx(watts))


def test_two_batteries_of_a_laptop_count_and_that_of_its_mouse_does_not(place: Place) -> None:
    battery(place, "BAT0", power_now=5_000_000)
    battery(place, "BAT1", power_now=2_000_000)
    battery(place, "hidpp_battery_0", power_now=90_000_000, scope="Device")

    assert found(find_battery(place)).watts() == pytest.approx(7.0)


def test_a_battery_without_power_is_no_meter(place: Place) -> None:
    battery(place, "BAT0", capacity=80)

    assert find_battery(place) is None


# --- Pi 5 ------------------------------------------------------------------------------------------------

PMIC = """\
   3V7_WL_SW_A current(0)=0.10000000A
     VDD_CORE_A current(7)=0.80000000A
   3V7_WL_SW_V volt(8)=3.70000000V
     VDD_CORE_V volt(15)=0.90000000V
       EXT5V_V volt(24)=5.15064000V
        BATT_V volt(25)=0.00000000V
"""


def pi_5(place: Place) -> None:
    write(place.root / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0")


def test_the_power_chip_sums_rails_with_both_figures_and_corrects_its_under_reading(place: Place) -> None:
    pi_5(place)

    meter = pmic.find_pmic(place, lambda: PMIC)

    rails = 0.1 * 3.7 + 0.8 * 0.9
    assert pmic.parsed_rails(PMIC) == pytest.approx(rails)
    assert pmic.board_watts(PMIC) == pytest.approx(1.1451 * rails + 0.5879)
    assert "without USB" in found(meter).source


def test_a_published_example_of_the_correction() -> None:
    assert pmic.board_watts("A_A current(0)=3.0A\nA_V volt(1)=1.0V\n") == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("answer", [None, "", 'error=1 error_msg="Command not registered"', "VCHI failed"])
def test_a_pi_5_that_does_not_answer_says_what_to_do(place: Place, answer: str | None) -> None:
    pi_5(place)

    why = pmic.find_pmic(place, lambda: answer)

    assert isinstance(why, str) and "group video" in why


def test_no_other_board_is_asked_for_its_power_chip(place: Place) -> None:
    write(place.root / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5")

    assert pmic.find_pmic(place, lambda: PMIC) is None


# --- INA219, INA226 --------------------------------------------------------------------------------------


def bound(place: Place, hwmon: str, at: str, **files: object) -> None:
    folder = place.root / "sys/class/hwmon" / hwmon
    for file, text in {"name": "ina219", **files}.items():
        write(folder / file, text)
    chip = place.root / "sys/devices/i2c" / at
    chip.mkdir(parents=True, exist_ok=True)
    (folder / "device").symlink_to(chip)


def sampled(meter: Meter | str | None) -> float | None:
    """One sample, without the thread."""
    assert isinstance(meter, Sampled)
    meter.close()
    meter.sample()
    return meter.watts()


@pytest.mark.parametrize(
    "files",
    [{"power1_input": 4_500_000}, {"curr1_input": 900, "in1_input": 5000}],
    ids=["power", "current and voltage"],
)
def test_the_kernels_driver_is_read_where_it_is_bound(place: Place, files: dict[str, object]) -> None:
    bound(place, "hwmon0", "1-0040", **files)

    assert sampled(find_ina(place)) == pytest.approx(4.5)


def test_of_several_chips_a_person_says_which_and_with_what_shunt(place: Place, clock: Clock) -> None:
    bound(place, "hwmon0", "1-0040", power1_input=4_500_000, shunt_resistor=10_000)
    bound(place, "hwmon1", "1-0041", power1_input=1_000_000, shunt_resistor=10_000)
    why = find_ina(place)
    named = Place(place.root, clock, InaAddress(1, 0x40, 0.02))

    assert isinstance(why, str) and "--ina" in why
    # The kernel took 10 milliohm for what is 20: half of the current flows in truth.
    assert sampled(find_ina(named)) == pytest.approx(2.25)


def registers(**values: int) -> Callable[[int], int]:
    known = {"shunt": 1, "bus": 2, "maker": 0xFE}
    return {known[name]: value for name, value in values.items()}.__getitem__


def test_both_chips_are_told_apart_and_read_with_their_own_steps() -> None:
    ina219 = registers(shunt=9000, bus=(1275 << 3) | 0b010, maker=0xFFFF)
    ina226 = registers(shunt=6000, bus=4080, maker=0x5449)

    assert (chip_name(ina219), chip_name(ina226)) == ("ina219", "ina226")
    assert chip_watts(ina219, "ina219", 0.1) == pytest.approx(0.9 * 5.1)  # 90 mV at 0.1 ohm, 5.1 V
    assert chip_watts(ina226, "ina226", 0.015) == pytest.approx(1.0 * 5.1)  # 15 mV at 15 milliohm


def test_a_shunt_the_wrong_way_round_measures_the_same() -> None:
    assert chip_watts(registers(shunt=0x10000 - 9000, bus=1275 << 3), "ina219", 0.1) == pytest.approx(4.59)


def test_a_bus_that_is_not_there_is_named(place: Place, clock: Clock) -> None:
    why = find_ina(Place(place.root, clock, parsed_ina("7:0x40:0.1")))

    assert isinstance(why, str) and "0x40" in why and "i2c-7" in why


def test_an_address_reads_as_people_write_it() -> None:
    assert parsed_ina("1:0x40:0.1") == parsed_ina("1:64:.1") == InaAddress(1, 0x40, 0.1)


@pytest.mark.parametrize(
    "text", ["", "1", "1:0x40", "1:0x20:0.1", "1:0x40:0", "1:0x40:99", "a:0x40:0.1", "1:0x40:-1"]
)
def test_an_address_that_no_chip_has_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parsed_ina(text)


# --- together --------------------------------------------------------------------------------------------


def test_a_sampled_meter_gives_the_mean_of_its_samples_and_skips_failures() -> None:
    answers: list[float | None] = [2.0, None, 4.0, 9.0]
    meter = Sampled("test", lambda: answers.pop(0), period=1.0)
    meter.close()  # no thread: the samples are taken here
    for _ in range(3):
        meter.sample()

    assert meter.watts() == pytest.approx(3.0)
    assert meter.watts() is None
    meter.sample()
    assert meter.watts() == pytest.approx(9.0)


def test_a_sampled_meter_reads_by_itself_until_it_is_closed() -> None:
    sampled_thrice = threading.Semaphore(0)

    def power() -> float:
        sampled_thrice.release()
        return 5.0

    meter = Sampled("test", power, period=0.001)
    assert meter.watts() == 5.0
    assert all(sampled_thrice.acquire(timeout=10) for _ in range(3))
    meter.close()
    assert meter._thread is not None
    meter._thread.join(10)

    assert not meter._thread.is_alive()


def test_a_sampled_meter_without_a_thread_reads_by_itself_once_it_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found by a reader: a board that was short of threads for a moment had no watts from then on."""
    asked = threading.Semaphore(0)

    def power() -> float:
        asked.release()
        return 4.0

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    meter = Sampled("a meter", power, 0.0)
    with monkeypatch.context() as short_of_threads:
        short_of_threads.setattr(threading.Thread, "start", none_left)
        assert meter.watts() == 4.0
    assert meter.watts() == 4.0
    for _ in range(4):  # two of them by the thread
        assert asked.acquire(timeout=20)
    meter.close()


def test_a_machine_without_meters_has_none_and_no_complaint(place: Place) -> None:
    meters = PowerMeters(place)

    assert (meters.meters, meters.notes, meters.read()) == ((), (), None)


def test_the_battery_goes_before_the_processor_while_it_discharges(place: Place, clock: Clock) -> None:
    battery(place, "BAT0", power_now=12_000_000)
    domain(place, "intel-rapl:0", "package-0", 0)
    meters = PowerMeters(place)
    first = meters.read()

    advanced(place, clock, 2.0, intel_rapl__0=6_000_000)
    battery(place, "BAT0", power_now=30_000_000, status="Charging")

    assert first == (12.0, "battery")
    assert meters.read() == (pytest.approx(3.0), "rapl")
