"""Readings of the machine, with psutil and from recorded kernel files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.device import procfs, resources
from edgemesh.device.power.meter import Place
from edgemesh.device.power.meters import PowerMeters
from edgemesh.device.resources import ResourceReader
from edgemesh.device.throttling import Throttling, decode_throttled, parse_throttled, throttling

STAT = "cpu  {user} 5 {system} {idle} 50 1 2 3 0 0\ncpu0 1 1 1 1\nintr 5\n"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def pi(tmp_path: Path) -> Path:
    """The kernel files of a Raspberry Pi 4 that is warm and badly supplied."""
    write(tmp_path / "proc/stat", STAT.format(user=100, system=50, idle=800))
    write(tmp_path / "proc/meminfo", "MemTotal: 3884268 kB\nMemFree: 1 kB\nMemAvailable: 3000000 kB\n")
    write(tmp_path / "proc/loadavg", "0.52 0.58 0.59 1/389 12345\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "82302\n")
    write(tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n")
    return tmp_path


def test_a_pi_is_read_without_psutil(tmp_path: Path) -> None:
    reader = ResourceReader(pi(tmp_path))
    write(tmp_path / "proc/stat", STAT.format(user=150, system=75, idle=825))

    readings = reader.read()

    assert readings.cpu == pytest.approx(0.75)
    assert readings.memory_total == 3884268 * 1024
    assert readings.memory_available == 3000000 * 1024
    assert readings.load == 0.52
    assert readings.temperature == pytest.approx(82.302)
    assert readings.throttled == ("under-voltage", "throttled")
    assert readings.throttled_since_boot == ("under-voltage", "throttled")
    assert (readings.battery, readings.on_battery) == (None, None)
    assert (readings.watts, readings.watts_source) == (None, None)


def test_the_fraction_stays_when_no_time_passed_or_the_counters_step_back(tmp_path: Path) -> None:
    reader = ResourceReader(root=pi(tmp_path))
    write(tmp_path / "proc/stat", STAT.format(user=150, system=75, idle=825))
    first = reader.read().cpu

    again = reader.read().cpu
    write(tmp_path / "proc/stat", STAT.format(user=10, system=5, idle=8))
    after_step_back = reader.read().cpu

    assert first == again == after_step_back == pytest.approx(0.75)


def test_a_machine_without_any_kernel_file_can_still_be_read(tmp_path: Path) -> None:
    readings = ResourceReader(root=tmp_path).read()

    assert readings == resources.Readings(cpu=0.0, memory_total=0, memory_available=0)


def test_old_kernels_have_no_available_memory(tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 1000 kB\nMemFree: 200 kB\nCached: 300 kB\n")

    assert ResourceReader(root=tmp_path).read().memory_available == 500 * 1024


def test_with_and_without_psutil_the_machine_reads_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    with_psutil = ResourceReader().read()

    monkeypatch.setattr(resources, "_psutil", None)
    without = ResourceReader().read()

    assert without.memory_total == with_psutil.memory_total
    assert without.memory_available == pytest.approx(with_psutil.memory_available, rel=0.2)
    assert 0.0 <= without.cpu <= 1.0
    told = {field.name: type(getattr(with_psutil, field.name)) for field in dataclasses.fields(with_psutil)}
    assert told == {field.name: type(getattr(without, field.name)) for field in dataclasses.fields(without)}


def test_a_kernel_without_power_supplies_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in a container without /sys: psutil raises there, and the device never told of its resources."""
    psutil = pytest.importorskip("psutil")

    def missing() -> None:
        raise FileNotFoundError("/sys/class/power_supply")

    monkeypatch.setattr(psutil, "sensors_battery", missing, raising=False)

    read = ResourceReader().read()

    assert read.memory_total > 0 and read.battery is None and read.on_battery is None


@pytest.mark.parametrize("function", ["cpu_times", "virtual_memory"])
@pytest.mark.parametrize("error", [PermissionError("/proc/stat"), FileNotFoundError("/proc"), TypeError()])
def test_a_machine_whose_counters_psutil_cannot_read_is_read_without_it(
    monkeypatch: pytest.MonkeyPatch, function: str, error: Exception
) -> None:
    """Found by a reader: where /proc is masked the agent ended, and asked for room on the disk."""
    psutil = pytest.importorskip("psutil")

    def masked() -> None:
        raise error

    monkeypatch.setattr(psutil, function, masked)
    monkeypatch.setattr(procfs, "cpu_ticks", lambda root: None)

    read = ResourceReader().read()

    assert read.memory_total > 0 and read.cpu == 0.0


