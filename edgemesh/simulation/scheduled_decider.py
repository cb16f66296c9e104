"""A decision node that publishes plans made beforehand: how the baselines of a simulation speak."""

from __future__ import annotations

from edgemesh.protocol.assignment import Assignment, Fallback, Holder
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.presence import State
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish
from edgemesh.roles.announcements import hop_predictions, route_of
from edgemesh.roles.events import Connected, Event
from edgemesh.simulation.plans import Chosen, Phase
from edgemesh.simulation.unit_tables import unit_table


class ScheduledDecider:
    """Publishes what it is told to; it looks at nothing."""

    def __init__(self, holder: str, boot: str, term: int, topics: Topics, first: Phase) -> None:
        """``first`` is published on connecting."""
        self._holder = Holder("online", holder, boot, term)
        self._topics = topics
        self._first = first
        self._sequence = 0

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to the connection."""
        if isinstance(event, Connected):
            return [self._state("online"), *self.publish(self._first)]
        return []

    def publish(self, phase: Phase) -> list[Action]:
        """The assignments of a phase."""
        return [self._assignment(model, origin, chosen) for (model, origin), chosen in phase.plans.items()]

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        return self._state("offline")

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        return [self._state("stopped")]

    def _state(self, state: State) -> Publish:
        h = self._holder
        payload = encode_json(Holder(state, h.holder, h.boot, h.term))
        return Publish(self._topics.build("decision"), payload, qos=1, retain=True)

    def _assignment(self, model: str, origin: str, chosen: Chosen) -> Publish:
        self._sequence += 1
        epoch = self._holder.term, self._sequence
        digest = unit_table(model).digest
        message = fixed_assignment(epoch, model, digest, origin, chosen, "a baseline of the simulation")
        topic = self._topics.build("assignment", model=model, origin=origin)
        return Publish(topic, encode_json(message), qos=1, retain=True)


def fixed_assignment(
    epoch: tuple[int, int], model: str, digest: str, origin: str, chosen: Chosen, reason: str
) -> Assignment:
    """The assignment that says a plan which nobody decided anew."""
    plan = chosen.plan
    result = plan.prediction.result
    return Assignment(
        *epoch,
        model,
        digest,
        origin,
        "baseline",
        route_of(plan),
        hop_predictions(plan.prediction),
        result.seconds if result is not None else 0.0,
        plan.total,
        reason,
        tuple(Fallback(device, route_of(other), other.total) for device, other in chosen.fallbacks.items()),
    )
