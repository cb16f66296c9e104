"""The README's code blocks, run as printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from edgemesh.node.model_import import ImportOptions, import_model
from tests.integration.mesh import RunningMesh
from tests.integration.test_mesh import ready

README = Path(__file__).parents[2] / "README.md"


def blocks(kind: str) -> list[str]:
    """Contents of the README's code blocks with this info string."""
    found = re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"README.md has no block of kind {kind!r}"
    return found


def test_the_readmes_blocks_run_as_printed(broker_port: int, tmp_path: Path, photograph: Path) -> None:
    mesh = RunningMesh(broker_port, tmp_path / "mesh", name="home")
    shutil.copy(photograph, tmp_path / "photo.jpg")
    try:
        # The small face model under the name that the README uses: the same outputs, in a tenth of the time.
        ready(mesh, import_model("zoo:face-short", "face", tmp_path / "zoo", ImportOptions()), {"one": None})

        (python,) = blocks("python")
        done = subprocess.run(
            [sys.executable, "-c", python],
            cwd=tmp_path,
            env=mesh.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]", line)

        (app,) = blocks("sh app")
        subscribe, publish = (
            re.sub(r"^(mosquitto_\w+)", rf"\1 -p {broker_port}", command) for command in app.splitlines()
        )
        with (tmp_path / "results").open("wb") as results:
            subscriber = subprocess.Popen([*subscribe.split(), "-C", "1", "-W", "30"], stdout=results)
        while subscriber.poll() is None:
            subprocess.run(publish.split(), cwd=tmp_path, check=True)
            try:
                subscriber.wait(1)
            except subprocess.TimeoutExpired:
                continue  # it had not subscribed yet
        result = json.loads((tmp_path / "results").read_text())
        assert result["outputs"]["detections"][0]["label"] == "face"
    finally:
        mesh.stop()


def test_the_setup_commands_exist() -> None:
    (setup,) = blocks("sh setup")

    for command in setup.splitlines():
        program = README.parent / command.split()[0]
        assert program.is_file() and program.stat().st_mode & 0o111, f"{command} is no program"
