"""Schedules: what is asked of a mesh and what is done to it, drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from edgemesh.simulation.broker import ABSENT_MESSAGES, MOST_IN_FLIGHT
from edgemesh.simulation.links import Link

DEVICES = ("pi-zero", "pi-4b", "desktop")
HOLDERS = ("laptop:decision", "laptop:gateway-0", "server:decision", "server:gateway-0")
CLIENTS = ("anywhere", "camera")
APP = "app"
FACE = "face"
"""The model that is always there; others come and go."""
TWIN, OTHER, NOWHERE, NOTHING = "twin", "other", "nowhere", "nothing"
"""A second name of the same content, a larger model, one that no device can run, and one that nobody has."""
_NODES = DEVICES + HOLDERS
_LINKED = (*_NODES, *CLIENTS)

_FEWEST_SECONDS, _MOST_SECONDS = 30.0, 70.0
_DEADLINES = (1.0, 3.0, 10.0, 30.0)
_SHARE_OF_KINDS = 0.3
"""Each schedule has some kinds of faults only: with all of them at once the rarer meetings never happen."""
_CALM_SHARE = 0.04
_JOBS_PER_SECOND = 0.7
_BURST = 60
_SHARE_OF_USES = 0.12
_GATEWAY_RATES = (Link.rate_down, Link.rate_down, 2.5e6)
"""A hundred megabits, or a wireless link."""
_PHOTOGRAPHS = (10, 40)
_PHOTOGRAPH_BYTES, _SMALL_BYTES = (1e5, 6e5), (3e3, 2e4)
_HOUR = 3600.0
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
    model: str = FACE
    stream: str = ""
    """Of a job that is a frame, of which only the newest matters."""


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


USES: dict[str, float] = {
    "photographs": 40.0,
    "hour-long": 15.0,
    "retained-submission": 20.0,
    "answer-topic": 4.0,
    "poison-topic": 20.0,
    "unknown-model": 10.0,
    "no-device": 15.0,
    "second-name": 15.0,
    "forget-name": 20.0,
    "replace-model": 25.0,
    "deadly-input": 25.0,
}
"""What people do besides, and after how many seconds on average they do it again. None of it is a fault."""
_LAPTOP, _SERVER = HOLDERS[:2], HOLDERS[2:]
_TOGETHER: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "access point": (("cut-link", DEVICES),),
    "site": (("cut-link", _NODES),),
    "fuse": (("power-cut", DEVICES), ("broker-older", ("broker",))),
    "power station": (("power-cut", _NODES), ("broker-older", ("broker",))),
    "switched off": (("stop", DEVICES),),
    "laptop": (("power-cut", _LAPTOP),),
    "server with its broker": (("crash", _SERVER), ("broker-wiped", ("broker",))),
}
"""What one cause does to several at once: who is cut off or ended, and what the broker does."""
_SHARE_OF_TOGETHER = 0.15
_TOGETHER_SECONDS = (2.0, 25.0)
_SHARE_OF_STOPPED = 0.5
_SHARE_OF_STREAMS = 0.06
_FRAMES_PER_SECOND = (2.0, 5.0, 15.0)
_STREAM_SECONDS = (2.0, 15.0)
_CAMERA_JITTER = 0.2
"""Of the time between two frames: a camera is no metronome."""
_SHARE_OF_OTHER = 0.1
_OTHER_PER_SECOND = (0.2, 1.0)
REFUSE = "refuse"
"""A fault that came later than the others, and is drawn apart from them."""
_SHARE_OF_REFUSALS = 0.06
_REFUSALS = (1, 2, 4)
_REFUSED_SECONDS = (0.5, 12.0)
_SHARE_OF_POLICIES = 0.08
_POLICIES = (1, 2, 5)
_SHARE_OF_SPLITS = 0.25
_CUTS = (1, 2, 3)
_SHARE_OF_IMPATIENT = 0.05
_SHARE_OF_CANCELLED = 0.3
_UNCALM = frozenset({"replace-model", "deadly-input"})
"""What makes jobs go elsewhere."""
_MODELS = {"unknown-model": NOTHING, "no-device": NOWHERE, "second-name": TWIN}
"""The model that a use asks for."""


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
    gateway_rate: float = Link.rate_down
    """Bytes per second of the gateways' links."""


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
    # From a source of its own: a new kind of use leaves what there was of each seed as it is.
    more = Random(f"uses {seed}")
    gateway_rate = more.choice(_GATEWAY_RATES)
    light = "slow-link" in kinds
    used = [use for use in USES if more.random() < _SHARE_OF_USES and not (calm and use in _UNCALM)]
    deeds += [deed for use in used for deed in _times(more, use, length, light)]
    if not calm:
        deeds += _together(Random(f"together {seed}"), length)
        deeds += _refusals(Random(f"refusals {seed}"), length)
    deeds = _stopped(Random(f"stopped {seed}"), deeds)
    deeds += _streams(Random(f"streams {seed}"), length)
    deeds += _other_model(Random(f"other {seed}"), length)
    deeds += _policies(Random(f"policies {seed}"), length)
    deeds += _splits(Random(f"splits {seed}"), length)
    deeds += _cancelled(Random(f"cancelled {seed}"), deeds)
    deeds.sort(key=lambda deed: deed.at)
    return Schedule(seed, length, tuple(deeds), saves_every, calm, kept, in_flight, gateway_rate)


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


