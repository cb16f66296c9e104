"""Answered: submissions whose result is out, while the broker may still hold them unacknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.protocol.fields import Count


@dataclass(frozen=True)
class AnsweredSubmission:
    """One of them, as it would come again: the broker keeps its packet identifier (MQTT 5, 4.4)."""

    packet: Count
    checksum: Count
    """CRC-32 of model, a space, correlation data and payload."""


@dataclass(frozen=True)
class Answered:
    """``gateway/<slot>/answered``: what the next holder of the session must not answer again."""

    submissions: tuple[AnsweredSubmission, ...] = ()
