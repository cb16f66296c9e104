"""Brokers that edgemesh starts itself."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from edgemesh.errors import BrokerError, MissingExtraError
from edgemesh.transport import local_broker as module
from edgemesh.transport.embedded import EmbeddedBroker, listen
from edgemesh.transport.greeting import ACCEPTED, greeting
from edgemesh.transport.local_broker import (
    LocalBroker,
    installed_mosquitto,
    local_broker,
    start_broker,
    with_settings,
)
from tests.brokers.peer import Peer
from tests.brokers.servers import free_port

WAIT = 10.0


@pytest.fixture
def no_mosquitto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed_mosquitto", lambda: None)


@pytest.fixture
def no_iotcore(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "iotcore" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)


def gone(port: int) -> bool:
    """Whether the port is free again; a process needs a moment to end."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        try:
            listen("127.0.0.1", port).close()
        except BrokerError:
            continue
        return True
    return False


def test_a_broker_that_runs_is_used_and_left_running() -> None:
    with start_broker(free_port()) as runs:
        with local_broker(runs.address.port) as used:
            assert used.kind == "running"
            assert used.address == runs.address

        assert greeting("127.0.0.1", runs.address.port) == ACCEPTED


def test_mosquitto_is_started_where_it_is_installed_and_ends_with_its_user() -> None:
    port = free_port()

    with local_broker(port) as broker:
        assert broker.kind == "mosquitto"
        assert greeting("127.0.0.1", port) == ACCEPTED

    broker.stop()
    assert gone(port)


@pytest.mark.usefixtures("no_mosquitto")
def test_the_embedded_broker_is_started_where_mosquitto_is_not_installed() -> None:
    port = free_port()

    with local_broker(port) as broker:
        assert broker.kind == "embedded"
        assert greeting("127.0.0.1", port) == ACCEPTED

    assert gone(port)


@pytest.mark.usefixtures("no_mosquitto", "no_iotcore")
def test_without_any_broker_the_sentence_names_both_ways_to_get_one() -> None:
    with pytest.raises(
        MissingExtraError, match=r"apt-get install mosquitto.*pip install 'edgemesh\[broker\]'"
    ):
        local_broker(free_port())


@pytest.mark.usefixtures("no_iotcore")
def test_the_embedded_broker_names_its_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"edgemesh\[broker\]"):
        EmbeddedBroker(free_port()).start()


@pytest.mark.parametrize("start", [start_broker, lambda port: EmbeddedBroker(port).start()])
def test_a_port_in_use_is_said(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"cannot listen on port {port}.*in use"):
            start(port)


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(BrokerError, match=r"cannot listen on port \d+ of 192\.0\.2\.7"):
        start_broker(free_port(), bind="192.0.2.7")


def test_mosquitto_remembers_in_the_given_folder_and_only_there(tmp_path: Path) -> None:
    for directory, remembered in ((tmp_path / "kept", 1), (None, 0)):
        port = free_port()
        with start_broker(port, directory) as broker, Peer(broker.address) as peer:
            peer.publish("t/model", b"manifest", retain=True)

        with start_broker(port, directory) as broker, Peer(broker.address) as peer:
            peer.subscribe("t/#")
            peer.publish("t/end", b"end")
            assert len(peer.until(b"end")) == remembered


def killed(broker: LocalBroker, number: signal.Signals) -> str:
    """What a broker says to have ended with, of which the process got a signal that did not come from us."""
    assert broker._child is not None
    assert broker.ended() is None
    os.kill(broker._child.pid, number)
    deadline = time.monotonic() + WAIT
    while (why := broker.ended()) is None:
        assert time.monotonic() < deadline
    return why


@pytest.mark.parametrize("kept", [True, False])
def test_mosquitto_is_started_again_with_what_it_stored(tmp_path: Path, kept: bool) -> None:
    """Found by a reader: nobody noticed that it had died."""
    port = free_port()
    with start_broker(port, tmp_path if kept else None) as broker:
        with Peer(broker.address) as peer:
            peer.publish("t/model", b"manifest", retain=True)
        why = killed(broker, signal.SIGTERM)  # upon which it writes its store
        assert why.startswith(f"the broker on port {port} ended with status 0: ")

        broker.start_again()

        assert broker.ended() is None
        with Peer(broker.address) as peer:
            peer.subscribe("t/#")
            assert peer.next().payload == b"manifest"
    assert gone(port)


