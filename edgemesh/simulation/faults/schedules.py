"""Schedules: what is asked of a mesh and what is done to it, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from edgemesh.simulation.broker import ABSENT_MESSAGES, MOST_IN_FLIGHT

DEVICES = ("pi-zero", "pi-4b", "desktop")
HOLDERS = ("laptop:decision", "laptop:gateway-0", "server:decision", "server:gateway-0")
CLIENTS = ("anywhere", "camera")
APP = "app"
_NODES = DEVICES + HOLDERS
_LINKED = (*_NODES, *CLIENTS)

_FEWEST_SECONDS, _MOST_SECONDS = 30.0, 70.0
_DEADLINES = (1.0, 3.0, 10.0, 30.0)
_SHARE_OF_KINDS = 0.3
"""Each schedule has some kinds of faults only: with all of them at once the rarer meetings never happen."""
_CALM_SHARE = 0.04
_JOBS_PER_SECOND = 0.7
_BURST = 60
_IN_FLIGHT = (MOST_IN_FLIGHT, 20, 3)
_KEPT = (ABSENT_MESSAGES, ABSENT_MESSAGES, ABSENT_MESSAGES, 3)


@dataclass(frozen=True)
class Deed:
    """One thing that is done at ``at`` seconds after the mesh is ready."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    """How long it lasts, or the deadline of a job."""
    amount: float = 0.0
    """How strong it is, where that differs."""
    name: str = ""
    """Of a job or a submission."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how often, to whom, how long, how strong."""

    weight: float
    targets: tuple[str, ...]
    seconds: tuple[float, float] = (0.0, 0.0)
    amount: tuple[float, float] = (0.0, 0.0)


FAULTS: dict[str, Fault] = {
    "crash": Fault(3.0, _NODES, (0.5, 20.0)),
    "power-cut": Fault(2.0, _NODES, (0.5, 25.0)),
    "stop": Fault(1.0, _NODES, (0.5, 10.0)),
    "pause": Fault(3.0, _NODES, (0.2, 25.0)),
    "pause-client": Fault(2.0, CLIENTS, (0.2, 25.0)),
    "reorder": Fault(2.0, _LINKED, (1.0, 10.0), (0.02, 0.6)),
    "cut-link": Fault(3.0, _LINKED, (0.2, 25.0)),
    "break-connection": Fault(2.0, (*_LINKED, APP)),
    "lose-acknowledgement": Fault(2.0, (*_LINKED, APP)),
    "slow-link": Fault(2.0, _LINKED, (2.0, 20.0), (0.05, 1.5)),
    "slow-device": Fault(2.0, DEVICES, (2.0, 20.0), (3.0, 12.0)),
    "executor-crash": Fault(2.0, DEVICES),
    "burst": Fault(1.0, CLIENTS),
    "drop": Fault(1.5, (*DEVICES, *CLIENTS), (0.5, 8.0), (0.2, 1.0)),
    "garble": Fault(1.5, (*DEVICES, *CLIENTS), (0.5, 8.0), (0.2, 1.0)),
    "old-assignment": Fault(1.0, ("broker",)),
    "broker-restart": Fault(1.5, ("broker",), (0.2, 4.0)),
    "broker-older": Fault(1.0, ("broker",), (0.2, 4.0)),
    "broker-wiped": Fault(1.0, ("broker",), (0.2, 4.0)),
}


@dataclass(frozen=True)
class Schedule:
    """All that a run depends on."""

    seed: int
    length: float
    """Seconds until everything is repaired."""
    deeds: tuple[Deed, ...]
    saves_every: float = 10.0
    """Seconds between two writes of the broker's store."""
    calm: bool = False
    """Whether nothing is broken at all."""
    kept: int = ABSENT_MESSAGES
    """Messages that the broker keeps for a client that is absent or slow."""
    in_flight: int = MOST_IN_FLIGHT
    """Messages that a client may have unacknowledged."""


def schedule_of(seed: int) -> Schedule:
    """The schedule of a seed: always the same one."""
    random = Random(f"faults {seed}")
    length = random.uniform(_FEWEST_SECONDS, _MOST_SECONDS)
    calm = random.random() < _CALM_SHARE
    kinds = [kind for kind in FAULTS if random.random() < _SHARE_OF_KINDS]
    kinds = [] if calm else kinds or [random.choice(list(FAULTS))]
    deeds = [*_work(random, length), *_faults(random, length, kinds)]
    deeds.sort(key=lambda deed: deed.at)
    saves_every = random.choice((2.0, 10.0, 30.0))
    kept = random.choice(_KEPT)
    in_flight = random.choice(_IN_FLIGHT)
    return Schedule(seed, length, tuple(deeds), saves_every, calm, kept, in_flight)


def _work(random: Random, length: float) -> list[Deed]:
    rate = _JOBS_PER_SECOND * random.choice((0.5, 1.0, 3.0))
    share_of_app = random.choice((0.1, 0.5))
    deeds: list[Deed] = []
    at = 0.0
    while (at := at + random.expovariate(rate)) < length:
        number = len(deeds)
        if random.random() < share_of_app:
            deeds.append(Deed(at, "submission", APP, random.choice(_DEADLINES[1:]), name=f"s-{number}"))
        else:
            client = random.choice((*CLIENTS, "pi-4b"))
            deeds.append(Deed(at, "job", client, random.choice(_DEADLINES), name=f"j-{number}"))
    return deeds


def _faults(random: Random, length: float, kinds: Sequence[str]) -> list[Deed]:
    deeds: list[Deed] = []
    if not kinds:
        return deeds
    pause = random.choice((1.0, 4.0, 12.0))
    weights = [FAULTS[kind].weight for kind in kinds]
    at = 0.0
    while (at := at + random.expovariate(1.0 / pause)) < length:
        (kind,) = random.choices(kinds, weights)
        fault = FAULTS[kind]
        # Most troubles are short; the long ones decide what is noticed by silence.
        low, high = fault.seconds
        seconds = low + (high - low) * random.random() ** 2
        deed = Deed(at, kind, random.choice(fault.targets), seconds, random.uniform(*fault.amount))
        deeds += _burst(random, deed, len(deeds)) if kind == "burst" else [deed]
    return deeds


def _burst(random: Random, deed: Deed, number: int) -> list[Deed]:
    return [
        Deed(deed.at, "job", deed.target, random.choice(_DEADLINES), name=f"b-{number}-{i}")
        for i in range(random.randrange(_BURST // 4, _BURST))
    ]
