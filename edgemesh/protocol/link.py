"""Measurements: receipts of transfers from peers, and a device's own reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Cut, Timing, check_units
from edgemesh.protocol.fields import Check, Count, Digest, Id, Seconds

MORE_JOBS: Final = 10_000
MoreJobs = Annotated[int, Check("0 to 10,000", range(MORE_JOBS + 1).__contains__)]

TransferKind = Literal["acknowledged", "echoed", "tail", "received"]


@dataclass(frozen=True)
class Receipt:
    """``receipt/<sender>``: an activation has arrived whole at ``device``."""

    job: Id
    attempt: Count
    device: Id


@dataclass(frozen=True)
class Transfer:
    """One measured transfer, on the clock of the device that sent it.

    ``acknowledged``: publish to PUBACK (up, and a small answer down). ``echoed``: publish to a message of
    the same size coming back to the sender itself (up and down). ``tail``: the part of an echo after its
    PUBACK (down). ``received``: publish to the receipt of ``peer`` (up, down at the peer, and a small message
    back).
    """

    kind: TransferKind
    nbytes: Count
    seconds: Seconds
    peer: Id | None = None
    after_receipt: Seconds | None = None
    """Of ``received``: seconds since the receipt of ``peer`` for the message before it, where it had been
    waiting in the broker for that one to be through (down at the peer, and nothing else)."""


@dataclass(frozen=True)
class RunReport:
    """One run of units, by a job or to see how fast the device is now, as the device measured it."""

    digest: Digest
    start: Cut
    stop: Cut
    seconds: Seconds
    probe: bool = False
    """Whether no job needed it."""

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class JobReport:
    """One job that ended, as its requester saw it. Times are durations, each on one clock."""

    model: Id
    digest: Digest
    origin: Id
    term: Count
    sequence: Count
    """Epoch of the assignment whose route, or one of whose other routes, it took last."""
    seconds: Seconds
    """From submission to result or error, on the requester's clock."""
    attempts: Count = 1
    timings: tuple[Timing, ...] = ()
    """Of the attempt that won: what each device says it took, on its own clock."""
    arrived: Seconds | None = None
    """From sending to the first device's receipt, on the requester's clock, where one was asked for."""
    code: str | None = None
    """Of the error it ended in."""

    def __post_init__(self) -> None:
        """Raise DecodeError for more timings than a job can bring home."""
        if len(self.timings) > limits.TIMINGS:
            raise DecodeError(f"{len(self.timings)} timings, more than {limits.TIMINGS}")

    @property
    def epoch(self) -> tuple[int, int]:
        """``(term, sequence)``."""
        return self.term, self.sequence

    @property
    def transfer(self) -> float:
        """Seconds that no device counts as waiting or running: coding, on the way, in the broker. Not below
        0."""
        return max(0.0, self.seconds - sum(timing.queue + timing.run for timing in self.timings))


@dataclass(frozen=True)
class LinkReport:
    """``link/<requester>``: what its sender measured since the last report."""

    boot: Id
    transfers: tuple[Transfer, ...]
    runs: tuple[RunReport, ...] = ()
    jobs: tuple[JobReport, ...] = ()
    more_jobs: MoreJobs = 0
    """Jobs that ended and are not listed."""
