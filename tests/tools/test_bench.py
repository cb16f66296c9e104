"""``tools/bench`` keeps the contract of tools that measure: a table, one JSON object, an exit status."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from benchmarks import decide
from benchmarks.report import Report

from edgemesh.simulation.compare import Summary
from edgemesh.simulation.scenario import Scenario
from edgemesh.transport.local_broker import installed_mosquitto
from tests.tools.tool_runs import assert_takes_all_with_it, started

ROOT = Path(__file__).resolve().parents[2]
_MOSQUITTO = installed_mosquitto()


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "bench"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, env={**os.environ, **environment}, check=False
    )


def _report(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.stdout, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return report


def _check_shape(finished: subprocess.CompletedProcess[str], claims: int) -> None:
    report = _report(finished)
    assert {"claims", "machine", "command", "figures"} <= report.keys()
    assert len(report["claims"]) == claims
    for claim in report["claims"]:
        assert {"claim", "value", "limit", "holds"} <= claim.keys()
        if claim["value"] is None:
            assert claim["holds"] and "not reachable" in claim["note"]
        else:
            assert claim["holds"] == (claim["value"] <= claim["limit"])
    # Whether a claim holds depends on what else the machine does; that the status says so does not.
    holds = all(claim["holds"] for claim in report["claims"]) and not report["failures"]
    assert finished.returncode == (0 if holds else 1)


def test_decode_ends_with_one_json_object_whose_claims_decide_the_exit_status() -> None:
    finished = _run("decode", "--quick", "--json")

    _check_shape(finished, claims=1)
    assert "claim" in finished.stdout.splitlines()[-3]


@pytest.mark.slow
@pytest.mark.skipif(_MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.skipif(importlib.util.find_spec("tflite_runtime") is None, reason="tflite is not installed")
def test_hop_measures_three_sizes_against_a_real_broker() -> None:
    finished = _run("hop", "--quick", "--json")

    _check_shape(finished, claims=3)
    assert not _report(finished)["failures"], finished.stderr


@pytest.mark.slow
@pytest.mark.skipif(_MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_peers_compares_with_gloo_and_answers_rightly_when_a_half_is_killed() -> None:
    finished = _run("peers", "--quick", "--json")

    _check_shape(finished, claims=8)
    report = _report(finished)
    assert not report["failures"], finished.stderr
    killed = [name for name in report["figures"] if "half killed" in name]
    assert any("edgemesh" in name and "right answer" in name for name in killed), killed
    assert any("torch gloo" in name and "right answer" not in name for name in killed), killed


@pytest.mark.skipif(importlib.util.find_spec("tflite_runtime") is None, reason="tflite is not installed")
def test_a_benchmark_without_mosquitto_fails_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    command = importlib.import_module("benchmarks.command")
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    monkeypatch.setattr(sys, "argv", ["tools/bench", "hop", "--quick", "--json"])

    status = command.main()

    printed = capsys.readouterr()
    assert status == 1
    assert "mosquitto is not installed" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["failures"]


def test_an_unknown_name_is_wrong_usage() -> None:
    finished = _run("nothing")

    assert finished.returncode == 2
    assert "decode" in finished.stderr


@pytest.mark.slow
def test_decide_plays_simulated_meshes_and_needs_neither_broker_nor_runtime() -> None:
    finished = _run("decide", "--quick", "--json")

    _check_shape(finished, claims=9)
    report = _report(finished)
    assert not report["failures"], finished.stderr
    # Modelled, hence the same on every machine.
    assert report["figures"]["latency: cloud-latency, vgg16, static, modelled ms"] > 500.0


@pytest.mark.slow
@pytest.mark.skipif(_MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.skipif(importlib.util.find_spec("tflite_runtime") is None, reason="tflite is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_all_its_processes_with_it(tmp_path: Path, number: signal.Signals) -> None:
    """Found by a reader: a broker, an agent with its executor, and their folders were left."""
    process = started("bench", tmp_path, "hop", "--quick")

    # Folders are the tool's to remove, which SIGKILL leaves no time for.
    assert_takes_all_with_it(process, tmp_path, number, least=6, files=number != signal.SIGKILL)


@pytest.mark.parametrize(
    ("loses", "beyond"), [({}, 0), ({"decided": 3}, 6), ({"decided": 3, "oracle": 3}, 0)]
)
def test_a_decision_node_that_loses_jobs_does_not_hold(
    loses: dict[str, int], beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: jobs lost at once made the mean smaller, and all claims held.

    Lost in one scenario, which is played for latency and for energy.
    """

    def played(scenario: Scenario, model: str, name: str) -> Summary:
        lost = loses.get(name, 0) if scenario.name == "cloud-latency" else 0
        figures = (0.1, 0.1, 0.1, 1.0, 1.0, 0.0)
        objective = scenario.policy.objective
        return Summary(scenario.name, model, name, 100, lost, *figures, (), 0.01, objective, ())

    monkeypatch.setattr(decide, "played", played)
    monkeypatch.setattr(decide, "workers", lambda: ThreadPoolExecutor(1))
    report = Report("tools/bench decide", quick=True)

    decide.measure(report)

    (claim,) = [claim for claim in report.claims if "lost" in claim.claim]
    assert (claim.value, claim.holds) == (beyond, beyond == 0)


_PLAYING = """
import multiprocessing, signal, time
from benchmarks.decide import workers
signal.signal(signal.SIGTERM, signal.default_int_handler)
with workers() as pool:
    plays = [pool.submit(time.sleep, 100) for _ in range(4)]
    while not plays[0].running():
        time.sleep(0.01)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_play_end_with_the_one_that_waits_for_them(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tools")])}
    command = [sys.executable, "-c", _PLAYING]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    playing = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert playing

    process.send_signal(number)
    process.communicate(timeout=30)

    assert psutil.wait_procs(playing, timeout=20.0)[1] == []
