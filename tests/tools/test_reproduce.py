"""``tools/reproduce``: plans, figures, claims and the report; and one short run on a real testbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import reproduction.experiment
import reproduction.made_of
from benchmarks.report import NotMeasurableError
from reproduction.evaluation import evaluation
from reproduction.experiment import Experiment, Plan
from reproduction.made_of import UNKNOWN
from reproduction.perform import Performer, Record, arrivals
from reproduction.results import Figures, Result, Results, figures
from reproduction.stored import Stored, again_text, played_again, read_results, record_file
from reproduction.study import NETWORKS, SCENARIOS, Planned, Run, all_runs, planned, scenario_of
from reproduction.tables import head, rows
from reproduction.truth import case, measured_table, stretched
from testbeds.checking import Check
from testbeds.network import why_not

from edgemesh.device.boards import load_board
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import Profile
from edgemesh.simulation.plans import Case
from edgemesh.simulation.unit_tables import unit_table

ROOT = Path(__file__).resolve().parents[2]

_PLAIN = Figures(100, 0, 0, 0.1, 0.1, 0.12, 2.0, 2.0, 1000.0, 0, 0.05)


def _case(scenario: str = "link", objective: str = "latency", slower: float = 2.0) -> Any:
    run = Run("mobilenetv2", scenario, objective, "static")
    return case(scenario_of(run), unit_table("mobilenetv2"), slower)


def _result(policy: str, *, scenario: str = "link", objective: str = "latency", **changes: Any) -> Result:
    run = Run("alexnet", scenario, objective, policy)
    return Result(run, run.name, replace(_PLAIN, **changes), None)


def _claims(*results: Result) -> dict[str, Any]:
    return {claim.claim: claim for claim in Results(results).claims()}


def test_every_scenario_file_can_be_read_and_has_the_same_devices() -> None:
    scenarios = [scenario_of(Run("vgg16", name, "latency", "static")) for name in SCENARIOS]

    assert {tuple(device.board for device in scenario.devices) for scenario in scenarios} == {
        ("pi-4b", "laptop", "desktop")
    }
    assert [bool(scenario.changes) for scenario in scenarios] == [False, True, True, True, True]


def test_a_stretched_board_takes_longer_for_units_and_messages_and_draws_the_same() -> None:
    board = load_board("pi-4b")

    slow = stretched(board, 4.0)

    assert slow.speed("torch", "float32") == pytest.approx(board.speed("torch", "float32") / 4.0)
    assert slow.link is not None and board.link is not None
    assert slow.link.up_bytes_per_second == pytest.approx(board.link.up_bytes_per_second / 4.0)
    assert slow.link.delay_down == pytest.approx(board.link.delay_down * 4.0)
    assert slow.busy_watts == board.busy_watts


def test_a_measured_table_deals_the_operations_out_as_the_time_was() -> None:
    manifest = unit_table("alexnet")
    seconds = tuple(0.001 * (unit + 1) for unit in range(manifest.unit_count))
    profile = Profile(manifest.digest, manifest.format, "1", 1, seconds)

    table = measured_table(manifest, [profile, profile])

    total = sum(unit.macs for unit in manifest.units)
    assert sum(unit.macs for unit in table.units) == pytest.approx(total, rel=1e-6)
    shares = [unit.macs / total for unit in table.units]
    assert shares == pytest.approx([each / sum(seconds) for each in seconds], rel=1e-6)


def test_jobs_arise_at_the_same_times_for_the_same_seed_and_not_for_another() -> None:
    its_case = _case()

    times = arrivals(its_case, 1)

    assert times == arrivals(its_case, 1) != arrivals(its_case, 2)
    assert times == sorted(times) and times[-1] < its_case.scenario.duration


def test_policies_with_the_same_plans_are_one_experiment() -> None:
    calm = _case("calm")
    static, oracle, edge = (
        planned(Run("mobilenetv2", "calm", "latency", policy), calm, 1, 2.0)
        for policy in ("static", "oracle", "edge")
    )

    assert static.schedule == oracle.schedule != edge.schedule


def test_the_decision_node_is_another_experiment_for_each_objective() -> None:
    runs = [Run("mobilenetv2", "link", objective, "adaptive") for objective in ("latency", "energy")]

    schedules = {planned(run, _case("link", run.objective), 1, 2.0).schedule for run in runs}

    assert len(schedules) == 2


def _schedule(policy: str, its_case: Any) -> str:
    return planned(Run("mobilenetv2", "link", "latency", policy), its_case, 1, 2.0).schedule


def _changed(its_case: Any, **scenario: Any) -> Any:
    return replace(its_case, scenario=replace(its_case.scenario, **scenario))


def _with_other_watts(its_case: Any) -> Any:
    board = its_case.boards["pi"]
    watts = board.figures["power.busy_watts"]
    figures = {**board.figures, "power.busy_watts": replace(watts, value=3.0 * watts.value)}
    return replace(its_case, boards={**its_case.boards, "pi": replace(board, figures=figures)})


def test_a_run_on_other_figures_is_another_experiment() -> None:
    """Found by a reader: with other watts, deadline or policy the runs of before were taken for the same."""
    its_case = _case()
    policy = replace(its_case.scenario.policy, keep_input=True)
    others = [
        _with_other_watts(its_case),
        _changed(its_case, deadline=3.0),
        _changed(its_case, policy=policy),
        _changed(its_case, devices=its_case.scenario.devices[::-1]),
    ]

    schedules = {_schedule("adaptive", each) for each in [its_case, *others]}

    assert len(schedules) == 5


def test_a_run_of_other_code_is_another_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    its_case = _case()
    before = _schedule("static", its_case)
    (tmp_path / "roles.py").write_text("one = 1\n")
    monkeypatch.setattr(reproduction.made_of, "_CODE", (tmp_path,))
    schedules = {before}
    for text in ("one = 1\n", "one = 2\n", "one = 1\n"):
        (tmp_path / "roles.py").write_text(text)
        reproduction.made_of.code_digest.cache_clear()
        schedules.add(_schedule("static", its_case))
    reproduction.made_of.code_digest.cache_clear()

    assert len(schedules) == 3


def test_words_and_the_policy_of_a_plan_that_is_made_already_change_no_experiment() -> None:
    its_case = _case()
    changes = tuple(replace(change, source="somebody else") for change in its_case.scenario.changes)
    in_other_words = _changed(its_case, description="The same in other words.", changes=changes)
    policy = replace(its_case.scenario.policy, objective="bounded-energy")
    edge = Run("mobilenetv2", "link", "latency", "edge")

    parts = [planned(edge, each, 1, 2.0).made_of for each in (its_case, _changed(its_case, policy=policy))]

    assert _schedule("adaptive", in_other_words) == _schedule("adaptive", its_case)
    assert {name for name in parts[0] if parts[0][name] != parts[1][name]} <= {"pace of jobs"}


def test_a_start_in_a_folder_of_before_says_what_it_makes_again_and_why(tmp_path: Path) -> None:
    its_case = _case()
    runs = [Run("mobilenetv2", "link", "latency", policy) for policy in ("adaptive", "edge", "cloud")]
    plans = [planned(run, its_case, 1, 2.0) for run in runs]
    fits, other, old = plans
    records: dict[str, dict[str, Any]] = {
        fits.schedule: {"made_of": fits.made_of},
        "other": {"made_of": {**other.made_of, "boards": "b", "code": "c"}},
        "old": {"jobs": []},
    }
    for schedule, record in records.items():
        file = record_file(tmp_path, "mobilenetv2", schedule)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(record))
    before = dict(zip(runs, records))

    again = played_again(tmp_path, before, [*plans, replace(fits, run=replace(fits.run, network="vgg16"))])

    assert again == {other.schedule: ["other boards", "other code"], old.schedule: [UNKNOWN]}
    assert again_text(again) == (
        "2 runs of an earlier start do not fit and are made again: "
        f"1 (other boards; other code), 1 ({UNKNOWN})"
    )


def _started(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that a start in ``out`` makes, on a bed without processes."""
    made: list[str] = []

    def perform(plan: Planned, its_case: Case, seed: int) -> Record:
        made.append(plan.run.name)
        job = {"seconds": 0.1, "code": None, "joules": 1.0, "joules_held": 1.0, "hop_errors": []}
        return Record(jobs=[job])

    table = unit_table("mobilenetv2")
    bed = MagicMock(time_scale=2.0)
    bed.__enter__.return_value = bed
    monkeypatch.setattr(reproduction.experiment, "Bed", lambda *arguments, **options: bed)
    monkeypatch.setattr(
        reproduction.experiment, "opened", lambda folder: SimpleNamespace(manifest=table, path="")
    )
    monkeypatch.setattr(reproduction.experiment, "measured_table", lambda *arguments: table)
    monkeypatch.setattr(reproduction.experiment, "Performer", lambda *given: SimpleNamespace(perform=perform))
    (out / "models" / "mobilenetv2").mkdir(parents=True, exist_ok=True)
    (out / "models" / "mobilenetv2" / "manifest.json").touch()
    runs = [Run("mobilenetv2", "link", "latency", policy) for policy in ("adaptive", "edge")]
    Experiment(Plan(runs, out, 1, 1.0, False, "tools/reproduce")).carry_out()
    return made


