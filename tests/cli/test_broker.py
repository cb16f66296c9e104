"""``edgemesh broker``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edgemesh.transport.greeting import ACCEPTED, greeting
from tests.brokers.servers import free_port

WAIT = 20.0


def test_it_ends_with_its_mosquitto_and_says_so(tmp_path: Path) -> None:
    """Found by a reader: a service whose Mosquitto had been killed ran on, and nothing started it again."""
    port = free_port()
    command = [sys.executable, "-m", "edgemesh.cli.main", "broker", "--port", str(port)]
    environment = {**os.environ, "EDGEMESH_HOME": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            (mosquitto,) = _children_of(process, port)
            mosquitto.kill()
            _, said = process.communicate(timeout=WAIT)
        finally:
            process.kill()

    assert process.returncode == 1
    assert f"edgemesh: the broker on port {port} ended with status -9" in said


def _children_of(process: subprocess.Popen[str], port: int) -> list[psutil.Process]:
    deadline = time.monotonic() + WAIT
    while greeting("127.0.0.1", port) != ACCEPTED:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail("no broker answers")
        time.sleep(0.05)
    return psutil.Process(process.pid).children()