def test_a_machine_that_does_not_tell_its_load_average_is_read_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def masked() -> None:
        raise OSError("Load averages are unobtainable")

    monkeypatch.setattr(os, "getloadavg", masked)
    monkeypatch.setattr(procfs, "load_average", lambda root: None)

    read = ResourceReader().read()

    assert read.memory_total > 0 and read.load is None


def test_a_laptop_on_its_battery_tells_its_watts(tmp_path: Path) -> None:
    for file, text in {
        "type": "Battery",
        "status": "Discharging",
        "capacity": "80",
        "power_now": "7300000",
    }.items():
        write(tmp_path / "sys/class/power_supply/BAT0" / file, text + "\n")

    readings = ResourceReader(tmp_path, PowerMeters(Place(tmp_path, clock=lambda: 0.0))).read()

    assert (readings.watts, readings.watts_source) == (pytest.approx(7.3), "battery")
    assert (readings.battery, readings.on_battery) == (0.8, True)


def test_the_processor_is_hotter_than_it_looks_among_other_zones(tmp_path: Path) -> None:
    thermal = tmp_path / "sys/class/thermal"
    for number, (kind, milli) in enumerate(
        [("PMIC-Die", 100000), ("CPU-therm", 45500), ("CPU-therm", 47000)]
    ):
        write(thermal / f"thermal_zone{number}/type", kind)
        write(thermal / f"thermal_zone{number}/temp", str(milli))

    assert procfs.temperature(tmp_path) == pytest.approx(47.0)


def test_a_desktop_tells_its_temperature_by_a_sensor(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0/temp1_input", "-274000")
    write(tmp_path / "sys/class/hwmon/hwmon1/temp1_input", "51250")

    assert procfs.temperature(tmp_path) == pytest.approx(51.25)


def test_the_battery_of_the_machine_counts_and_that_of_its_mouse_does_not(tmp_path: Path) -> None:
    supply = tmp_path / "sys/class/power_supply"
    for name, files in {
        "AC": {"type": "Mains", "online": "0"},
        "BAT0": {"type": "Battery", "capacity": "80", "status": "Discharging"},
        "BAT1": {"type": "Battery", "capacity": "40", "status": "Unknown"},
        "hidpp_battery_0": {"type": "Battery", "scope": "Device", "capacity": "5", "status": "Discharging"},
    }.items():
        for file, text in files.items():
            write(supply / name / file, text + "\n")

    fraction, on_battery = procfs.battery(tmp_path)

    assert fraction == pytest.approx(0.6)
    assert on_battery is True


@pytest.mark.parametrize(
    ("word", "now", "since_boot"),
    [
        (0x0, (), ()),
        (0x1, ("under-voltage",), ()),
        (0x2, ("frequency-capped",), ()),
        (0x4, ("throttled",), ()),
        (0x8, ("soft-temperature-limit",), ()),
        (0x50000, (), ("under-voltage", "throttled")),
        (0xA0000, (), ("frequency-capped", "soft-temperature-limit")),
        (0x50005, ("under-voltage", "throttled"), ("under-voltage", "throttled")),
    ],
)
def test_each_throttle_bit_has_its_reason(
    word: int, now: tuple[str, ...], since_boot: tuple[str, ...]
) -> None:
    assert decode_throttled(word) == Throttling(now, since_boot)


@given(st.integers(0, 0xFFFFF))
def test_both_ways_to_read_the_throttle_word_agree(word: int) -> None:
    assert (
        parse_throttled(f"throttled={word:#x}\n") == parse_throttled(f"{word:x}\n") == decode_throttled(word)
    )


@pytest.mark.parametrize(
    "text", ["", "throttled=", 'error=1 error_msg="Command not registered"', "VCHI failed"]
)
def test_a_firmware_that_does_not_answer_tells_nothing(text: str) -> None:
    assert parse_throttled(text) is None


def test_the_pi_5_has_the_file_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/platform/soc@107c000000/soc@107c000000:firmware"
    write(folder / "get_throttled", "20002\n")

    assert throttling(tmp_path) == Throttling(("frequency-capped",), ("frequency-capped",))


@pytest.mark.parametrize(("state", "now"), [("0", ()), ("3", ("frequency-capped",))])
def test_other_boards_tell_by_their_processor_coolers(
    tmp_path: Path, state: str, now: tuple[str, ...]
) -> None:
    coolers = tmp_path / "sys/class/thermal"
    write(coolers / "cooling_device0/type", "pwm-fan")
    write(coolers / "cooling_device0/cur_state", "2")
    write(coolers / "cooling_device1/type", "thermal-cpufreq-0")
    write(coolers / "cooling_device1/cur_state", state)

    assert throttling(tmp_path) == Throttling(now)