def test_a_start_makes_what_an_earlier_one_has_not_or_has_of_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["mobilenetv2-link-latency-adaptive", "mobilenetv2-link-latency-edge"]

    assert _started(tmp_path, monkeypatch) == both
    assert _started(tmp_path, monkeypatch) == []
    assert "made again" not in capsys.readouterr().err
    monkeypatch.setattr(reproduction.made_of, "code_digest", lambda: "other")
    assert _started(tmp_path, monkeypatch) == both
    assert (
        "2 runs of an earlier start do not fit and are made again: 2 (other code)" in capsys.readouterr().err
    )
    assert len(read_results(tmp_path).results.all) == 2


def test_a_study_has_each_network_with_each_scenario() -> None:
    runs = all_runs(NETWORKS, SCENARIOS, ["latency", "energy"])

    assert len(runs) == len(set(runs))
    assert {(run.network, run.scenario) for run in runs} == {(n, s) for n in NETWORKS for s in SCENARIOS}


def test_figures_are_those_of_the_boards_and_count_what_was_lost() -> None:
    job = {
        "seconds": 0.4,
        "code": None,
        "joules": 1.0,
        "joules_held": 2.0,
        "hop_errors": [0.1],
        "attempts": 2,
    }
    lost = {"seconds": 4.0, "code": "deadline", "joules": 0.0, "joules_held": 0.0, "hop_errors": []}
    record = {
        "jobs": [job, lost],
        "joules_radio": 0.5,
        "nbytes": 100,
        "switches": [{}],
        "skipped": 3,
    }

    found = figures(record, slower=4.0)

    assert (found.jobs, found.lost, found.skipped, found.switches, found.repeated) == (2, 1, 3, 1, 1)
    assert found.mean == pytest.approx(0.55) and found.hop_error == pytest.approx(0.1)
    assert found.joules == pytest.approx(0.75) and found.joules_held == pytest.approx(1.25)


