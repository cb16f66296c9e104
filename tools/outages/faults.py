"""The kinds of faults: whom they hit, how, and how they are taken back."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outages.mesh import DECISION_TOPIC, GATEWAY_TOPIC, SECONDS_OF_MODEL, Mesh

_RECENT_SECONDS = 1.0
_OFTEN = 12
_WATCHED = 18.0
"""A standby takes a role from a holder whose state is 16 s old (``roles/standby.py``)."""
_Step = Callable[[Mesh, str], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    targets: Callable[[Mesh], Sequence[str]]
    strike: _Step
    undo: _Step
    hold: tuple[float, float]
    """Seconds between the two, least and most."""
    role: str | None = None
    """The state of the role whose standby has to take over before the fault is taken back."""
    watched: float = 0.0
    """Seconds after it is taken back in which the role may not change hands."""
    mid_job: bool = False
    """Strike just after a job has come to the target."""
    lasts: bool = False
    """Jobs that begin before it is taken back meet it, too."""
    loses_store: bool = False
    weight: int = 1
    """How often it comes in a long run, besides once in every round."""
    quick: int = 1
    """How often it comes in a quick one."""


def _devices(mesh: Mesh) -> Sequence[str]:
    return tuple(SECONDS_OF_MODEL)


def _working(mesh: Mesh) -> Sequence[str]:
    """Devices, those more often that have just been sent work: a fault of one that idles shows little."""
    since = time.monotonic() - _RECENT_SECONDS
    busy = [name for name in SECONDS_OF_MODEL if mesh.observer.said(f"device/{name}/work")[1] > since]
    return (*_devices(mesh), *(_OFTEN * busy))


def _broker(mesh: Mesh) -> Sequence[str]:
    return ("broker",)


def _holder_of(topic: str) -> Callable[[Mesh], Sequence[str]]:
    def holder(mesh: Mesh) -> Sequence[str]:
        name, _ = mesh.observer.holder(topic)
        return (name,) if name else ()

    return holder


def _kill(mesh: Mesh, name: str) -> None:
    mesh.members.kill(name)


def _restart(mesh: Mesh, name: str) -> None:
    mesh.members.restart(name)


def _pause(mesh: Mesh, name: str) -> None:
    mesh.members.send(name, signal.SIGSTOP)


def _go_on(mesh: Mesh, name: str) -> None:
    mesh.members.send(name, signal.SIGCONT)


def _signal_executors(number: signal.Signals) -> _Step:
    def send(mesh: Mesh, name: str) -> None:
        for pid in mesh.members[name].executors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    return send


def _nothing(mesh: Mesh, name: str) -> None:
    """The agent starts another executor by itself."""


def _cut(mesh: Mesh, name: str) -> None:
    mesh.relays[name].cut()


def _mute(mesh: Mesh, name: str) -> None:
    mesh.relays[name].mute()


def _restore(mesh: Mesh, name: str) -> None:
    mesh.relays[name].restore()


def _stop_broker(mesh: Mesh, name: str) -> None:
    mesh.broker.stop()
    _refuse(mesh)


def _kill_broker(mesh: Mesh, name: str) -> None:
    mesh.broker.kill()
    _refuse(mesh)


def _wipe_broker(mesh: Mesh, name: str) -> None:
    _kill_broker(mesh, name)
    mesh.broker.empty_store()
    mesh.observer.forget()


def _refuse(mesh: Mesh) -> None:
    """Without relays a broker that is not there would refuse connections, so relays must, too."""
    for relay in mesh.relays.values():
        relay.cut()


def _restart_broker(mesh: Mesh, name: str) -> None:
    mesh.broker.restart()
    for relay in mesh.relays.values():
        relay.restore()


KILLED, PAUSED = "device killed", "device paused"
DECISION_KILLED, GATEWAY_KILLED = "decision node killed", "gateway killed"
DECISION_REPLACED, GATEWAY_REPLACED = "decision node paused until replaced", "gateway paused until replaced"
WIPED = "broker killed, store emptied"
KINDS: dict[str, Kind] = {
    KILLED: Kind(_working, _kill, _restart, (0.3, 1.0), mid_job=True, weight=8, quick=2),
    PAUSED: Kind(_working, _pause, _go_on, (2.0, 3.0), mid_job=True, lasts=True, weight=4),
    "executor killed": Kind(
        _working, _signal_executors(signal.SIGKILL), _nothing, (0.2, 0.4), mid_job=True, weight=2
    ),
    "executor paused": Kind(
        _working,
        _signal_executors(signal.SIGSTOP),
        _signal_executors(signal.SIGCONT),
        (1.0, 2.0),
        mid_job=True,
        lasts=True,
        quick=0,
    ),
    "link cut": Kind(_devices, _cut, _restore, (0.5, 2.0), mid_job=True, weight=2),
    "link silent": Kind(_devices, _mute, _restore, (1.0, 3.0), mid_job=True, lasts=True, quick=0),
    GATEWAY_KILLED: Kind(
        _holder_of(GATEWAY_TOPIC), _kill, _restart, (0.1, 0.5), GATEWAY_TOPIC, lasts=True, weight=2
    ),
    "gateway paused": Kind(_holder_of(GATEWAY_TOPIC), _pause, _go_on, (1.0, 3.0), lasts=True, quick=0),
    DECISION_KILLED: Kind(_holder_of(DECISION_TOPIC), _kill, _restart, (0.1, 0.5), DECISION_TOPIC, weight=2),
    "decision node paused": Kind(_holder_of(DECISION_TOPIC), _pause, _go_on, (1.0, 3.0), quick=0),
    # Half a minute each: no more of them than one in every round of all kinds.
    GATEWAY_REPLACED: Kind(
        _holder_of(GATEWAY_TOPIC),
        _pause,
        _go_on,
        (0.5, 2.0),
        GATEWAY_TOPIC,
        _WATCHED,
        lasts=True,
        weight=0,
        quick=0,
    ),
    DECISION_REPLACED: Kind(
        _holder_of(DECISION_TOPIC), _pause, _go_on, (0.5, 2.0), DECISION_TOPIC, _WATCHED, weight=0, quick=0
    ),
    "broker restarted, store kept": Kind(
        _broker, _stop_broker, _restart_broker, (0.2, 1.0), lasts=True, weight=2
    ),
    "broker killed, old store": Kind(
        _broker, _kill_broker, _restart_broker, (0.2, 1.0), lasts=True, loses_store=True, quick=0
    ),
    WIPED: Kind(_broker, _wipe_broker, _restart_broker, (0.2, 1.0), lasts=True, loses_store=True, weight=2),
}
