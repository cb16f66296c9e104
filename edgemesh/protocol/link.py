"""Measured transfers: receipts from peers and a device's own reports of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgemesh.protocol.fields import Amount, Count, Id


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
    the same size coming back to the sender itself (up and down). ``received``: publish to the receipt of
    ``peer`` (up, down at the peer, and a small message back).
    """

    kind: Literal["acknowledged", "echoed", "received"]
    nbytes: Count
    seconds: Amount
    peer: Id | None = None


@dataclass(frozen=True)
class LinkReport:
    """``link/<requester>``: transfers since the last report."""

    boot: Id
    transfers: tuple[Transfer, ...]