def test_a_gain_that_the_oracle_reaches_is_claimed() -> None:
    claims = _claims(_result("static"), _result("oracle", mean=0.06), _result("adaptive", mean=0.09))

    claim = claims["latency, adaptive against static, changing scenarios, best network"]
    assert claim.value == pytest.approx(0.9) and not claim.holds


def test_a_gain_that_the_oracle_does_not_reach_is_said_with_its_figure() -> None:
    claims = _claims(_result("static"), _result("oracle", mean=0.09), _result("adaptive", mean=0.091))

    claim = claims["latency, adaptive against static, changing scenarios, best network"]
    assert claim.value is None and "the oracle takes 0.900" in claim.note


def test_a_worst_figure_names_its_run() -> None:
    near = replace(_result("static"), simulated={"mean": 0.101, "joules": 1.0})
    far = _result("oracle", mean=0.2)
    far = replace(far, simulated={"mean": 0.1, "joules": far.figures.joules})
    claims = _claims(near, far, _result("adaptive", mean=0.21))

    worst = claims["simulator against testbed, same scenario and policy: mean latency off by, worst"]
    assert worst.value == pytest.approx(0.5) and worst.note == far.run.name
    adaptive = claims["adaptive against the oracle of each phase, worst of all changing scenarios"]
    assert adaptive.value == pytest.approx(1.05) and adaptive.note.endswith("-latency-adaptive")


def test_a_lost_job_breaks_its_claim_and_shared_runs_count_once() -> None:
    lost = _result("static", lost=1)
    claims = _claims(lost, replace(lost, run=replace(lost.run, policy="oracle")))

    assert claims["jobs lost, all runs"].value == 1


def test_results_come_back_from_json_as_they_were() -> None:
    result = replace(_result("static"), simulated={"mean": 0.1, "joules": 2.0})

    assert Result.of(json.loads(json.dumps(result.plain()))) == result


def test_the_table_of_runs_has_what_the_simulator_says(tmp_path: Path) -> None:
    asked = replace(_result("static"), simulated={"mean": 0.1234, "joules": 2.5})
    table = rows(_stored(tmp_path, asked, _result("oracle")))

    assert table[0][-2:] == ("123.4", "2.500") and table[1][-2:] == ("", "")
    assert {len(row) for row in table} == {len(head())}


def test_results_of_before_a_figure_was_counted_can_be_read() -> None:
    plain = _result("static").plain()
    del plain["figures"]["repeated"]

    assert Result.of(plain).figures.repeated is None


def _stored(folder: Path, *results: Result) -> Stored:
    check = Check("pi", "pi-4b", "alexnet", 1.0, 1.2)
    scales = {"alexnet": 2.5}
    began = "2026-01-01"
    return Stored(
        Results(results), (check,), scales, "tools/reproduce", "a machine", 1, 1.0, began, 3.0, folder
    )


