"""Asking a running mesh about its plans, and what its decision node remembers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from edgemesh.node import policy_change
from tests.cli.conftest import DEVICE, Commands


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """What other processes do comes when it comes; fails when it does not in time."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "did not happen in time"


@pytest.fixture
def small(mesh: Commands, small_model: Path) -> Iterator[str]:
    """The small model, held, measured and planned."""
    ran = mesh("model", "add", small_model, "--name", "small", "--image", "8x8", "--wait", 20)
    assert ran.status == 0, ran.err
    eventually(lambda: mesh("plan", "small").status == 0)
    yield "small"
    assert mesh("plan", "small", "--clear").status == 0


def answers(mesh: Commands, *arguments: object) -> Any:
    ran = mesh(*arguments, "--json")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_the_plan_fits_100_columns_and_its_json_is_complete(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small)

    assert max(map(len, ran.out.splitlines())) <= 100
    for word in ("small for inputs published by apps: ", "predicted", "objective bounded-energy within",
                 "in force since", f"{DEVICE} ", "result", "total", "why: "):  # fmt: skip
        assert word in ran.out
    plain = answers(mesh, "plan", small)
    assert set(plain) == {"assignments", "outcomes", "failures", "policies"}
    (assignment,) = plain["assignments"]
    assert (assignment["objective"], assignment["bound"] > assignment["seconds"]) == ("bounded-energy", True)


def test_the_front_is_drawn_here_and_as_a_picture(mesh: Commands, small: str, tmp_path: Path) -> None:
    ran = mesh("plan", small, "--front", "--png", tmp_path / "front.png")

    assert ran.status == 0, ran.err
    assert f"@ in force (bounded-energy): {DEVICE} 0-6" in ran.out
    assert "| bound: " in ran.out
    assert f"A all on {DEVICE}: " in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    with PIL.Image.open(tmp_path / "front.png") as picture:
        assert picture.size[0] > 1000
    (front,) = answers(mesh, "plan", small, "--front")
    assert front["total"] == len(front["points"]) == 1
    assert front["points"][0]["route"] == [{"device": DEVICE, "stop": 6, "codec": "raw"}]
    assert front["bound"] == pytest.approx(1.25 * front["points"][0]["seconds"])


def test_what_if_a_board_were_there_too(mesh: Commands, small: str) -> None:
    (answer,) = answers(mesh, "plan", "--what-if", "add:pi-5=second", f"link:{DEVICE}=100ms")

    assert answer.get("error") is None
    assert [hop["device"] for hop in answer["now"]["route"]] == [DEVICE]
    assert [hop["device"] for hop in answer["then"]["route"]] == ["second"]
    assert answer["kept"]["seconds"] > answer["now"]["seconds"]
    assert any("second (pi-5): " in note for note in answer["notes"])
    assert "units would move" in answer["text"]
    # Nothing changed: no such device, and the plan is where it was.
    assert answers(mesh, "plan", small)["assignments"][0]["route"][0]["device"] == DEVICE
    assert [device["device"] for device in answers(mesh, "devices", "--quick")] == [DEVICE]


def test_what_if_is_answered_in_words(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small, "--what-if", f"link:{DEVICE}=64kbit")

    assert ran.status == 0, ran.err
    assert "if that were so (nothing is changed)" in ran.out
    assert "the same units would stay on the same devices" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (f"device:{DEVICE}=off", 0, "there would be no plan"),
        ("device:nobody=off", 1, f"no device nobody in this mesh (known: {DEVICE})"),
        ("add:pi-99", 2, "board 'pi-99' is unknown"),
        (f"add:pi-5={DEVICE}", 1, f"there is a device {DEVICE} already"),
    ],
)
def test_a_question_without_an_answer_says_why(
    mesh: Commands, small: str, change: str, status: int, words: str
) -> None:
    """Found by a reader: with --json, the status was 0 where there was nothing but an error."""
    ran = mesh("plan", small, "--what-if", change)

    assert ran.status == status
    assert words in " ".join((ran.out + ran.err).split())
    assert mesh("plan", small, "--what-if", change, "--json").status == status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--pin", f"0-2:{DEVICE}", "--keep-off", f"1-3:{DEVICE}"),
            f"no device may run units 1-2: units 0-2 only on {DEVICE}, but units 1-3 never on {DEVICE}",
        ),
        (("--pin", "0-1:zone=home"), "no zone home (known: none)"),
        (("--zone", "home=nobody"), "no device nobody in this mesh"),
        (("--price", "nobody=1/s"), "no device nobody in this mesh"),
    ],
)
def test_what_no_plan_could_keep_to_is_refused_and_changes_nothing(
    mesh: Commands, small: str, arguments: tuple[str, ...], words: str
) -> None:
    ran = mesh("plan", small, *arguments)

    assert ran.status == 2
    assert words in ran.err
    assert answers(mesh, "plan", small)["policies"] == {}


