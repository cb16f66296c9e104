"""Builders of events for tests of single roles; a test writes only what matters to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgemesh.protocol.activation import Activation, Hop, Reply, Timing, encode_activation, encode_reply
from edgemesh.protocol.assignment import Assignment, Fallback
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.presence import About, Heartbeat, HeldModel, Profile, ReadyPartition
from edgemesh.protocol.topics import Topics
from edgemesh.roles.events import JobSubmitted, MessageReceived
from edgemesh.simulation.models import made_up_model

TOPICS = Topics("home")
FACE, CONTENT = made_up_model()
DIGEST = FACE.digest
ROUTE = (Hop("one", 2), Hop("two", 4))


def message(kind: str, payload: Any, *, retained: bool = False, **names: Any) -> MessageReceived:
    """A message of ``kind``; dataclasses are encoded as JSON."""
    raw = payload if isinstance(payload, (bytes, memoryview)) else encode_json(payload)
    return MessageReceived(TOPICS.parse(TOPICS.build(kind, **names)), raw, retained)


def activation(
    job: str = "j-1", *, to: str = "one", section: bytes = b"input", **fields: Any
) -> MessageReceived:
    """Work for device ``to``, by default the first partition of ``ROUTE``."""
    known: dict[str, Any] = {
        "requester": "asker",
        "model": "face",
        "digest": DIGEST,
        "position": 0,
        "route": ROUTE,
        "attempt": 0,
        "left": 10.0,
        "sender": "asker",
        **fields,
    }
    return message("work", encode_activation(Activation(job, **known), (section,)), device=to)


def reply(
    job: str = "j-1",
    attempt: int = 0,
    code: str | None = None,
    *,
    device: str = "two",
    section: bytes = b"out",
) -> MessageReceived:
    """What the last device of a route answers, or any in an error."""
    timings = () if code else (Timing("one", 0, 2, 0.0, 0.01, 0.0), Timing("two", 2, 4, 0.0, 0.01, 0.0))
    header = Reply(job, "asker", attempt, device, code, code and f"{device} says {code}", timings=timings)
    payload = encode_reply(header, () if code else (section,))
    return message("reply", payload, requester="asker")


def submitted(job: str = "j-1", left: float = 10.0, **fields: Any) -> JobSubmitted:
    """A job of model ``face``."""
    return JobSubmitted(job, fields.pop("model", "face"), b"input", left, **fields)


def state(device: str, text: str = "online") -> MessageReceived:
    return message("state", text.encode(), device=device, retained=text == "online")


def about(device: str, *digests: str, boot: str = "b-1", **fields: Any) -> MessageReceived:
    held = tuple(HeldModel("face", digest) for digest in digests)
    told = About(boot, "edgemesh test", "test board", {"tflite": "1"}, 4, 1 << 30, held, **fields)
    return message("about", told, device=device, retained=True)


def heartbeat(
    device: str, *ready: tuple[int, int], boot: str = "b-1", queued: float = 0.0, digest: str = DIGEST
) -> MessageReceived:
    partitions = tuple(ReadyPartition(digest, start, stop) for start, stop in ready)
    return message("heartbeat", Heartbeat(boot, 1, 0, queued, 0.0, partitions), device=device)


def profile(device: str, *seconds: float) -> MessageReceived:
    measured = Profile(DIGEST, "tflite", "1", 4, seconds or (0.01,) * FACE.unit_count)
    return message("profile", measured, device=device, model="face", retained=True)


def manifest() -> MessageReceived:
    return message("model", FACE, model="face", retained=True)


def assignment(
    *route: Hop,
    epoch: tuple[int, int] = (1, 1),
    seconds: float = 0.1,
    fallbacks: Mapping[str, tuple[Hop, ...]] | None = None,
    fallback_seconds: float | None = None,
    origin: str = "app",
    digest: str = DIGEST,
    model: str = "face",
    at_once: bool = False,
) -> MessageReceived:
    """An assignment; ``fallbacks`` by the device that each avoids, twice as slow unless told."""
    slower = 2 * seconds if fallback_seconds is None else fallback_seconds
    others = tuple(Fallback(device, other, slower) for device, other in (fallbacks or {}).items())
    figures = (), 0.0, seconds, "test", others
    told = Assignment(*epoch, model, digest, origin, "latency", route or ROUTE, *figures, at_once=at_once)
    return message("assignment", told, model=model, origin=origin, retained=True)