def test_the_report_says_that_joules_are_of_one_attempt_and_how_many_jobs_had_others(tmp_path: Path) -> None:
    """Found by a reader: a job that ran three times has the joules of one that ran once."""
    often = [_result("static", repeated=3), _result("oracle", repeated=0)]
    shared = replace(often[0], run=replace(often[0].run, policy="adaptive"))

    counted = evaluation(_stored(tmp_path, *often, shared), None)
    of_before = evaluation(_stored(tmp_path, *often, _result("adaptive", repeated=None)), None)

    assert "of the attempt that answered" in counted and "of the attempt that answered" in of_before
    assert "3 of 200 jobs were sent more than once" in counted
    assert "more than once" not in of_before


def test_the_report_has_the_figures_of_the_results_and_of_the_peers(tmp_path: Path) -> None:
    results = [_result("static", mean=0.1234), _result("oracle"), _result("adaptive")]
    stored = _stored(tmp_path, *results)
    peers = tmp_path / "peers.json"
    claim = {"claim": "against gloo", "value": 1.01, "limit": 1.05, "unit": "x", "note": "", "holds": True}
    peers.write_text("told before\n" + json.dumps({"command": "tools/bench peers", "claims": [claim]}))

    text = evaluation(stored, peers)

    assert "| 123.4 |" in text and "alexnet 2.50 times" in text and "off by more than 10 %" in text
    assert "| against gloo | 1.010x | 1.05x | holds | `tools/bench peers` |" in text


_CAMERA = """
import json, sys
request, route, told, status = map(json.loads, sys.argv[1:])
print(json.dumps({"ready": True}), flush=True)
# Jobs that warm up have a minute each.
measured = request["deadline"] != 60.0
for at in request["at"][: told if measured else None]:
    print(json.dumps({"at": at, "seconds": 0.01, "code": None, "route": route}), flush=True)
sys.exit(status if measured else 0)
"""


def _bed_with_a_camera(told: int | None, status: int) -> Any:
    """A bed without processes; its camera ends as said, once that is measured."""
    bed = MagicMock(time_scale=1.0)
    bed.observer = SimpleNamespace(on_assignment=None)
    bed.link_bytes.return_value = {}
    plans: list[Assignment] = []

    def publish(topic: str, payload: bytes) -> None:
        plans.append(decode_json(Assignment, payload))
        bed.observer.on_assignment(plans[-1])

    def popen(command: list[str], device: str) -> subprocess.Popen[bytes]:
        route = [[hop.device, hop.stop] for hop in plans[-1].route]
        arguments = [command[-1], *map(json.dumps, (route, told, status))]
        return subprocess.Popen([sys.executable, "-c", _CAMERA, *arguments], stdout=subprocess.PIPE)

    bed.observer.publish, bed.popen = publish, popen
    return bed


def _performed(told: int | None, status: int) -> tuple[int, int]:
    """Jobs that arose, and those of the record."""
    run = Run("mobilenetv2", "calm", "latency", "static")
    its_case = case(scenario_of(run, share=0.05), unit_table("mobilenetv2"), 1.0)
    bed = _bed_with_a_camera(told, status)
    bed.devices = {device.name: device for device in its_case.scenario.devices}
    performer = Performer(bed, SimpleNamespace(name="mobilenetv2", digest="0" * 64))  # type: ignore[arg-type]
    record = performer.perform(planned(run, its_case, 1, 1.0), its_case, 1)
    return len(arrivals(its_case, 1)), len(record.jobs)


def test_a_run_has_each_job_that_arose() -> None:
    arose, recorded = _performed(None, 0)

    assert arose == recorded > 3


@pytest.mark.parametrize(("told", "status"), [(3, 1), (3, 0), (None, 1)])
def test_a_camera_that_dies_in_the_middle_is_no_run(told: int | None, status: int) -> None:
    """Found by a reader: three jobs of a hundred were told, and the claim of no lost job held."""
    with pytest.raises(NotMeasurableError, match="jobs"):
        _performed(told, status)


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=f"needs network namespaces: {why_not()}")
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_a_quick_run_ends_with_one_json_object_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "reproduce"), "--quick", "--json", "--out", str(tmp_path)]

    first = subprocess.run(command, capture_output=True, text=True, timeout=400, env=os.environ, check=False)
    records = {file: file.stat().st_mtime_ns for file in (tmp_path / "quick" / "runs").iterdir()}
    again = subprocess.run(command, capture_output=True, text=True, timeout=400, env=os.environ, check=False)

    for finished in (first, again):
        assert finished.returncode in (0, 1), finished.stderr
        report = json.loads(finished.stdout.splitlines()[-1])
        assert {"claims", "machine", "command", "figures"} <= report.keys()
        assert finished.returncode == (0 if all(claim["holds"] for claim in report["claims"]) else 1)
        claims = {claim["claim"]: claim for claim in report["claims"]}
        assert claims["jobs lost, all runs"]["value"] == 0
    assert len(records) == 3
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "quick" / "runs").iterdir()}
    assert kept.items() >= records.items() or "slower than in truth" in again.stderr
