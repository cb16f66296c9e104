"""What happens to a role: messages, timers, executor results, connection changes. All in the past tense."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.activation import Hop
from edgemesh.protocol.presence import Profile, Resources
from edgemesh.protocol.topics import ParsedTopic
from edgemesh.roles.actions import Publish


@dataclass(frozen=True)
class Connected:
    """The broker accepted the connection; nothing is subscribed yet."""


@dataclass(frozen=True)
class Disconnected:
    """The connection to the broker is lost."""


@dataclass(frozen=True)
class MessageReceived:
    """A message under the mesh's root."""

    topic: ParsedTopic
    payload: bytes | memoryview
    retained: bool = False
    duplicate: bool = False
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry: float | None = None
    """Seconds left of what the sender gave it: brokers take off what it waited (MQTT 5, 3.3.2.3.3)."""
    acknowledgement: int | None = None
    """What ``Acknowledge`` must name, where the role acknowledges by itself."""


@dataclass(frozen=True)
class ForeignMessageReceived:
    """A message outside of every mesh, on a topic that the role subscribed to: a smart plug reports."""

    topic: str
    payload: bytes | memoryview
    retained: bool = False


@dataclass(frozen=True)
class TimerFired:
    """A timer set by ``SetTimer`` is due."""

    name: str


@dataclass(frozen=True)
class PublishAcknowledged:
    """The broker has the message that was published with this token."""

    token: str


@dataclass(frozen=True)
class Refusal:
    """Why the broker does not take a message: for the ``reason`` that it gave, or for its size."""

    limit: int | None = None
    """Bytes of the largest message that it takes; None where it did not say."""
    reason: str = ""
    """Empty where the message is too large."""

    @property
    def is_for_size(self) -> bool:
        """Whether every message as large would be refused, and this one wherever it goes."""
        return not self.reason


@dataclass(frozen=True)
class PublishRefused:
    """The broker does not take the message: nobody gets it."""

    message: Publish
    refusal: Refusal


# --- executor ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFinished:
    """``RunUnits`` ended; ``section`` holds the outputs as a tensor section.

    It may lie in memory that the executor writes to again: whoever keeps it beyond the event copies it.
    """

    run: str
    section: bytes | memoryview
    run_seconds: float
    code_seconds: float


@dataclass(frozen=True)
class RunFailed:
    """``RunUnits`` ended in an error, or the executor died under it."""

    run: str
    code: str
    text: str


@dataclass(frozen=True)
class RangeLoaded:
    """Units are loaded and warmed."""

    digest: str
    start: int
    stop: int
    memory_bytes: int


@dataclass(frozen=True)
class RangeRefused:
    """Units could not be loaded, or not be measured."""

    digest: str
    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class RunMeasured:
    """``MeasureUnits`` ended: median and half the interquartile range, in seconds."""

    digest: str
    start: int
    stop: int
    seconds: float
    spread: float


@dataclass(frozen=True)
class ExecutorLost:
    """The executor process died; a new one with nothing loaded takes its place."""

    text: str
    digest: str | None = None
    """Model whose units it ran, loaded or measured just then; None where it was idle or that is not known."""


# --- content -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContentStored:
    """The whole content is on disk and has the digest it should have."""

    digest: str


@dataclass(frozen=True)
class ContentFound:
    """``FindContent`` looked: the chunks that are on disk already."""

    digest: str
    chunks: frozenset[int]


@dataclass(frozen=True)
class ContentDamaged:
    """The whole content does not have the digest it should have; it was thrown away."""

    digest: str


@dataclass(frozen=True)
class ContentUnwritable:
    """The disk does not take the content, or does not give it; what was stored of it before stays."""

    digest: str
    text: str


@dataclass(frozen=True)
class ResourcesRead:
    """A reading of the machine."""

    resources: Resources


@dataclass(frozen=True)
class ProfileFound:
    """A profile of this machine for the content, from the cache, or None."""

    digest: str
    profile: Profile | None


# --- jobs at their requester -----------------------------------------------------------------------------


@dataclass(frozen=True)
class JobSubmitted:
    """A job for the requester; ``section`` are its input tensors under codec ``raw``."""

    job: str
    model: str
    section: bytes | memoryview
    left: float
    """Seconds until its deadline."""
    stream: str | None = None
    route: tuple[Hop, ...] | None = None
    """A route to take instead of the assignment's; it is not retried elsewhere."""
    digest: str | None = None
    """Content that the input was prepared for, and the only one it is sent to; None where nobody knows."""


@dataclass(frozen=True)
class JobCancelled:
    """Nobody waits for the job any more."""

    job: str


@dataclass(frozen=True)
class InputDecoded:
    """A submission of an app became tensors."""

    job: str
    section: bytes | memoryview


@dataclass(frozen=True)
class InputRefused:
    """A submission of an app is not what the model takes."""

    job: str
    code: str
    text: str


@dataclass(frozen=True)
class ResultRendered:
    """Outputs became the JSON that apps read."""

    job: str
    payload: bytes


Event = (
    Connected
    | Disconnected
    | MessageReceived
    | ForeignMessageReceived
    | TimerFired
    | PublishAcknowledged
    | PublishRefused
    | RunFinished
    | RunFailed
    | RangeLoaded
    | RangeRefused
    | RunMeasured
    | ExecutorLost
    | ContentStored
    | ContentFound
    | ContentDamaged
    | ContentUnwritable
    | ResourcesRead
    | ProfileFound
    | JobSubmitted
    | JobCancelled
    | InputDecoded
    | InputRefused
    | ResultRendered
)