def _together(random: Random, length: float) -> list[Deed]:
    if random.random() >= _SHARE_OF_TOGETHER:
        return []
    deeds: list[Deed] = []
    for cause in random.sample(list(_TOGETHER), random.choice((1, 1, 2))):
        at, seconds = random.uniform(0.0, length), random.uniform(*_TOGETHER_SECONDS)
        for kind, targets in _TOGETHER[cause]:
            longest = min(seconds, FAULTS[kind].seconds[1])
            # Each comes back in its own time: what a restart takes differs.
            sooner = 1.0 if kind == "cut-link" else 0.7
            deeds += [Deed(at, kind, target, longest * random.uniform(sooner, 1.0)) for target in targets]
    return deeds


def _stopped(random: Random, deeds: Sequence[Deed]) -> list[Deed]:
    """Half of the brokers that go away are asked to, which is ``amount``; the others are killed."""
    return [
        replace(deed, amount=1.0)
        if deed.kind in ("broker-restart", "broker-wiped") and random.random() < _SHARE_OF_STOPPED
        else deed
        for deed in deeds
    ]


def _streams(random: Random, length: float) -> list[Deed]:
    if random.random() >= _SHARE_OF_STREAMS:
        return []
    deeds: list[Deed] = []
    for number in range(random.choice((1, 1, 2, 3))):
        stream, client = f"stream-{number}", random.choice((*CLIENTS, "pi-4b"))
        begins, seconds = random.uniform(0.0, length), random.uniform(*_STREAM_SECONDS)
        interval, deadline = 1.0 / random.choice(_FRAMES_PER_SECOND), random.choice(_DEADLINES[:3])
        for frame in range(int(min(seconds, length - begins) / interval)):
            at = begins + (frame + random.random() * _CAMERA_JITTER) * interval
            deeds.append(Deed(at, "job", client, deadline, name=f"{stream}-{frame}", stream=stream))
    return deeds


def _other_model(random: Random, length: float) -> list[Deed]:
    if random.random() >= _SHARE_OF_OTHER:
        return []
    at = random.uniform(0.0, length / 2.0)
    deeds = [Deed(at, f"add-{OTHER}", random.choice(DEVICES))]
    rate = random.choice(_OTHER_PER_SECOND)
    while (at := at + random.expovariate(rate)) < length:
        seconds, name = random.choice(_DEADLINES), f"{OTHER}-{len(deeds)}"
        client = random.choice((*CLIENTS, "pi-4b", APP))
        kind = "submission" if client == APP else "job"
        deeds.append(Deed(at, kind, client, seconds, name=name, model=OTHER))
    return deeds


