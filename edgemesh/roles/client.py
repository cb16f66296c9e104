"""Client: the requester inside a program that uses the mesh without being a device of it."""

from __future__ import annotations

from edgemesh.errors import DecodeError
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Subscribe
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.requester import Requester


class ClientRole:
    """Jobs in, ``JobEnded`` out. The caller carries out the actions in order."""

    def __init__(self, requester: str, origin: str, topics: Topics) -> None:
        self.view = MeshView()
        self.requester = Requester(requester, origin, topics, self.view)
        self._origin = origin
        self._topics = topics
        self._refusals = Refusals()

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to submissions, replies and news of the mesh."""
        if isinstance(event, Disconnected):
            self.requester.disconnected()
            return []
        if isinstance(event, MessageReceived):
            try:
                self.view.learn(event, now)
            except DecodeError as error:
                return self._refusals.log(event.topic.kind, error, now)
        actions = self.requester.handle(event, now)
        if isinstance(event, Connected):
            return [*self._subscriptions(), *actions]
        return actions

    def _subscriptions(self) -> list[Action]:
        topics = self._topics
        filters = [
            topics.filter("reply", requester=self.requester.requester),
            topics.filter("model"),
            topics.filter("state"),
            topics.filter("about"),
            topics.filter("heartbeat"),
            topics.filter("assignment", origin=self._origin),
            topics.filter("response", verb="plan"),
        ]
        return [Subscribe(f, 1) for f in filters]
