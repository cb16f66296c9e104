"""Result of a job as IoT apps read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.fields import Amount, Count, Id
from edgemesh.protocol.jsontext import encode_json


@dataclass(frozen=True)
class ResultMessage:
    """``result/<model>``: outputs, or an error with its code."""

    job: Id
    model: str
    seconds: Amount
    """From submission to result, on the requester's clock."""
    outputs: dict[str, Any] = field(default_factory=dict)
    route: tuple[Hop, ...] = ()
    timings: tuple[Timing, ...] = ()
    attempts: Count = 1
    code: str | None = None
    error: str | None = None


def encode_result(message: ResultMessage) -> bytes:
    """JSON payload; ``outputs`` are plain values already."""
    return encode_json(message)