def _refusals(random: Random, length: float) -> list[Deed]:
    if random.random() >= _SHARE_OF_REFUSALS:
        return []
    return [
        Deed(
            random.uniform(0.0, length),
            REFUSE,
            random.choice((*DEVICES, *CLIENTS)),
            random.uniform(*_REFUSED_SECONDS),
            random.choice((0.3, 1.0)),
        )
        for _ in range(random.choice(_REFUSALS))
    ]


def _policies(random: Random, length: float) -> list[Deed]:
    """Devices that an operator leaves out, one at a time; the app stands for all of them back."""
    if random.random() >= _SHARE_OF_POLICIES:
        return []
    times = random.choice(_POLICIES)
    return [Deed(random.uniform(0.0, length), "policy", random.choice((*DEVICES, APP))) for _ in range(times)]


def _splits(random: Random, length: float) -> list[Deed]:
    """An operator has the first units run on one board and the others on another, with ``amount`` the cut."""
    if random.random() >= _SHARE_OF_SPLITS:
        return []
    return [
        Deed(random.uniform(0.0, length / 4.0), "split", random.choice(DEVICES), 0.0, random.choice(_CUTS))
    ]


def _cancelled(random: Random, deeds: Sequence[Deed]) -> list[Deed]:
    """Programs at a device that end before their results come; elsewhere a client ends with its program."""
    if random.random() >= _SHARE_OF_IMPATIENT:
        return []
    jobs = [deed for deed in deeds if deed.kind == "job" and deed.target in DEVICES]
    cancelled = [job for job in jobs if random.random() < _SHARE_OF_CANCELLED]
    return [
        replace(job, kind="cancel", at=job.at + random.random() ** 2 * job.seconds, seconds=0.0)
        for job in cancelled
    ]


def _burst(random: Random, deed: Deed, number: int) -> list[Deed]:
    return [
        Deed(deed.at, "job", deed.target, random.choice(_DEADLINES), name=f"b-{number}-{i}")
        for i in range(random.randrange(_BURST // 4, _BURST))
    ]


def _times(random: Random, use: str, length: float, light: bool) -> list[Deed]:
    """One use again and again; ``light`` where links may be too slow for photographs."""
    deeds: list[Deed] = []
    at, number = 0.0, 0
    while (at := at + random.expovariate(1.0 / USES[use])) < length:
        deeds += _use(random, use, at, f"{use}-{number}", light)
        number += 1
    return deeds


def _use(random: Random, use: str, at: float, name: str, light: bool) -> list[Deed]:
    seconds, model = random.choice(_DEADLINES[1:]), _MODELS.get(use, FACE)
    client = random.choice((*CLIENTS, "pi-4b"))
    device = random.choice(DEVICES)
    if use == "photographs":
        nbytes = random.uniform(*(_SMALL_BYTES if light else _PHOTOGRAPH_BYTES))
        count = random.randrange(*_PHOTOGRAPHS)
        return [Deed(at, "submission", APP, seconds, nbytes, f"{name}-{i}") for i in range(count)]
    if use == "hour-long":
        return [
            Deed(at, "job", client, _HOUR, name=name),
            Deed(at, "submission", APP, _HOUR, name=f"{name}-app"),
        ]
    if use == "deadly-input":
        return [Deed(at, "job", client, _DEADLINES[-2], name=name)]
    if use in ("replace-model", "forget-name"):
        return [Deed(at, use, device)]
    if use in _MODELS:
        given = [Deed(at, f"add-{model}", device)] if use != "unknown-model" else []
        later = at + random.uniform(0.0, 5.0)
        return [
            *given,
            Deed(later, "job", client, seconds, name=name, model=model),
            Deed(later, "submission", APP, seconds, name=f"{name}-app", model=model),
        ]
    return [Deed(at, use, APP, seconds, name=name)]