@pytest.mark.usefixtures("no_mosquitto")
def test_the_embedded_broker_is_started_again_where_it_was() -> None:
    with start_broker(free_port()) as broker:
        assert "ended with status -9" in killed(broker, signal.SIGKILL)

        broker.start_again()

        assert broker.ended() is None
        assert greeting("127.0.0.1", broker.address.port) == ACCEPTED


def no_process(*command: object, **options: object) -> None:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def no_file(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize(
    ("owner", "name", "refusing"),
    [(subprocess, "Popen", no_process), (tempfile, "TemporaryFile", no_file)],
    ids=["no process", "no file"],
)
def test_a_broker_that_the_machine_has_no_room_for_can_be_started_again_later(
    kind: str, owner: Any, name: str, refusing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: what was raised was no BrokerError, and ended all that used the broker."""
    if kind == "embedded":
        monkeypatch.setattr(module, "installed_mosquitto", lambda: None)
    with start_broker(free_port()) as broker:
        killed(broker, signal.SIGKILL)
        held = []
        with monkeypatch.context() as short:
            short.setattr(owner, name, refusing)
            for _ in range(2):
                with pytest.raises(BrokerError, match=r"cannot be started: (Resource|No space left)"):
                    broker.start_again()
                held.append(len(os.listdir("/proc/self/fd")))
        assert held[0] == held[1]

        broker.start_again()

        assert broker.ended() is None
        assert greeting("127.0.0.1", broker.address.port) == ACCEPTED


def test_a_machine_without_a_socket_to_give_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*arguments: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr(socket, "socket", none_left)
        with pytest.raises(BrokerError, match=r"cannot listen on port 1883 .*Too many open files"):
            listen("127.0.0.1", 1883)


def test_a_broker_that_ran_before_is_looked_after_by_somebody_else() -> None:
    with start_broker(free_port()) as runs, local_broker(runs.address.port) as used:
        killed(runs, signal.SIGKILL)

        assert used.ended() is None


def test_a_broken_configuration_is_told_in_mosquittos_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "shipped_configuration", lambda name: "no_such_setting 1\n")

    with pytest.raises(BrokerError, match=r"ended with status .*no_such_setting"):
        start_broker(free_port(), tmp_path)


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
def test_a_broker_ends_when_the_process_that_started_it_is_killed(kind: str) -> None:
    port = free_port()
    hide = "lb.installed_mosquitto = lambda: None;" if kind == "embedded" else ""
    program = (
        f"import sys, edgemesh.transport.local_broker as lb; {hide} "
        f"broker = lb.start_broker({port}); print(broker.kind, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().decode().strip() == kind

        parent.send_signal(signal.SIGKILL)
        parent.wait(WAIT)

    assert gone(port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_embedded_broker_in_the_foreground_ends_cleanly(number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "edgemesh.transport.embedded", "--port", str(port)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + WAIT
        while greeting("127.0.0.1", port) is None:
            assert time.monotonic() < deadline

        process.send_signal(number)

        assert process.wait(WAIT) == 0


def test_the_embedded_broker_in_the_foreground_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "edgemesh.transport.embedded", "--port", str(port)]

        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=WAIT)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot listen on port {port}")
    assert "Traceback" not in ended.stderr


def test_settings_replace_lines_add_missing_ones_and_leave_comments() -> None:
    text = "# listener 1\nlistener 1883\npersistence true\n#listener 9001\n"

    changed = with_settings(text, {"listener": "7 127.0.0.1", "persistence": None, "user": "root"})

    assert changed == "# listener 1\nlistener 7 127.0.0.1\n#listener 9001\nuser root\n"


def test_mosquitto_is_found_where_a_path_lacks_the_folders_of_system_programs() -> None:
    assert installed_mosquitto({"PATH": "/nowhere"}) == installed_mosquitto(os.environ)
