"""What a role is to whoever drives it: a state machine without input, output or clock."""

from __future__ import annotations

from typing import Protocol

from edgemesh.roles.actions import Action, Publish
from edgemesh.roles.events import Event


class Role(Protocol):
    """Events and time in, actions out."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to an event."""
        ...


class HeldRole(Role, Protocol):
    """A role that one node holds at a time, with a retained state that its Will withdraws."""

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        ...

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        ...
