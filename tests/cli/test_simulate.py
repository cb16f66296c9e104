"""``edgemesh simulate``: a scenario in, a table, JSON and a picture out; needs no broker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import psutil
import pytest

from edgemesh.cli.main import run
from edgemesh.simulation.scenario_file import parse_scenario, scenario_names

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
SMALL = """
description = "two boards"
duration = 40
models = ["alexnet", "vgg16"]
[policy]
objective = "latency"
[devices.pi]
board = "pi-4b"
[devices.laptop]
board = "laptop"
[[streams]]
origin = "pi"
per_second = 1.0
source = "made up"
[[changes]]
at = 20
device = "laptop"
present = false
source = "made up"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


def test_help_and_page_name_every_shipped_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--help"]) == 0

    told, page = capsys.readouterr().out, PAGE.read_text(encoding="utf-8")
    assert all(name in told and f"`{name}`" in page for name in scenario_names())


def test_the_scenario_of_the_page_is_one() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    scenario = parse_scenario(example, "page", "page.toml")

    assert [device.name for device in scenario.devices] == ["pi", "laptop"]


def test_a_scenario_is_played_with_every_baseline_and_drawn(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "out.png"

    assert run(["simulate", str(small), "--model", "alexnet", "--png", str(picture), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["modelled"] is True
    runs = {entry["name"]: entry for entry in found["runs"]}
    assert set(runs) == {"decided", "static", "middle", "origin", "fastest", "hindsight", "oracle"}
    assert all(entry["jobs"] in (39, 40, 41) and entry["lost"] == 0 for entry in runs.values())
    assert runs["oracle"]["mean"] <= min(entry["mean"] for entry in runs.values()) * 1.01
    with PIL.Image.open(picture) as image:
        assert image.format == "PNG"


def test_the_table_says_that_its_figures_are_modelled(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", str(small), "--model", "alexnet", "--seed", "7", "--hours", "0.01"]) == 0

    out = capsys.readouterr().out
    assert "all figures are modelled: 36 s of virtual time, seed 7" in out
    assert "decision node" in out and "oracle per phase" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nowhere.toml"],
            "scenario nowhere.toml: No such file or directory; name a file, or one of battery",
        ),
        (["calm", "--model", "lenet"], "--model lenet is not in scenario calm; it has alexnet, mobilenetv2"),
    ],
)
def test_a_wrong_name_is_one_line_and_a_status(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *arguments]) == 2

    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_it_leaves_the_environment_of_its_process_as_it_was(small: Path) -> None:
    before = dict(os.environ)

    assert run(["simulate", str(small), "--json"]) == 0

    # What it starts later would end at once, if it took us for a parent that is gone.
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_its_processes_end_with_it_when_it_is_killed() -> None:
    command = [sys.executable, "-m", "edgemesh.cli.main", "simulate", "calm"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        workers = _children(process.pid)
    finally:
        process.kill()
        process.wait()

    assert psutil.wait_procs(workers, timeout=20.0)[1] == []


def test_ctrl_c_ends_it_at_once() -> None:
    """Found by a reader: it waited for all runs, and its processes began the next one each time."""
    command = [sys.executable, "-m", "edgemesh.cli.main", "simulate", "calm"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        workers = _children(process.pid)
        time.sleep(1.0)  # into the runs
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=15.0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    assert (process.returncode, said.strip()) == (1, "interrupted")
    assert psutil.wait_procs(workers, timeout=5.0)[1] == []


def _children(pid: int) -> list[psutil.Process]:
    """The children, once there are any."""
    for _ in range(600):
        found = psutil.Process(pid).children()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no worker was started")
