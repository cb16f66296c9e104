"""What became of each job, and of each fault."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Job:
    """One job of one stream; times are seconds of ``time.monotonic``."""

    stream: str
    number: int
    began: float
    ended: float | None = None
    right: bool | None = None
    """None until it ends, and for one that ended in an error."""
    error: str | None = None
    attempts: int = 1
    predicted: float | None = None
    devices: tuple[str, ...] = ()
    ends: int = 0
    """Results that came for it: more than one is a duplicate."""
    again: list[float] = field(default_factory=list)
    """When each result after the first one came."""
    told_as: list[str] = field(default_factory=list)
    """The job id of each result, where the program sees it: it names the holding of the gateway."""
    resubmitted: int = 0
    """Times that its MQTT library may have sent it again: a connection ended before its PUBACK."""
    handed_back: int = 0
    """Times that its program was told at once that the agent had died, and submitted it again."""

    @property
    def seconds(self) -> float | None:
        """From submission to result."""
        return None if self.ended is None else self.ended - self.began

    def overlaps(self, start: float, stop: float) -> bool:
        """Whether it was under way at some moment of the interval."""
        return self.began <= stop and (self.ended is None or self.ended >= start)


@dataclass
class FaultRecord:
    """One fault that was injected; times as of a job."""

    kind: str
    target: str
    at: float
    undone: float | None = None
    """When what was killed was started again, or what was stopped went on."""
    whole: float | None = None
    """When every member was there and every stream had a right answer to a job begun after ``undone``."""
    standby: float | None = None
    """Seconds before it, in which the role had a holder and nobody who could take it over."""
    takeover: float | None = None
    """Seconds until the standby held the role."""
    changed_hands: bool = False
    """Whether the role had another holder or term some time after the one that was replaced went on."""
    lost_store: bool = False
    """Whether the broker forgot what it had acknowledged."""
    missing: tuple[str, ...] = ()
    """Retained topics that the mesh did not bring back in time after that."""


@dataclass
class Records:
    """Written by the threads of the streams and by the schedule."""

    jobs: list[Job] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    """Results that are wrong: outputs of no input that was sent, or others than before under that job id."""
    errors: list[str] = field(default_factory=list)
    """Error results that the plain app got; it cannot tell of which submission, which then counts as lost."""
    redelivered: int = 0
    """Results that came again to the plain app under the same job id."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def remembered_since(self) -> float:
        """From when on the broker knew what it had acknowledged until the end of the run."""
        return max((fault.whole or 0.0 for fault in self.faults if fault.lost_store), default=0.0)

    def begin(self, stream: str, number: int, began: float) -> Job:
        """A job that is submitted now."""
        job = Job(stream, number, began)
        with self.lock:
            self.jobs.append(job)
        return job
