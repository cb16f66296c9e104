"""Rules of the fault simulator: one seed is one run, every rule holds, and failures become small."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgemesh.simulation.faults import command as commanding
from edgemesh.simulation.faults import search as searching
from edgemesh.simulation.faults.command import main
from edgemesh.simulation.faults.minimise import minimal
from edgemesh.simulation.faults.run import played
from edgemesh.simulation.faults.schedules import DEVICES, FAULTS, Deed, Schedule, schedule_of
from edgemesh.simulation.faults.search import search
from edgemesh.simulation.faults.trace import Trace
from tests.simulation.planted import BUGS

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = 300
CALM_SEEDS = [seed for seed in range(200) if schedule_of(seed).calm]


def test_every_rule_holds_under_three_hundred_schedules() -> None:
    cores = min(4, os.cpu_count() or 1)

    founds = list(search(0, SCHEDULES, cores, None))

    assert sum(found.count for found in founds) == SCHEDULES
    assert [entry for found in founds for entry in found.broken] == []


@pytest.mark.parametrize(
    "seed",
    [
        1156,
        60010741,
        60011213,
        60021770,
        60029506,
        70001213,
        70002214,
        70009370,
        70011015,
        70016521,
        70025461,
        70028410,
        70030458,
        70030755,
        70031091,
        70042219,
        70042336,
        70050516,
        70058797,
        70062040,
        70082947,
        70084747,
        80000442,
    ],
)
def test_a_schedule_that_broke_a_rule_once_breaks_none(seed: int) -> None:
    """The changelog says what each found."""
    assert played(schedule_of(seed)).broken is None


def route_told(line: str) -> str:
    """The route of an assignment in a line of a trace."""
    return line.partition(") ")[2].partition(" (")[0]


def test_a_seed_is_the_same_run_whatever_order_sets_have() -> None:
    """Strings hash differently in each process, and workers of a search are processes of their own."""
    command = [sys.executable, str(ROOT / "tools" / "simulate-faults"), "--seed", "40", "--trace"]
    traces = [
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": order},
        ).stdout
        for order in ("1", "2")
    ]

    assert traces[0] == traces[1] and traces[0].count("\n") > 50


def test_the_same_seed_is_the_same_run_line_by_line() -> None:
    first, second = Trace(), Trace()

    played(schedule_of(3), first.watch)
    played(schedule_of(3), second.watch)

    assert first.lines == second.lines and len(first.lines) > 50


def test_every_kind_of_fault_happens() -> None:
    kinds = {deed.kind for seed in range(60) for deed in schedule_of(seed).deeds}

    assert set(FAULTS) - {"burst"} <= kinds


@pytest.mark.slow
def test_what_schedules_seldom_lead_to_is_reached_and_counted() -> None:
    reached = sum((played(schedule_of(seed)).reached for seed in range(40)), Counter())

    assert set(reached) == {
        "a client was stopped",
        "a client was stopped beyond its keep-alive",
        "a standby was stopped",
        "messages waited for a window",
        "messages were dropped over a limit",
        "messages were overtaken",
    }


def test_a_failing_schedule_is_made_small_and_still_breaks_the_same_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bug = BUGS["timer_lost_in_takeover"]
    bug.plant(monkeypatch)
    outcome = next(o for s in range(bug.found_by, 60) if (o := played(schedule_of(s))).broken is not None)

    smallest = minimal(outcome)

    assert smallest.broken is not None and outcome.broken is not None
    assert smallest.broken.rule == outcome.broken.rule
    assert len(smallest.schedule.deeds) <= 3 < len(outcome.schedule.deeds)


def test_a_search_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "done"
    before = list(search(0, 3, 1, file))

    monkeypatch.setattr(searching, "played", None)  # nothing may be played again
    after = list(search(0, 3, 1, file))

    assert after == [replace(found, kept=True) for found in before]


def test_an_interrupted_search_says_how_to_go_on_and_ends_as_interrupted_programs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(commanding, "search", interrupted)

    assert main(["--resume", str(tmp_path / "done")]) == 130

    assert f"go on with --resume {tmp_path / 'done'}" in capsys.readouterr().err


def test_what_was_kept_counts_neither_for_the_pace_nor_for_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(searching, "_CHUNK", 1)
    list(search(0, 2, 1, tmp_path / "done"))
    moments = iter((0.0, 0.0, 0.0, 10.0, 20.0))
    monkeypatch.setattr(commanding, "time", SimpleNamespace(monotonic=lambda: next(moments)))

    assert main(["--schedules", "3", "--jobs", "1", "--resume", str(tmp_path / "done"), "--json"]) == 0

    told = capsys.readouterr()
    assert told.err == "3 of 3 schedules, 0.1 per second, 0:00:00 left, 0 failing\n"
    assert "3 schedules, 2 of them kept from before, in 20 s: 0 break a rule" in told.out
    assert json.loads(told.out.splitlines()[-1])["kept from before"] == 2


def test_a_line_that_was_cut_off_is_played_again_and_then_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "done"
    before = list(search(0, 2, 1, file))
    file.write_text(file.read_text()[:20])

    assert list(search(0, 2, 1, file)) == before
    monkeypatch.setattr(searching, "played", None)
    assert list(search(0, 2, 1, file)) == [replace(found, kept=True) for found in before]


def test_what_other_code_played_is_played_again(tmp_path: Path) -> None:
    file = tmp_path / "done"
    (found,) = search(0, 2, 1, file)
    file.write_text(file.read_text().replace(found.code, "0" * 64))

    assert not any(found.kept for found in search(0, 2, 1, file))


def test_the_command_ends_with_one_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "2", "--jobs", "1", "--json"]) == 0

    last = capsys.readouterr().out.splitlines()[-1]
    (claim,) = json.loads(last)["claims"]
    assert claim == {"claim": "schedules that break a rule", "value": 0, "limit": 0, "holds": True}


def test_the_command_shows_the_smallest_failure_and_how_to_replay_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    BUGS["reply_not_deduplicated"].plant(monkeypatch)

    assert main(["--schedules", "1", "--seed", "0", "--jobs", "1"]) == 1

    shown = capsys.readouterr().out
    assert "deeds are enough" in shown and "one end per job" in shown
    assert "tools/simulate-faults --schedules 1 --seed 0 --trace" in shown
    assert main(["--seed", "0", "--trace"]) == 1
    assert "ended twice" in capsys.readouterr().out


def test_no_schedules_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--schedules", "0"])

    assert ended.value.code == 2


@pytest.mark.parametrize("seed", CALM_SEEDS[:4])
def test_few_jobs_are_sent_twice_in_calm(seed: int) -> None:
    outcome = played(schedule_of(seed))

    assert outcome.broken is None
    assert outcome.hedged <= 0.05 * outcome.ended.total()


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_becomes_ten_times_slower_causes_no_storm_of_duplicates(device: str) -> None:
    jobs = [Deed(0.3 * n, "job", "anywhere", 10.0, name=f"j-{n}") for n in range(200)]
    slow = Deed(15.0, "slow-device", device, 40.0, 10.0)
    schedule = Schedule(7, 61.0, tuple(sorted([*jobs, slow], key=lambda deed: deed.at)))

    outcome = played(schedule)

    assert outcome.broken is None
    assert outcome.ended[None] == outcome.ended.total()
    assert outcome.hedged <= 0.05 * outcome.ended.total()


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_becomes_ten_times_slower_and_quick_again_makes_no_plan_flap(device: str) -> None:
    trace = Trace()
    slow = Deed(15.0, "slow-device", device, 40.0, 10.0)
    jobs = [Deed(0.3 * n, "job", "anywhere", 10.0, name=f"j-{n}") for n in range(300)]
    schedule = Schedule(7, 91.0, tuple(sorted([*jobs, slow], key=lambda deed: deed.at)))

    assert played(schedule, trace.watch).broken is None

    routes = [route_told(line) for line in trace.lines if "assignment face app:" in line]
    assert routes[0] == routes[-1] == "desktop 4"
    changes = sum(one != other for one, other in itertools.pairwise(routes))
    assert changes == (2 if device == "desktop" else 0), routes  # away from it, and back


def test_what_is_repaired_before_the_end_is_repaired_by_itself() -> None:
    deeds = tuple(Deed(5.0 + n, "pause", device, 100.0) for n, device in enumerate(DEVICES))

    outcome = played(replace(schedule_of(CALM_SEEDS[0]), length=30.0, deeds=deeds, calm=False))

    assert outcome.broken is None
