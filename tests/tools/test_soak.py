"""``tools/soak`` puts real processes under load and says what became of each job, and what grew."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks.report import NotMeasurableError
from soaking.overload import recovered_after, seconds_of_taken
from soaking.tally import RIGHT, Job, Tally, ends
from soaking.usage import family, growth, rise, usage

from edgemesh.transport.local_broker import installed_mosquitto
from tests.tools.tool_runs import (
    assert_leaves_nothing_from_the_start,
    assert_takes_all_with_it,
    output_of,
    processes_of,
    started,
)

ROOT = Path(__file__).resolve().parents[2]

needs_mosquitto = pytest.mark.skipif(
    installed_mosquitto() is None, reason="needs Mosquitto: apt-get install mosquitto"
)


# --- growth ------------------------------------------------------------------------------------------------


def test_growth_is_the_slope_over_the_last_two_thirds_times_their_length() -> None:
    samples = [(float(at), 100.0 + 0.5 * at) for at in range(91)]

    assert growth(samples) == pytest.approx(0.5 * 60)


def test_what_a_process_takes_while_it_warms_up_is_no_growth() -> None:
    warm_up = [(float(at), float(at)) for at in range(30)]
    steady = [(float(at), 30.0) for at in range(30, 91)]

    assert growth([*warm_up, *steady]) == pytest.approx(0.0)


def test_one_look_at_a_peak_is_little_growth() -> None:
    samples = [(float(at), 50.0 + 30.0 * (at == 70)) for at in range(91)]

    assert abs(growth(samples)) < 2.0


@pytest.mark.parametrize("samples", [[], [(0.0, 1.0), (1.0, 9.0)], [(0.0, 1.0)]])
def test_too_few_looks_are_no_proof_that_nothing_grows(samples: list[tuple[float, float]]) -> None:
    with pytest.raises(NotMeasurableError, match="--jobs"):
        growth(samples)


def test_a_rise_is_of_the_end_over_the_start_without_the_warm_up() -> None:
    samples = [(float(at), 10.0 if at < 4 else 100.0 if at < 10 else 120.0) for at in range(20)]

    assert rise(samples) == pytest.approx(1.2)
    assert rise([(0.0, 5.0)]) == 1.0


def ended(end: str | None, *seconds: float, program: str = "app") -> list[Job]:
    """Jobs that began at 0."""
    return [Job(program, 0.0, None if end is None else took, end, int(end is not None)) for took in seconds]


def test_a_late_job_was_taken_on_and_never_in_time_and_a_refused_one_was_not_taken_on() -> None:
    jobs = [*ended(RIGHT, *[0.5] * 19), *ended("deadline", 2.0), *ended("busy", *[0.1] * 50)]

    assert seconds_of_taken(jobs) == {"app": [*[0.5] * 19, math.inf]}


def test_a_job_without_an_end_counts_as_a_late_one() -> None:
    assert seconds_of_taken([*ended(RIGHT, 0.5), *ended(None, 0.0)]) == {"app": [0.5, math.inf]}


def test_the_quick_jobs_of_one_program_do_not_hide_the_late_ones_of_another() -> None:
    jobs = [*ended(RIGHT, 0.1, 0.1, program="frames"), *ended("deadline", 2.0)]

    assert seconds_of_taken(jobs) == {"frames": [0.1, 0.1], "app": [math.inf]}
    assert seconds_of_taken(ended("busy", 0.1)) == {}


def jobs_of(*p95s: float) -> list[tuple[float, float]]:
    """Ten jobs in each second, all of which take what is named for it."""
    return [(second + at / 10, p95) for second, p95 in enumerate(p95s) for at in range(10)]


@pytest.mark.parametrize(
    ("p95s", "first"),
    [
        ((1.0, 1.0, 0.1, 0.1, 0.1), 2.0),
        ((0.1, 0.1, 0.1, 1.0), 0.0),
        ((1.0, 0.1, 1.0, 0.1, 0.1, 0.1), 3.0),
        ((0.1, 0.1, 1.0, 0.1, 0.1), math.inf),
        ((1.0, 1.0, 1.0), math.inf),
        ((), math.inf),
    ],
)
def test_recovery_begins_with_the_first_of_a_few_good_seconds_in_a_row(
    p95s: tuple[float, ...], first: float
) -> None:
    assert recovered_after(jobs_of(*p95s), 0.2, 3) == first


def test_a_second_with_a_job_that_failed_is_not_recovered() -> None:
    assert recovered_after([(0.6, math.inf), *jobs_of(0.1, 0.1, 0.1)], 0.2, 2) == 1.0


def test_a_second_in_which_no_job_began_is_not_recovered() -> None:
    jobs = [job for job in jobs_of(0.1, 0.1, 0.1, 0.1, 0.1) if int(job[0]) != 1]

    assert recovered_after(jobs, 0.2, 3) == 2.0


# --- the tally ---------------------------------------------------------------------------------------------


def test_the_first_end_of_a_job_counts_and_a_second_one_shows() -> None:
    tally = Tally()
    job = tally.begin("app", 1.0)

    tally.end(job, RIGHT, 1.5)
    tally.end(job, "busy", 9.0)

    assert (job.seconds, job.end, job.ends) == (0.5, RIGHT, 2)
    assert tally.open == 0 and tally.most_open == {"app": 1}


def test_a_job_without_an_end_is_told_apart() -> None:
    tally = Tally()
    jobs = [tally.begin("app", 1.0), tally.begin("app", 1.0)]

    tally.end(jobs[0], "busy", 2.0)

    assert ends(jobs) == {"busy": 1, "nothing": 1}
    assert jobs[1].seconds == math.inf
    assert not tally.wait_below(1, 0.0) and tally.wait_below(2, 0.0)


# --- processes ---------------------------------------------------------------------------------------------


def test_what_a_process_takes_is_read_for_it_and_its_children() -> None:
    command = [sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '60']).wait()"]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 20
        while len(found := family(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)

        assert found[0] == process.pid
        assert all(one.memory > 0 and one.threads == 1 for one in map(usage, found))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("arguments", [[], ["overload", "--jobs", "5"], ["leaks", "--jobs", "5"]])
def test_wrong_usage_is_said_with_status_two(arguments: list[str]) -> None:
    command = [sys.executable, str(ROOT / "tools" / "soak"), *arguments]

    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 2
    assert "usage" in finished.stderr


def finished_report(folder: Path, *arguments: str) -> dict[str, Any]:
    """What a run says, after it has left nothing behind."""
    output, errors = output_of(started("soak", folder, *arguments, "--json"))
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert report["failures"] == [], errors
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []
    return report


def counted(report: dict[str, Any]) -> dict[str, float]:
    """Claims on numbers of jobs: they hold however slow the machine is."""
    return {c["claim"]: c["value"] for c in report["claims"] if c["claim"].startswith(("jobs ", "results "))}


@pytest.mark.slow
@needs_mosquitto
def test_under_overload_each_job_ends_once_and_nothing_is_left_behind(tmp_path: Path) -> None:
    report = finished_report(tmp_path, "overload", "--quick")

    counts, figures = counted(report), report["figures"]
    assert len(counts) == 4 and set(counts.values()) == {0}, counts
    assert figures["overload: answered"] > 0
    accounted = [figures.get(f"overload: {end}", 0) for end in (RIGHT, "busy", "superseded", "deadline")]
    assert 0 < sum(accounted) <= figures["jobs of all phases but the first"]


@pytest.mark.slow
@needs_mosquitto
def test_a_long_run_accounts_for_each_job_and_knows_every_process(tmp_path: Path) -> None:
    report = finished_report(tmp_path, "leaks", "--jobs", "600")

    counts, figures = counted(report), report["figures"]
    assert set(counts.values()) == {0}, counts
    assert sum(number for name, number in figures.items() if name.startswith("jobs: ")) == 600
    assert figures["jobs: bad-input"] == 12
    watched = {c["claim"].split(":")[0] for c in report["claims"] if "threads more" in c["claim"]}
    assert watched == {"broker", "decision", "gateway", "alone", "alone executor", "client program"}


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_all_its_processes_with_it(tmp_path: Path, number: signal.Signals) -> None:
    process = started("soak", tmp_path, "leaks", "--json", "--jobs", "5000")

    assert_takes_all_with_it(process, tmp_path, number, least=6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_before_its_mesh_is_there_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Found by a reader: its folder stayed."""
    assert_leaves_nothing_from_the_start(started("soak", tmp_path, "leaks"), tmp_path, number)
