"""``edgemesh broker``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.brokers.servers import free_port

WAIT = 20.0


@pytest.mark.timeout(2 * WAIT)
def test_it_ends_with_its_mosquitto_and_says_so(tmp_path: Path) -> None:
    """Found by a reader: a service whose Mosquitto had been killed ran on, and nothing started it again."""
    port = free_port()
    command = [sys.executable, "-m", "edgemesh.cli.main", "broker", "--port", str(port)]
    environment = {**os.environ, "EDGEMESH_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            # Killed before this, it would be one that did not start.
            assert "broker at" in process.stderr.readline()
            (mosquitto,) = psutil.Process(process.pid).children()
            mosquitto.kill()
            _, said = process.communicate(timeout=WAIT)
        finally:
            process.kill()

    assert process.returncode == 1
    assert f"edgemesh: the broker on port {port} ended with status -9" in said
