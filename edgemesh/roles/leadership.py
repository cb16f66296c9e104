"""Leadership: in which term a decision node leads, and whether it has read what was said before it.

The broker lets one connection hold the role, but two standbys may each take it in the same term: on a slow
link one of them has not heard of the other yet. Whoever comes second reads the first one's state, and leads
in a higher term.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.presence import State
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish, Subscribe
from edgemesh.roles.events import MessageReceived

LAST_TERM: Final = 1 << 40
"""A greater one comes from no leader: counting on from it would soon leave the range of the contract."""
_STATE_SECONDS: Final = 5.0
"""Between repetitions of this node's state: a standby distrusts one that is older than three of them."""
_BLIND_SECONDS: Final = 10.0
"""Where its own word never comes back: longer than a message takes on the slowest link."""


class Leadership:
    """Of one holding of the role."""

    def __init__(self, holder: str, boot: str, term: int, topics: Topics) -> None:
        """``term`` is greater than that of every leader that the holder has heard of."""
        self._holder = Holder("online", holder, boot, term)
        self._topics = topics
        self._heard_itself = False
        self._connected_at = self._stated_at = float("-inf")

    @property
    def term(self) -> int:
        """Of what is published now."""
        return self._holder.term

    def state(self, state: State) -> Publish:
        """What is retained of the role."""
        payload = encode_json(replace(self._holder, state=state))
        return Publish(self._topics.build("decision"), payload, qos=1, retain=True)

    def begin(self, subscriptions: list[Action], now: float) -> list[Action]:
        """Subscribe, and say that it leads: what is retained has all arrived when that comes back."""
        self._heard_itself = False
        self._connected_at = self._stated_at = now
        return [Subscribe(self._topics.filter("decision"), 1), *subscriptions, self.state("online")]

    def repeat(self, now: float) -> list[Action]:
        """Its state again, when it is time to."""
        if now - self._stated_at < _STATE_SECONDS:
            return []
        self._stated_at = now
        return [self.state("online")]

    def heard(self, event: MessageReceived) -> list[Action]:
        """A state of the role: its own, or that of whoever led before; raises DecodeError."""
        if not event.payload:
            return []
        told = decode_json(Holder, event.payload)
        if told.boot == self._holder.boot:
            self._heard_itself = True
            return []
        return [self.state("online")] if self.rise_above(told.term) else []

    def rise_above(self, term: int) -> bool:
        """Lead in a higher term than ``term``; whether that is a new one."""
        if not self._holder.term <= term <= LAST_TERM:
            return False
        self._holder = replace(self._holder, term=term + 1)
        return True

    def has_read(self, now: float) -> bool:
        """Whether what earlier leaders published is known, so that epochs begin above theirs."""
        return self._heard_itself or now - self._connected_at >= _BLIND_SECONDS
