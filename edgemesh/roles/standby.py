"""Standby: waits until nobody holds a role, then says that it may be taken.

The broker lets one connection hold a client id, so that id is the lock; this only keeps two holders from
throwing each other out for ever.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from edgemesh.errors import DecodeError
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import decode_json
from edgemesh.roles.actions import Action, CancelTimer, Log, Publish, SetTimer, Subscribe
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    MessageReceived,
    PublishAcknowledged,
    TimerFired,
)
from edgemesh.roles.leadership import LAST_TERM
from edgemesh.roles.refusals import Refusals

_FREE_SECONDS = 0.7
"""A retained state arrives well within this time after the broker has the subscription."""
_BLIND_SECONDS = 10.0
"""Where it never says that it has: longer than a message takes on the slowest link."""
_SOUNDING = "standby-sounding"
_STATES = frozenset({"gateway", "decision"})
"""Kinds of topics of a role's state: what else comes is for the memory that listens beside it."""
_STALE_SECONDS = 16.0
"""A holder repeats its state every 5 s at most; a retained one that is not repeated is a dead holder's."""
_FIRST_SECONDS, _SPREAD_SECONDS = 0.02, 0.4
"""Several standbys hear of a holder's end in the same instant. Who takes the role throws out the one before
it, whose Will would call the next: so each waits for another time, and hears in it of who was faster. On a
slow link that takes two ways more."""


@dataclass(frozen=True)
class RoleTaken:
    """The role is free: hold it from now on, in this term."""

    term: int


class Standby:
    """Handle events until ``taken`` is set."""

    def __init__(self, role: str, topic: str, boot: str, sounding: str) -> None:
        """``topic`` is that of the role's state, ``sounding`` one that nobody reads."""
        self.taken: RoleTaken | None = None
        self._role = role
        self._topic = topic
        self._boot = boot
        self._sounding = sounding
        self._connected_at = 0.0
        self._round_trip = 0.0
        self._looks = False
        """Whether nothing was heard of a holder since it is connected."""
        self._term = 0
        self._holder: str | None = None
        self._refusals = Refusals()

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to the holder's state and to its silence."""
        if isinstance(event, Connected):
            self._connected_at, self._looks = now, True
            return [
                Subscribe(self._topic, 1),
                # Acknowledged after the subscription: a fixed time would be over before a slow link brought
                # the state of a holder that is well.
                Publish(self._sounding, b"", qos=1, expiry=1.0, token=_SOUNDING),
                SetTimer("standby", now + _BLIND_SECONDS),
            ]
        if isinstance(event, Disconnected):
            # Nobody can be heard: that is no reason to take a role.
            return [CancelTimer("standby")]
        if isinstance(event, TimerFired) and event.name == "standby":
            self.taken = RoleTaken(self._term + 1)
        if isinstance(event, PublishAcknowledged) and event.token == _SOUNDING:
            self._round_trip = now - self._connected_at
            return [SetTimer("standby", now + _FREE_SECONDS)] if self._looks else []
        if isinstance(event, MessageReceived) and event.topic.kind in _STATES:
            return self._heard(event, now)
        return []

    def _heard(self, event: MessageReceived, now: float) -> list[Action]:
        if not event.payload:
            self._looks = False
            return [self._take_soon(now)]
        try:
            holder = decode_json(Holder, event.payload)
        except DecodeError as error:
            return self._refusals.log(self._role, error, now)
        if holder.term <= LAST_TERM:
            self._term = max(self._term, holder.term)
        self._looks = False
        if holder.state != "online" or holder.boot == self._boot:
            return [self._take_soon(now)]
        timer = SetTimer("standby", now + _STALE_SECONDS)
        if self._holder == holder.boot:
            return [timer]
        self._holder = holder.boot
        return [timer, Log("info", f"{holder.holder} holds the role {self._role}; standing by", self._role)]

    def _take_soon(self, now: float) -> SetTimer:
        spread = zlib.crc32(self._boot.encode()) / 2**32
        pause = _FIRST_SECONDS + spread * _SPREAD_SECONDS + 2.0 * self._round_trip
        return SetTimer("standby", now + pause)
