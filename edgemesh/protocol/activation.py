"""Activation and reply: what travels from worker to worker, and back to the requester."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from edgemesh.errors import DecodeError
from edgemesh.protocol import limits
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.fields import Amount, Check, Digest, Id, Seconds
from edgemesh.protocol.frame import ACTIVATION, REPLY, decode_frame, encode_frame
from edgemesh.protocol.tensors import Part

Attempt = Annotated[int, Check("0 to 1000", range(1001).__contains__)]
Cut = Annotated[int, Check("0 to the number of units", range(limits.UNITS + 1).__contains__)]
CodecName = Annotated[str, Check(f"one of {', '.join(CODECS)}", CODECS.__contains__)]


@dataclass(frozen=True)
class Hop:
    """One partition of a job's route: units up to ``stop`` on ``device``, sent on under ``codec``."""

    device: Id
    stop: Cut
    codec: CodecName = "raw"


def check_route(route: tuple[Hop, ...]) -> None:
    """Raise DecodeError for a route that no job could follow."""
    if not 1 <= len(route) <= limits.ROUTE:
        raise DecodeError(f"route of {len(route)} partitions, not 1 to {limits.ROUTE}")
    before = 0
    for hop in route:
        if hop.stop <= before:
            raise DecodeError(f"stops of the route do not grow: {[hop.stop for hop in route]}")
        before = hop.stop


def check_units(start: int, stop: int) -> None:
    """Raise DecodeError where ``[start, stop)`` holds no unit."""
    if start >= stop:
        raise DecodeError(f"no unit lies in [{start}, {stop})")


@dataclass(frozen=True)
class Timing:
    """What one hop took, on that device's own clock, in seconds."""

    device: Id
    start: Cut
    stop: Cut
    queue: Seconds
    run: Seconds
    code: Seconds
    """Decoding the input and encoding the output."""

    def __post_init__(self) -> None:
        """Raise DecodeError where it holds no unit."""
        check_units(self.start, self.stop)


@dataclass(frozen=True)
class Activation:
    """Header of a job under way; its tensors (``boundaries[position]``) are the body of the frame."""

    job: Id
    requester: Id
    model: Id
    digest: Digest
    position: Cut
    route: tuple[Hop, ...]
    attempt: Attempt
    left: Amount
    """Seconds until the deadline when it was sent: durations cross machines, points in time do not."""
    sender: Id
    """Whom a transfer receipt goes to."""
    receipt: bool = False
    """Whether the sender wants a transfer receipt for this message."""
    stream: Id | None = None
    """A waiting activation of the same stream is superseded by this one (policy ``latest``)."""
    timings: tuple[Timing, ...] = ()
    traceparent: str | None = None

    def __post_init__(self) -> None:
        """Raise DecodeError where the route cannot be followed from ``position``."""
        check_route(self.route)
        if self.position >= self.route[-1].stop:
            raise DecodeError(f"position {self.position} is past the route's end {self.route[-1].stop}")
        if len(self.timings) > limits.TIMINGS:
            raise DecodeError(f"{len(self.timings)} timings, more than {limits.TIMINGS}")

    @property
    def hop_index(self) -> int:
        """Index in ``route`` of the partition to run next."""
        return next(i for i, hop in enumerate(self.route) if hop.stop > self.position)


@dataclass(frozen=True)
class Reply:
    """Header of a job's end; the body holds the outputs, or nothing beside an error ``code``."""

    job: Id
    requester: Id
    attempt: Attempt
    device: Id
    code: str | None = None
    text: str | None = None
    position: Cut = 0
    """Where an error happened."""
    timings: tuple[Timing, ...] = ()


def encode_activation(header: Activation, section: Sequence[Part]) -> bytes:
    """Payload for ``device/<id>/work``; ``section`` holds the parts of ``encode_tensors``, or a whole one."""
    return encode_frame(ACTIVATION, header, section)


def decode_activation(payload: bytes | bytearray | memoryview) -> tuple[Activation, memoryview]:
    """``(header, tensor section)``; raises DecodeError or VersionError."""
    return decode_frame(ACTIVATION, Activation, payload)


def encode_reply(header: Reply, section: Sequence[Part] = ()) -> bytes:
    """Payload for ``reply/<requester>``."""
    return encode_frame(REPLY, header, section)


def decode_reply(payload: bytes | bytearray | memoryview) -> tuple[Reply, memoryview]:
    """``(header, tensor section)``; the section is empty beside an error.

    Raises DecodeError or VersionError.
    """
    return decode_frame(REPLY, Reply, payload)
