"""Policy memory: says policies again to a broker that lost its memory, as devices do with manifests.

A policy is published once, by a person. Whoever holds the decision role or stands by for it remembers what
the broker retained; who takes the role on a broker that knows of no holder publishes what is missing.
"""

from __future__ import annotations

from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish, Subscribe
from edgemesh.roles.events import Connected, Event, MessageReceived
from edgemesh.roles.role import Role

_POLICIES = 1024


class PolicyMemory:
    """Outlives connections and holdings. Give it a standby's events, and messages while the role is held."""

    def __init__(self, topics: Topics) -> None:
        self._filter = topics.filter("policy")
        self._topics = topics
        self._kept: dict[str, bytes] = {}
        """Topic to what was retained there when it was heard last."""
        self._heard: set[str] = set()
        """Topics heard of since the connection began."""
        self._broker_remembers = False
        """Whether it retained a state of the role when the connection began."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """Learn policies; subscribe to them on each new connection."""
        if isinstance(event, Connected):
            self._drop_what_was_cleared()
            self._heard.clear()
            self._broker_remembers = False
            return [Subscribe(self._filter, 1)]
        if isinstance(event, MessageReceived):
            self.learn(event)
        return []

    def learn(self, event: MessageReceived) -> None:
        """Take in a policy, or that the broker knows of a holder."""
        kind = event.topic.kind
        if kind == "decision" and event.retained and event.payload:
            self._broker_remembers = True
        if kind != "policy":
            return
        topic = self._topics.build("policy", model=event.topic.names["model"])
        self._heard.add(topic)
        if not event.payload:
            self._kept.pop(topic, None)
        elif topic in self._kept or len(self._kept) < _POLICIES:
            self._kept[topic] = bytes(event.payload)

    def forgotten(self) -> list[Publish]:
        """What to publish when the role is taken: nothing where the broker kept its memory."""
        self._drop_what_was_cleared()
        return [
            Publish(topic, payload, qos=1, retain=True)
            for topic, payload in sorted(self._kept.items())
            if topic not in self._heard
        ]

    def _drop_what_was_cleared(self) -> None:
        """A broker that remembers the role and not a policy was told to clear it while we did not listen."""
        if self._broker_remembers:
            self._kept = {topic: payload for topic, payload in self._kept.items() if topic in self._heard}


class Remembering:
    """A role, and beside it what its nodes remember for the broker."""

    def __init__(self, role: Role, memory: PolicyMemory) -> None:
        self._role = role
        self._memory = memory
        self._again = memory.forgotten()

    def handle(self, event: Event, now: float) -> list[Action]:
        """As the role; what the broker forgot follows its first words."""
        if isinstance(event, MessageReceived):
            self._memory.learn(event)
        actions = self._role.handle(event, now)
        if isinstance(event, Connected):
            actions, self._again = [*actions, *self._again], []
        return actions
