"""Outcome: what jobs under an assignment took, against what was predicted."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.activation import Cut, check_units
from edgemesh.protocol.fields import Amount, Count, Id


@dataclass(frozen=True)
class HopOutcome:
    """One partition: predicted seconds, and medians of what its device measured."""

    device: Id
    start: Cut
    stop: Cut
    predicted_run: Amount
    run: Amount
    predicted_queue: Amount
    queue: Amount

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Outcome:
    """Retained on ``outcome/<model>/<origin>``: predicted against measured."""

    model: Id
    origin: Id
    term: Count
    sequence: Count
    """Epoch of the assignment in force."""
    jobs: Count
    """That ended under it, by any of its routes."""
    failed: Count
    """Of these, in an error."""
    retried: Count
    """Of these, after more than one attempt."""
    predicted: Amount
    """Seconds that it promises."""
    seconds: Amount | None = None
    """Median of the jobs that took its own route at the first attempt; absent before the first one."""
    mape: Amount | None = None
    """Mean of ``|measured - predicted| / measured`` over the last 100 such jobs of this model and origin,
    each against the assignment it ran under: 0.1 is 10 %."""
    compared: Count = 0
    """Jobs in ``mape``."""
    hops: tuple[HopOutcome, ...] = ()
    predicted_transfer: Amount = 0.0
    """Seconds for all crossings, encoding and decoding included."""
    transfer: Amount | None = None
    """The same, median of what no device counts as waiting or running."""

    @property
    def epoch(self) -> tuple[int, int]:
        """``(term, sequence)``."""
        return self.term, self.sequence
