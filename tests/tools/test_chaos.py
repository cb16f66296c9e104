"""``tools/chaos`` breaks a mesh of real processes and counts what became of each job."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import outages.streams
import psutil
import pytest
from benchmarks.report import Report
from outages.answers import Question
from outages.faults import DECISION_REPLACED, KILLED, KINDS, PAUSED, WIPED
from outages.findings import APP, LANE, Findings, quantile, report_on, told
from outages.mesh import ORIGIN
from outages.records import FaultRecord, Job, Records
from outages.relay import Relay
from outages.schedule import endless_kinds, quick_kinds
from outages.streams import PlainApp

from edgemesh.transport.local_broker import installed_mosquitto
from tests.tools.tool_runs import (
    assert_leaves_nothing_from_the_start,
    assert_takes_all_with_it,
    output_of,
    processes_of,
    started,
)

ROOT = Path(__file__).resolve().parents[2]

GUARDED = """
import signal, subprocess, time
from outages.guard import Guard
with Guard("run-") as guard:
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    guard.watch(child.pid)
    child.send_signal(signal.SIGSTOP)
    print(child.pid, flush=True)
    time.sleep(100)
"""


def job(began: float, seconds: float | None, stream: str = APP, **fields: Any) -> Job:
    ended = None if seconds is None else began + seconds
    right = None if seconds is None else True
    return Job(stream, 0, began, ended, **{"right": right, "ends": int(seconds is not None), **fields})


def reported(jobs: list[Job], faults: list[FaultRecord], **records: Any) -> dict[str, Any]:
    """Claims by their text up to the first count in it."""
    report = Report("tools/chaos", quick=True)
    report_on(Records(jobs, faults, **records), 1000.0, report)
    return {claim.claim: claim for claim in report.claims}


# --- the schedule ----------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_faults_again() -> None:
    first = list(quick_kinds(random.Random(4)))
    endless = [list(itertools.islice(endless_kinds(random.Random(4)), 40)) for _ in range(2)]

    assert list(quick_kinds(random.Random(4))) == first
    assert endless[0] == endless[1]
    assert list(quick_kinds(random.Random(5))) != first


def test_a_long_schedule_has_every_kind_of_fault_before_one_comes_again() -> None:
    begun = list(itertools.islice(endless_kinds(random.Random(1)), len(KINDS)))

    assert set(begun) == set(KINDS)


def test_a_quick_schedule_has_a_fault_for_each_claim() -> None:
    names = set(quick_kinds(random.Random(1)))

    assert {KILLED, PAUSED, WIPED, "gateway killed", "decision node killed"} <= names


# --- what is made of the records ---------------------------------------------------------------------------


def test_a_job_that_ends_in_an_error_is_lost() -> None:
    failed = job(0.0, 0.1, right=None, error="no route")

    claims = reported([job(10.0, 0.1), failed], [])

    assert claims["client library: lost"].value == 1
    assert not claims["client library: lost"].holds


def test_an_answer_that_differs_is_wrong_and_a_second_one_is_a_duplicate() -> None:
    jobs = [job(0.0, 0.1, right=False), job(1.0, 0.1, PlainApp.name, ends=2, again=[1.2])]

    claims = reported(jobs, [], stray=["outputs of no input that was sent"])

    assert claims["client library: wrong"].value == 1
    assert claims["plain app: duplicated"].value == 1
    assert claims["plain app: wrong"].value == 1


def test_a_paused_holder_that_takes_its_role_back_is_told() -> None:
    paused = [
        FaultRecord(DECISION_REPLACED, "a", 10.0, 30.0, 31.0, takeover=16.0, changed_hands=changed)
        for changed in (False, True)
    ]

    claims = reported([job(40.0, 0.1)], paused)

    assert (
        claims["decision node paused until replaced: roles that changed hands once it went on, of 2"].value
        == 1
    )
    assert claims["gateway paused until replaced: roles that changed hands once it went on"].value is None


def test_a_submission_that_a_broker_forgot_is_counted_apart_and_one_of_the_client_library_is_not() -> None:
    wiped = FaultRecord(WIPED, "broker", 10.0, 11.0, 13.0, lost_store=True)
    jobs = [job(10.5, None, PlainApp.name), job(10.5, None), job(20.0, None, PlainApp.name)]

    claims = reported(jobs, [wiped])

    assert claims["plain app: lost"].value == 1
    assert claims["client library: lost"].value == 1


def test_a_result_that_came_again_out_of_an_older_store_is_counted_apart() -> None:
    back = FaultRecord("broker killed, old store", "broker", 10.0, 11.0, 12.0, lost_store=True)
    answered_before = job(4.0, 0.1, PlainApp.name, ends=2, again=[11.5])
    in_calm = job(20.0, 0.1, PlainApp.name, ends=2, again=[20.2])
    records = Records([answered_before, in_calm], [back])

    report = Report("tools/chaos", quick=True)
    report_on(records, 1000.0, report)

    (claim,) = [claim for claim in report.claims if claim.claim == "plain app: duplicated"]
    (apart,) = [number for name, number in report.figures.items() if "with an older store" in name]
    assert (claim.value, apart) == (1, 1)
    lines = told(records, Findings(records, 1000.0), 0.0)
    assert [line.split()[0] for line in lines if "duplicated" in line] == ["20.0"]


def test_a_second_result_of_a_submission_that_was_sent_again_is_counted_apart() -> None:
    """Its connection ended before its PUBACK: the broker may have taken it twice, and no more."""
    sent_again = job(4.0, 0.1, PlainApp.name, ends=3, again=[4.2, 4.3], resubmitted=1)
    records = Records([sent_again], [])

    report = Report("tools/chaos", quick=True)
    report_on(records, 1000.0, report)

    (claim,) = [claim for claim in report.claims if claim.claim == "plain app: duplicated"]
    (apart,) = [number for name, number in report.figures.items() if "submitted again" in name]
    assert (claim.value, apart) == (1, 1)


def test_each_job_that_is_not_as_promised_has_a_line_that_says_what_became_of_it() -> None:
    failed = job(7.0, 0.1, right=None, error="NoRouteError: no route", attempts=3)
    twice = job(3.0, 0.1, PlainApp.name, ends=2, again=[3.2], told_as=["b-7-1", "b-8-4"])
    records = Records([job(1.0, 0.1), failed, twice])

    lines = told(records, Findings(records, 1000.0), began=0.0)

    assert [line.strip() for line in lines] == [
        "7.0 s  lost: job 0 of the client library, sent 3 times: NoRouteError: no route",
        "3.0 s  duplicated: job 0 of the plain app, sent 1 times; results b-7-1 at 3.10 s, b-8-4 at 3.20 s",
    ]


def test_lateness_is_what_a_job_takes_beyond_the_normal_time_of_its_stream() -> None:
    calm = [job(float(second), 0.1) for second in range(5)]
    late = job(9.9, 0.5, attempts=2)
    fault = FaultRecord(KILLED, "quick", 10.0, 10.5, 11.0)

    claims = reported([*calm, late], [fault])

    (claim,) = [claim for text, claim in claims.items() if "SIGKILL" in text]
    assert claim.value == pytest.approx(400.0)
    assert claim.limit == 500 and claim.holds


def test_jobs_that_begin_while_a_device_is_paused_count_and_those_after_a_kill_do_not() -> None:
    found = Findings(Records([job(0.0, 0.1)]), 1000.0)
    later = job(10.4, 0.7)

    assert found.late(FaultRecord(PAUSED, "quick", 10.0, 12.0), [later]) == [pytest.approx(0.6)]
    assert found.late(FaultRecord(KILLED, "quick", 10.0, 12.0), [later]) == []


def test_a_job_whose_own_agent_died_is_no_measure_of_the_mesh() -> None:
    calm = [job(float(second), 0.1, LANE) for second in range(5)]
    own = job(9.9, 3.0, LANE, attempts=2, handed_back=1)

    claims = reported([*calm, own], [FaultRecord(KILLED, ORIGIN, 10.0, 10.5, 14.0)])

    (claim,) = [claim for text, claim in claims.items() if "SIGKILL" in text]
    assert claim.value is None


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0], 0.95) == 1.0
    assert quantile(list(range(1, 101)), 0.95) == 95  # type: ignore[arg-type]


# --- the plain app -----------------------------------------------------------------------------------------

RIGHT = {"detections": [{"label": "face", "score": 0.9}]}


@pytest.fixture
def plain_app(monkeypatch: pytest.MonkeyPatch) -> tuple[Records, Callable[..., None]]:
    """What is known of an app that has submitted one input, and a way to tell it a result."""
    client, records = MagicMock(), Records()
    monkeypatch.setattr(outages.streams.paho, "Client", lambda *arguments, **options: client)
    monkeypatch.setattr(outages.streams, "_PERIOD", 0.0)
    app = PlainApp("mesh/", "face", [Question(b"", [], RIGHT)], records, 0)
    app.start()
    while not client.publish.called:
        time.sleep(0.001)
    app.over.set()
    app.join(0.0, 0.0)

    def tell(**result: Any) -> None:
        payload = json.dumps({"job": "b-1", "model": "face", **result})
        client.on_message(client, None, SimpleNamespace(payload=payload))

    return records, tell


def test_a_result_that_comes_again_as_it_was_is_right(
    plain_app: tuple[Records, Callable[..., None]],
) -> None:
    records, tell = plain_app

    tell(outputs=RIGHT, seconds=0.1)
    tell(outputs=RIGHT, seconds=0.1)

    assert (records.redelivered, records.stray) == (1, [])
    assert [(job.ends, job.right) for job in records.jobs] == [(1, True)]


@pytest.mark.parametrize(
    "again", [{"outputs": {"detections": []}}, {"outputs": {}, "code": "run-failed", "error": "after all"}]
)
def test_a_result_that_comes_again_as_another_is_wrong(
    plain_app: tuple[Records, Callable[..., None]], again: dict[str, Any]
) -> None:
    """Found by a reader: what came again under a job id was not looked at."""
    records, tell = plain_app

    tell(outputs=RIGHT)
    tell(**again)

    assert records.redelivered == 1
    claims = reported(records.jobs, [], stray=records.stray)
    assert claims["plain app: wrong"].value == 1


# --- the relay ---------------------------------------------------------------------------------------------


def test_a_relay_carries_bytes_falls_silent_and_cuts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(server.getsockname()[1])
        try:
            near = socket.create_connection(("127.0.0.1", relay.port), 5)
            far, _ = server.accept()
            near.settimeout(0.2)
            far.sendall(b"hello")
            assert near.recv(5) == b"hello"

            relay.mute()
            far.sendall(b"later")
            with pytest.raises(TimeoutError):
                near.recv(5)
            relay.restore()
            near.settimeout(5)
            assert near.recv(5) == b"later"

            relay.cut()
            assert near.recv(5) == b""
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", relay.port), 5)
            relay.restore()
            socket.create_connection(("127.0.0.1", relay.port), 5).close()
        finally:
            relay.close()


# --- processes ---------------------------------------------------------------------------------------------


def test_a_stopped_process_ends_with_a_run_that_was_killed(tmp_path: Path) -> None:
    imported = f"{ROOT}{os.pathsep}{ROOT / 'tools'}"
    environment = {**os.environ, "PYTHONPATH": imported, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", GUARDED]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    assert list(tmp_path.iterdir())

    process.kill()
    process.wait()
    process.stdout.close()

    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_wrong_usage_is_said_with_status_two() -> None:
    command = [sys.executable, str(ROOT / "tools" / "chaos"), "--seed", "many"]

    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 2
    assert "--seed" in finished.stderr


needs_mosquitto = pytest.mark.skipif(
    installed_mosquitto() is None, reason="needs Mosquitto: apt-get install mosquitto"
)


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_all_its_processes_with_it(tmp_path: Path, number: signal.Signals) -> None:
    process = started("chaos", tmp_path, "--quick", "--json")

    assert_takes_all_with_it(process, tmp_path, number, least=9)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_before_its_mesh_is_there_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Found by a reader: its folder stayed."""
    assert_leaves_nothing_from_the_start(started("chaos", tmp_path, "--quick"), tmp_path, number)


@pytest.mark.slow
@needs_mosquitto
def test_a_quick_run_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = started("chaos", tmp_path, "--quick", "--json")
    output, errors = output_of(process)

    report = json.loads(output.splitlines()[-1])
    assert {"claims", "machine", "command", "figures"} <= report.keys()
    assert report["failures"] == [], errors
    # How long things take depends on what else this machine does; what comes of the jobs does not.
    streams = (APP, PlainApp.name)
    counts = {c["claim"]: c["value"] for c in report["claims"] if c["claim"].split(": ")[0] in streams}
    assert counts and set(counts.values()) == {0}, counts
    assert report["figures"]["client library: jobs"] > 50
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
