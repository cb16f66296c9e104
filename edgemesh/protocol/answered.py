"""Answered: submissions whose result is out, while the broker may still hold them unacknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.fields import Count, Id


@dataclass(frozen=True)
class AnsweredSubmission:
    """One of them, as it would come again: the broker keeps its packet identifier (MQTT 5, 4.4)."""

    packet: Count
    checksum: Count
    """CRC-32 of model, a space, correlation data and payload."""


@dataclass(frozen=True)
class ToldSubmission:
    """One whose result may be out: whoever answers it again has to tell it under the same job id."""

    packet: Count
    checksum: Count
    job: Id
    result: str | None = None
    """What it says, to be told again as it was; None where that is too long for a text."""


@dataclass(frozen=True)
class Answered:
    """``gateway/<slot>/answered``: what the next holder of the session must not answer again, or only under
    the same job id."""

    submissions: tuple[AnsweredSubmission, ...] = ()
    told: tuple[ToldSubmission, ...] = ()
