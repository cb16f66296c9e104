"""What planning answers with: a plan and its prediction, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Partition:
    """Units ``[start, stop)`` on one device."""

    start: int
    stop: int
    device: str
    codec: str
    """For what it sends on; ``raw`` when nothing leaves the device."""


@dataclass(frozen=True)
class Crossing:
    """One message through the broker; seconds throughout."""

    cut: int
    sender: str
    """A device id, or ``app`` for the gateway."""
    receiver: str
    codec: str
    nbytes: int
    encode: float
    up: float
    broker: float
    down: float
    decode: float
    joules: float = 0.0
    """At both ends: codec and radio."""
    money: float = 0.0
    latency_up: float = 0.0
    """Of ``up``, what does not depend on the bytes."""
    latency_down: float = 0.0
    """Of ``down``, the same."""

    @property
    def seconds(self) -> float:
        """From the end of the run before to the start of waiting for the run after."""
        return self.encode + self.up + self.broker + self.down + self.decode


@dataclass(frozen=True)
class Hop:
    """One partition with what it takes."""

    partition: Partition
    arrival: Crossing | None
    """None where the input is already there: a first partition on the origin."""
    queue: float
    run: float
    joules: float = 0.0
    """Of running; those of the arrival are with the crossing."""
    money: float = 0.0

    @property
    def seconds(self) -> float:
        """Transfer in, waiting and running."""
        return (self.arrival.seconds if self.arrival else 0.0) + self.queue + self.run


@dataclass(frozen=True)
class Prediction:
    """What one plan takes."""

    hops: tuple[Hop, ...]
    result: Crossing | None
    """The way of the output back to the origin; None when the last partition runs there."""
    total: float
    """Seconds from the input at the origin to the output at the origin."""
    joules: float = 0.0
    """Above idle, of all devices and radios, each times its weight."""
    money: float = 0.0
    bottleneck: float = 0.0
    """Seconds per job of the participant or link direction that is busy longest."""

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """Every message, in order."""
        arrivals = [hop.arrival for hop in self.hops]
        return tuple(crossing for crossing in (*arrivals, self.result) if crossing is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all messages, each counted once."""
        return sum(crossing.nbytes for crossing in self.crossings)

    @property
    def transfer(self) -> float:
        """Seconds of all messages, encoding and decoding included."""
        return sum(crossing.seconds for crossing in self.crossings)


@dataclass(frozen=True)
class Plan:
    """An assignment of all units, ready to be put into an assignment message."""

    partitions: tuple[Partition, ...]
    input_codec: str
    """For the input, when the first partition is not on the origin."""
    prediction: Prediction
    proven: bool = True
    """False when the search grew so large that it ended before it could prove this the best."""
    bound: float | None = None
    """Seconds within which it was to stay; None where the objective holds no bound."""

    @property
    def total(self) -> float:
        """Predicted seconds."""
        return self.prediction.total

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices it uses, each once, in the order of first use."""
        return tuple(dict.fromkeys(partition.device for partition in self.partitions))


@dataclass(frozen=True)
class Infeasible:
    """Why no plan, or not this one, can be carried out."""

    kind: Literal["unavailable", "excluded", "incapable", "pinned", "memory", "unreachable", "deadline"]
    reason: str
    """A sentence that names the constraint, with figures."""
