"""``edgemesh demo`` as a person runs it, without torch: all three acts, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from edgemesh.device.emulated_load import FILE

# One model is enough; torch would add half a minute.
DEMO = (
    "import edgemesh.node.demonstration as demonstration, edgemesh.cli.main as program;"
    "demonstration.installed_runtimes = lambda: {'tflite': ''};"
    "program.main()"
)
BOARDS = {"pi-4b", "laptop", "desktop"}


@pytest.fixture
def demo(tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DEMO, "demo", "--json", "--save", str(tmp_path / "demo.png")],
        env={**os.environ, "EDGEMESH_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(demo: subprocess.Popen[str], home: Path) -> list[str]:
    """Processes and files of a demo that has ended."""
    mesh = f"demo-{demo.pid}"
    found = [str(path) for path in home.rglob(f"*{mesh}*")] + [str(path) for path in home.rglob(FILE)]
    for process in psutil.process_iter():
        try:
            if process.environ().get("EDGEMESH_MESH") == mesh:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # ended, or somebody else's
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_shows_a_plan_and_what_becomes_of_it_when_a_board_gets_busy_and_when_one_dies(
    demo: subprocess.Popen[str], tmp_path: Path
) -> None:
    out, err = demo.communicate(timeout=280)

    assert demo.returncode == 0, err
    told = json.loads(out)
    (face,) = told["models"]
    assert (face["model"], face["objective"], set(face["emulated"])) == ("face", "latency", BOARDS)
    assert face["outputs"]["detections"][0]["label"] == "face"
    plan, camera, fastest, thrifty = face["ways"]
    assert [way["label"].split(" (")[0] for way in face["ways"]] == [
        "plan", "all on the camera", "all on the fastest", "least energy within 1.25 x",
    ]  # fmt: skip
    assert camera["route"] == [{"device": "pi-4b", "stop": 79, "codec": "raw"}]
    assert all(way["measured"] > 0 and way["joules"] > 0 for way in (plan, camera, fastest, thrifty))
    assert thrifty["joules"] <= plan["joules"]

    busy = told["busy"]
    assert busy["model"] == "face" and busy["device"] in BOARDS and busy["reason"]
    before, under_load, *after = busy["periods"]
    assert before["route"] == under_load["route"] and before["measured"] < under_load["measured"]
    if busy["noticed"] is None:
        assert not after
    else:
        (new,) = after
        assert new["route"] != before["route"] and new["jobs"] > 0

    killed = told["killed"]
    kill, (normal, hit, since) = killed["kill"], killed["periods"]
    assert kill["device"] in BOARDS - {"pi-4b"} and kill["hit"] and kill["attempts"] > 1
    assert kill["difference"] == 0.0 and kill["late"] == pytest.approx(kill["seconds"] - normal["measured"])
    assert kill["device"] in {hop["device"] for hop in normal["route"]}
    assert (hit["jobs"], hit["measured"]) == (1, kill["seconds"])
    assert all(kill["device"] not in {hop["device"] for hop in each["route"]} for each in (hit, since))
    assert kill["replanned"] > 0.0 and since["jobs"] > 0
    assert f"{kill['device']} is killed" in err
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert left_behind(demo, tmp_path / "home") == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_demo_that_is_stopped_under_the_load_leaves_nothing_behind(
    demo: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert demo.stderr is not None
    said = ""
    for line in demo.stderr:
        said += line
        if "gets busy" in line:
            break
    assert list((tmp_path / "home").rglob(FILE)), said

    demo.send_signal(signal.SIGTERM)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 143 and "Traceback" not in err
    assert left_behind(demo, tmp_path / "home") == []
