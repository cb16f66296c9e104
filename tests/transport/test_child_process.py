"""A broker as a child process, with and without what ends it when its parent was killed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgemesh.errors import BrokerError
from edgemesh.transport.child_process import ChildBroker
from tests.brokers.servers import free_port

ANOTHER = "echo \"setpriv: unrecognized option '--pdeathsig'\" >&2; exit 1"
"""As BusyBox has it."""
KNOWS_IT = 'echo "$*" >> "$0.calls"; shift 3; exec "$@"'


@pytest.fixture
def setpriv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the first one of the search path is to be."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "setpriv"


def _written(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def _words(number: int) -> str:
    """What is said of a broker that ends with status ``number``."""
    child = ChildBroker(["sh", "-c", f"echo it runs; exit {number}"], "127.0.0.1", free_port())
    with pytest.raises(BrokerError) as error:
        child.wait_until_it_answers()
    return str(error.value)


def test_a_broker_starts_where_setpriv_is_another_that_cannot_do_it(setpriv: Path) -> None:
    """Found by a reader: BusyBox has one of that name, and no broker of our own started beside it."""
    _written(setpriv, ANOTHER)

    assert "status 7: it runs" in _words(7)


def test_whether_setpriv_can_do_it_is_looked_at_once(setpriv: Path) -> None:
    _written(setpriv, KNOWS_IT)

    assert "status 7: it runs" in _words(7) and "status 8: it runs" in _words(8)

    calls = Path(f"{setpriv}.calls").read_text().splitlines()
    assert [call.split(" -- ")[1][:4] for call in calls] == ["true", "sh -", "sh -"]


def test_a_moment_without_processes_says_nothing_of_setpriv(
    setpriv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _written(setpriv, KNOWS_IT)
    run = subprocess.run
    short = [BlockingIOError(errno.EAGAIN, "short of processes"), subprocess.TimeoutExpired("setpriv", 5.0)]

    def tried(*arguments: Any, **options: Any) -> Any:
        if short:
            raise short.pop(0)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", tried)
    with pytest.raises(BrokerError, match="short of processes"):
        _words(7)
    assert "status 7: it runs" in _words(7)  # without it

    assert "status 8: it runs" in _words(8)

    assert len(Path(f"{setpriv}.calls").read_text().splitlines()) == 2  # looked at, and used


def test_a_setpriv_that_does_not_run_is_done_without(setpriv: Path) -> None:
    _written(setpriv, "")
    setpriv.write_text("#!/nowhere\n")
    assert shutil.which("setpriv") == str(setpriv)

    assert "status 7: it runs" in _words(7)
