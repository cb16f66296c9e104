"""What a role wants done: the node shell and the simulator carry it out, and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.history import HistoryRecord, HistoryRequest
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Profile

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Publish:
    """Send a message."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry: float | None = None
    """Seconds after which the broker drops it."""
    token: str | None = None
    """Where given, ``PublishAcknowledged`` with this token follows the broker's acknowledgement."""
    content_type: str | None = None
    correlation: bytes | None = None
    resend: bool = True
    """Whether the next connection sends it again where this one broke before the broker acknowledged it. Not
    where the role does so itself: on a slow link two of each would be too many."""
    bulk: bool = False
    """Whether other messages of this connection may overtake it while it waits to be written."""


@dataclass(frozen=True)
class Subscribe:
    """Receive what matches the filter from now on, retained messages first."""

    filter: str
    qos: int = 1


@dataclass(frozen=True)
class Unsubscribe:
    """Receive what matches the filter no longer."""

    filter: str


@dataclass(frozen=True)
class Acknowledge:
    """Tell the broker that the submission is dealt with."""

    acknowledgement: int


@dataclass(frozen=True)
class SetTimer:
    """Fire ``name`` at ``at``; replaces a timer of that name."""

    name: str
    at: float


@dataclass(frozen=True)
class CancelTimer:
    """Forget the timer, if it is set."""

    name: str


@dataclass(frozen=True)
class RunUnits:
    """Run units of a model on a tensor section, encode the outputs with ``codec``."""

    run: str
    digest: str
    start: int
    stop: int
    section: bytes | memoryview
    codec: str
    at_least: float = 0.0
    """Seconds that the run must take: an emulated board is slower than the machine."""
    until: float = inf
    """When it is too late to begin, on the caller's clock: it fails by its deadline then."""


@dataclass(frozen=True)
class LoadUnits:
    """Load and warm units, so that the first job over them is as fast as the next."""

    digest: str
    start: int
    stop: int


@dataclass(frozen=True)
class UnloadUnits:
    """Free the memory of units."""

    digest: str
    start: int
    stop: int


@dataclass(frozen=True)
class MeasureUnits:
    """Time units on made-up inputs, when nothing else runs."""

    digest: str
    start: int
    stop: int
    runs: int = 0
    """How many times to run them; 0 leaves it to the executor: enough for a figure to rely on."""


@dataclass(frozen=True)
class FindContent:
    """Look which chunks of the content are on disk.

    ``ContentFound``, ``ContentStored``, ``ContentDamaged`` or ``ContentUnwritable`` follows.
    """

    manifest: Manifest


@dataclass(frozen=True)
class StoreChunk:
    """Write a verified chunk; ``ContentStored`` or ``ContentDamaged`` follows the last one.

    ``ContentUnwritable`` follows one that the disk does not take.
    """

    manifest: Manifest
    index: int
    data: bytes
    last: bool


@dataclass(frozen=True)
class SendChunk:
    """Read a chunk from disk and publish it, if the content is there."""

    topic: str
    digest: str
    index: int
    chunk_bytes: int


@dataclass(frozen=True)
class ReadResources:
    """Read the machine's resources; ``ResourcesRead`` follows."""


@dataclass(frozen=True)
class FindProfile:
    """Look for a cached profile; ``ProfileFound`` follows."""

    manifest: Manifest


@dataclass(frozen=True)
class StoreProfile:
    """Keep a profile on disk, by digest, runtime version and threads."""

    profile: Profile


@dataclass(frozen=True)
class DropContent:
    """Delete the content of a removed model."""

    digest: str


@dataclass(frozen=True)
class DecodeInput:
    """Make tensors of a submission; ``InputDecoded`` or ``InputRefused`` follows."""

    job: str
    manifest: Manifest
    payload: bytes | memoryview
    content_type: str | None


@dataclass(frozen=True)
class RenderResult:
    """Make the JSON result of a job; ``ResultRendered`` follows."""

    job: str
    manifest: Manifest | None
    ended: JobEnded


@dataclass(frozen=True)
class JobEnded:
    """A job has its one result or its one error."""

    job: str
    model: str
    seconds: float
    """Since it was submitted, on the requester's clock."""
    code: str | None = None
    text: str | None = None
    section: bytes | memoryview = b""
    route: tuple[Hop, ...] = ()
    timings: tuple[Timing, ...] = ()
    attempts: int = 1
    predicted: float | None = None
    """Seconds that the assignment promised for the route taken."""
    digest: str = ""
    """Of the model's content; empty for a job that was never sent."""
    epoch: tuple[int, int] = (0, 0)
    """Of the assignment whose route was tried last; zeros where that came from none."""
    alone: bool = False
    """Whether the requester's own device ran all of it as the broker was away, or refused the input."""


@dataclass(frozen=True)
class Remember:
    """Keep the record on disk with the time of day: the history of this mesh."""

    record: HistoryRecord


@dataclass(frozen=True)
class AnswerHistory:
    """Read what the request asks for and publish it on ``response/history``."""

    request: HistoryRequest


@dataclass(frozen=True)
class Log:
    """A line for the operator; ``about`` names the job, model or device that caused it."""

    level: Level
    text: str
    about: str = ""


Action = (
    Publish
    | Subscribe
    | Unsubscribe
    | Acknowledge
    | SetTimer
    | CancelTimer
    | RunUnits
    | LoadUnits
    | UnloadUnits
    | MeasureUnits
    | FindContent
    | StoreChunk
    | SendChunk
    | ReadResources
    | FindProfile
    | StoreProfile
    | DropContent
    | DecodeInput
    | RenderResult
    | JobEnded
    | Remember
    | AnswerHistory
    | Log
)
