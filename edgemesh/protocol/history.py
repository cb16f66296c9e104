"""History: what was decided, what came of it, and who changed what is kept to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.fields import Amount, Count, Id

RecordKind = Literal["assignment", "failure", "outcome", "policy"]


@dataclass(frozen=True)
class HistoryRecord:
    """One thing that happened to a model.

    ``assignment``: a plan was published. ``failure``: there is no plan. ``outcome``: what jobs of an
    assignment took. ``policy``: a person changed what is kept to.
    """

    kind: RecordKind
    model: Id
    text: str
    """Why; of a policy what is kept to from now on."""
    origin: Id | None = None
    term: Count | None = None
    sequence: Count | None = None
    """Epoch of the assignment that it is about."""
    objective: str | None = None
    route: tuple[Hop, ...] = ()
    seconds: Amount | None = None
    """Predicted per job."""
    joules: Amount | None = None
    """Predicted per job."""
    measured: Amount | None = None
    """Seconds, median of the jobs."""
    error: Amount | None = None
    """Mean absolute percentage error of the predictions, as a fraction."""
    jobs: Count | None = None
    failed: Count | None = None
    """Of the jobs."""
    who: str | None = None
    """Who changed it."""
    before: str | None = None
    """Of a policy: what was kept to until then."""


@dataclass(frozen=True)
class HistoryEntry:
    """A record and how long ago it was made."""

    age: Amount
    """Seconds before the answer."""
    record: HistoryRecord


@dataclass(frozen=True)
class HistoryRequest:
    """``request/history``: the newest records of a model, or of all."""

    requester: Id
    model: Id | None = None
    since: Amount | None = None
    """Seconds: nothing older."""
    limit: Count = 200


@dataclass(frozen=True)
class HistoryResponse:
    """``response/history``, newest first."""

    requester: Id
    entries: tuple[HistoryEntry, ...] = ()
    truncated: bool = False
    """Whether there are more than were asked for, or than one answer holds."""
    error: str | None = None
    """Why there is no answer."""

    def __post_init__(self) -> None:
        """Raise DecodeError for more records than an answer may hold."""
        if len(self.entries) > limits.HISTORY:
            raise DecodeError(f"{len(self.entries)} records, more than {limits.HISTORY}")
