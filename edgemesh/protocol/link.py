"""Measurements: receipts of transfers from peers, and a device's own reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgemesh.protocol.activation import Cut, check_units
from edgemesh.protocol.fields import Amount, Count, Digest, Id


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

    kind: Literal["acknowledged", "echoed", "tail", "received"]
    nbytes: Count
    seconds: Amount
    peer: Id | None = None


@dataclass(frozen=True)
class RunReport:
    """One run of units by a job, as the device that ran it measured it."""

    digest: Digest
    start: Cut
    stop: Cut
    seconds: Amount

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class LinkReport:
    """``link/<requester>``: what its sender measured since the last report."""

    boot: Id
    transfers: tuple[Transfer, ...]
    runs: tuple[RunReport, ...] = ()