def test_zones_and_limits_are_kept_to_and_shown(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small, "--zone", f"home={DEVICE}", "--pin", "0-1:zone=home", "--battery-floor", "20%")

    assert ran.status == 0, ran.err
    kept_to = " ".join(ran.out.split())
    assert "small is kept to: units 0-1 only in zone home; zone home is bench; no new work" in kept_to
    assert "(set by " in kept_to


def test_without_a_plan_the_last_good_one_stays_and_the_reason_is_shown(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small, "--keep-off", f"0-6:{DEVICE}")
    assert ran.status == 1
    assert "the last plan stays in force; take it back with  edgemesh plan small --clear" in ran.err

    ran = mesh("plan", small)

    assert ran.status == 0, ran.err
    assert "small for inputs published by apps: no plan since " in ran.out
    assert f"the last good plan stays in force: {DEVICE} 0-6" in ran.out
    plain = answers(mesh, "plan", small)
    assert plain["failures"][0]["reason"]
    assert plain["assignments"][0]["route"][0]["device"] == DEVICE
    assert any(entry["kind"] == "failure" for entry in answers(mesh, "history", small)["entries"])


def test_one_sentence_says_what_binds(mesh: Commands, small: str) -> None:
    ran = mesh("plan", small, "--explain")

    assert ran.status == 0, ran.err
    assert ran.out.startswith("small for inputs published by apps: ")
    assert len(answers(mesh, "plan", small, "--explain")[0]["text"]) > 10


def test_history_tells_plans_and_who_changed_what(mesh: Commands, small: str, tmp_path: Path) -> None:
    assert mesh("plan", small, "--objective", "latency").status == 0
    assert mesh("plan", small, "--objective", "energy", "--bound", "2x").status == 0

    ran = mesh("history", small, "--png", tmp_path / "history.png")

    assert ran.status == 0, ran.err
    assert f"plan {DEVICE} 0-6" in ran.out
    assert "policy changed by " in ran.out
    assert "objective energy; at most 2 times the best latency (before: objective latency)" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    with PIL.Image.open(tmp_path / "history.png") as picture:
        assert picture.size[0] > 1000
    told = answers(mesh, "history", small, "--since", "1h")
    kinds = [entry["kind"] for entry in told["entries"]]
    assert {"assignment", "policy"} <= set(kinds)
    ages = [entry["age"] for entry in told["entries"]]
    assert ages == sorted(ages)
    assert len(answers(mesh, "history", "--limit", 1)["entries"]) == 1
    kinds = {
        entry["kind"] for entry in answers(mesh, "history", "--limit", 1, "--origin", "attic")["entries"]
    }
    assert kinds == {"policy"}, "the newest of this origin, though others' are newer"
    assert mesh("history", "nothing", "--origin", "attic", "--since", "1h").err.startswith(
        "the decision node remembers nothing of nothing for attic since 1h: see"
    )
    assert (ran := mesh("history", "--origin", "Ä/x")).status == 2 and "is no valid name" in ran.err
    assert mesh("history", "nothing").err.startswith("the decision node remembers nothing of nothing yet")


def test_history_without_a_decision_node_says_who_is_missing(cli: Commands) -> None:
    ran = cli("history")

    assert ran.status == 1
    assert "edgemesh decision run" in ran.err


def test_watching_tells_each_change_and_ends_cleanly(mesh: Commands, small: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "edgemesh.cli.main", "--broker", mesh.broker, "--mesh", mesh.mesh]
    with subprocess.Popen(
        [*command, "plan", small, "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())["change"]
        assert mesh("plan", small, "--exclude", "nobody").status == 2  # refused: no change
        assert mesh("plan", small, "--codecs", "f16").status == 0
        second = json.loads(watching.stdout.readline())["change"]
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)

    assert (first["kind"], first["route"][0]["device"]) == ("plan", DEVICE)
    assert (second["kind"], second["text"].partition(" (set by ")[0]) == ("policy", "codecs raw, f16")
    assert (watching.returncode, err) == (0, "")


@pytest.mark.timeout(60)
def test_a_policy_that_is_kept_to_already_is_not_waited_for(
    mesh: Commands, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mesh("plan", small, "--objective", "latency").status == 0
    monkeypatch.setattr(policy_change, "_REPLAN_SECONDS", 3600.0)

    assert mesh("plan", small, "--objective", "latency").status == 0
