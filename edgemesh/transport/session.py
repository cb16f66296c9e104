"""What a client asks of the broker for its session."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgemesh.device.emulation import LinkShaper
from edgemesh.roles.actions import Publish


@dataclass
class SessionSettings:
    """How the broker treats this client."""

    clean_start: bool = True
    session_expiry: int = 0
    receive_maximum: int | None = None
    """Messages that may come before the first is acknowledged; None is as many as MQTT 5 allows."""
    manual_acknowledgement: bool = False
    will: Publish | None = None
    unique_id: bool = False
    """Whether the client id has a random part, so that no other client can have it."""
    shaper: LinkShaper | None = field(default=None)
    """The link of an emulated board; None is the machine's own."""
