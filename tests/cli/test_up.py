"""What ``edgemesh up`` tells a person to type, and how it looks after what it started."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgemesh.cli import up
from edgemesh.cli.up import _explain, _look_after, _look_after_broker
from edgemesh.errors import BrokerError, TransientError
from edgemesh.node import fleet as fleet_module
from edgemesh.node.fleet import Fleet
from edgemesh.node.restarts import Restarts
from edgemesh.transport.address import BrokerAddress


def test_it_has_a_photograph_published_as_the_readme_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by a reader: at QoS 0, as it said, a gateway that is away never sees the photograph."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

    _explain("home", BrokerAddress("127.0.0.1", 1883), ("zoo:face",))

    (told,) = [line.strip() for line in capsys.readouterr().err.splitlines() if "mosquitto_pub" in line]
    assert told in readme.splitlines() and "-q 1" in told


class Clock:
    """In place of the module ``time``."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class NoWait(threading.Event):
    """Never set, and notes how long it was waited for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.now += timeout
        self.waited.append(timeout)
        return False


class DyingFleet(Fleet):
    """Each member's process has ended as soon as it was started."""

    def _spawn(self, name: str, arguments: Any) -> Any:
        return SimpleNamespace(returncode=-9, poll=lambda: -9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (up, fleet_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_member_that_cannot_live_is_given_up_after_five_restarts(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet, over = DyingFleet("home", "mqtt://localhost"), NoWait(clock)
    fleet.start("gateway", "gateway", "run")

    for _ in range(6):
        _look_after(fleet, over)

    assert over.waited == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert fleet.members == []
    assert "gateway ended 6 times in a row and is given up" in capsys.readouterr().err


def test_a_member_that_lived_for_a_minute_begins_anew(clock: Clock) -> None:
    """Found by a reader: one that died once a week was given up in the sixth week."""
    fleet, over = DyingFleet("home", "mqtt://localhost"), NoWait(clock)
    member = fleet.start("gateway", "gateway", "run")

    for _ in range(30):
        clock.now += 61.0
        _look_after(fleet, over)

    assert over.waited == [0.5] * 30
    assert fleet.members == [member]


def test_a_model_that_was_not_added_is_told_with_how_to_add_it(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by a reader: of the model that nobody could use then, nothing more was heard."""
    fleet, over = DyingFleet("home", "mqtt://localhost"), NoWait(clock)
    fleet.start("add my.tflite", "model", "add", "my.tflite")

    _look_after(fleet, over)

    assert fleet.members == [] and over.waited == []
    told = capsys.readouterr().err
    assert "my.tflite is not in the mesh" in told and "edgemesh model add my.tflite\n" in told


class ShortOfProcesses(DyingFleet):
    """The machine has no process to give the next ``refused`` times."""

    refused = 0

    def _spawn(self, name: str, arguments: Any) -> Any:
        if self.refused:
            self.refused -= 1
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return super()._spawn(name, arguments)


def test_a_member_that_gets_no_process_is_tried_again_and_the_others_stay(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by a reader: a member killed for want of memory took all healthy ones with it."""
    fleet, over = ShortOfProcesses("home", "mqtt://localhost"), NoWait(clock)
    dead = fleet.start("gateway", "gateway", "run")
    healthy = fleet.start("pi-4b", "device", "run")
    healthy.process.poll = lambda: None  # type: ignore[method-assign]
    fleet.refused = 2

    for _ in range(2):
        _look_after(fleet, over)
    assert (
        capsys.readouterr().err.splitlines()
        == [
            "gateway ended with status -9; starting it again",
            "gateway cannot be started: Cannot allocate memory",
        ]
        * 2
    )
    _look_after(fleet, over)

    assert capsys.readouterr().err == "gateway ended with status -9; starting it again\n"
    assert over.waited == [0.5, 1.0, 2.0]
    assert fleet.members == [dead, healthy]


def test_a_member_that_never_gets_a_process_is_given_up(clock: Clock) -> None:
    fleet, over = ShortOfProcesses("home", "mqtt://localhost"), NoWait(clock)
    fleet.start("gateway", "gateway", "run")
    fleet.refused = 99

    for _ in range(6):
        _look_after(fleet, over)

    assert over.waited == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert fleet.members == []


class DeadBroker:
    """Has ended, and comes back at the given attempt."""

    def __init__(self, comes_back: int) -> None:
        self.left = comes_back

    def ended(self) -> str | None:
        return "the broker ended" if self.left else None

    def start_again(self) -> None:
        self.left -= 1
        if self.left:
            raise BrokerError("the port is in use")


def test_a_broker_of_ours_that_died_is_started_again(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by a reader: the mesh stood still for ever once its Mosquitto was killed."""
    broker, over, restarts = DeadBroker(comes_back=3), NoWait(clock), Restarts(0.0)

    for _ in range(3):
        _look_after_broker(broker, restarts, over)  # type: ignore[arg-type]

    assert over.waited == [0.5, 1.0, 2.0]
    assert capsys.readouterr().err.splitlines() == [
        "the broker ended; starting it again",
        "the port is in use; starting it again",
        "the port is in use; starting it again",
    ]


def test_without_its_broker_everything_ends(clock: Clock) -> None:
    broker, over = DeadBroker(comes_back=99), NoWait(clock)

    with pytest.raises(TransientError, match="the port is in use; that was 6 times in a row"):
        _look_after_broker(broker, Restarts(0.0), over)  # type: ignore[arg-type]

    assert over.waited == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_what_it_has_typed_connects_as_it_does_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Found by a reader: the lines for a broker with users lacked the user."""
    address = BrokerAddress("pi.local", 8883, True, None, "ann", "secret", "/etc/my ca.crt")

    _explain("home", address, ("zoo:face",))

    err = capsys.readouterr().err
    options = "-h pi.local -p 8883 -u ann -P PASSWORD --cafile '/etc/my ca.crt'"
    assert f"mosquitto_sub {options} -t" in err and f"mosquitto_pub {options} -q 1" in err
    assert "secret" not in err
