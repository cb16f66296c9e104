"""News: what the decision node publishes of its plans, of their outcomes, and of why there are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.planning.alternatives import alternatives
from edgemesh.planning.binding import binding_constraint
from edgemesh.planning.explanation import why_idle
from edgemesh.planning.goal import Goal
from edgemesh.planning.plan import Infeasible
from edgemesh.planning.switching import Errors, latency_error
from edgemesh.protocol.assignment import Assignment, PlanFailure
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Publish, Remember
from edgemesh.roles.announcements import Circumstances, assignment_message, route_label, route_of
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import MessageReceived
from edgemesh.roles.history_records import assignment_record, failure_record, outcome_record
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.plans import Key, Situation
from edgemesh.roles.switching import InForce

_RUNNER_UPS: Final = 8
_OUTCOME_SECONDS: Final = 5.0
"""At most one outcome of a (model, origin) is published in this time."""
_SUMMARY_SECONDS: Final = 60.0
"""At most one goes into the history in this time, besides the last one of each assignment."""
_EXPLAINED_WORK: Final = 1_000_000
"""Units squared times devices up to which the binding constraint is looked for with every assignment: that
takes a search per constraint. Beyond it only who asks is told."""
_SEEN: Final = 8192
_FIGURES: Final = re.compile(r"\d+(\.\d+)?")


class News:
    """Makes the messages; remembers what was told before."""

    def __init__(
        self, topics: Topics, estimates: MeshEstimates, unix_time: Callable[[float], float] | None
    ) -> None:
        """``unix_time(now)`` is the time of day at ``now``."""
        self.sequence = 0
        """Of the last assignment published."""
        self._topics = topics
        self._estimates = estimates
        self._unix_time = unix_time
        self._failures: dict[Key, PlanFailure] = {}
        """What is retained, as far as this node knows."""
        self._seen: set[tuple[str, Key]] = set()
        """Topics of failures and outcomes that retain something, perhaps of an earlier leader."""
        self._newest: dict[Key, tuple[Assignment, float]] = {}
        """Published last, and when."""
        self._outcomes: dict[Key, Outcome] = {}
        """Published last."""
        self._outcome_at: dict[Key, float] = {}
        self._summary_at: dict[Key, float] = {}

    def clear(self) -> None:
        """Begin with what the broker retains."""
        self._failures.clear()
        self._seen.clear()

    def time_of_day(self, now: float) -> float | None:
        """Unix time, where it is known."""
        return None if self._unix_time is None else self._unix_time(now)

    # --- assignments -------------------------------------------------------------------------------------

    def assignment(
        self,
        situation: Situation,
        entry: InForce,
        reason: str,
        errors: Errors,
        term: int,
        view: MeshView,
        now: float,
    ) -> list[Action]:
        """Publish the plan that is in force from now on."""
        key = situation.manifest.name, situation.origin
        plan, instance = entry.plan, situation.instance
        # Without any watts energy is 0 for all, and plans differ in latency only.
        energy = situation.goal.objective in ("energy", "bounded-energy")
        by = Goal("latency") if energy and not situation.conditions.watts_known else situation.goal
        others = alternatives(instance, plan, runner_ups=_RUNNER_UPS, goal=by)
        self.sequence += 1
        abouts = {device: view.about(device) for device in view.devices}
        small = instance.unit_count**2 * len(instance.devices) <= _EXPLAINED_WORK
        message = assignment_message(
            situation.manifest,
            situation.origin,
            plan,
            others,
            why_idle(instance, plan, others.using, by, others.unexamined),
            instance,
            situation.conditions,
            Circumstances(
                epoch=(term, self.sequence),
                objective=situation.goal.objective,
                reason=reason,
                estimates_age=self._estimates.age(frozenset(plan.devices), now),
                uncertainty=latency_error(plan.prediction, errors),
                emulated=frozenset(device for device, about in abouts.items() if about and about.emulated),
                binding=binding_constraint(instance, plan, situation.goal) if small else "",
                notes=situation.notes,
                changes=entry.changes,
                since=entry.since,
                at_once=entry.at_once,
            ),
        )
        payload = encode_json(message)  # what cannot be encoded leaves all as it was
        ended = self._summary(key, now) if key in self._newest else []
        self._estimates.outcomes.assigned(message)
        self._newest[key] = message, now
        topic = self._topics.build("assignment", model=key[0], origin=key[1])
        figures = f"predicted {plan.total * 1e3:.1f} ms"
        if message.joules is not None:
            figures += f", {message.joules:.3g} J"
        return [
            *ended,
            Publish(topic, payload, qos=1, retain=True),
            Remember(assignment_record(message)),
            Log("info", f"{key[0]} for {key[1]}: {route_label(plan)}, {figures}; {reason}", key[0]),
            *self.planned(key),
        ]

    def planned(self, key: Key) -> list[Action]:
        """There is a plan: take back what was said of there being none."""
        if self._failures.pop(key, None) is None:
            return []
        return [self._retained("failure", key, b"")]

    # --- failures ----------------------------------------------------------------------------------------

    def heard(self, event: MessageReceived) -> None:
        """A failure or outcome that is retained, perhaps by an earlier leader. Raises DecodeError."""
        kind, key = event.topic.kind, (event.topic.names["model"], event.topic.names["origin"])
        if not event.payload:
            self._seen.discard((kind, key))
            return
        if (kind, key) not in self._seen and len(self._seen) >= _SEEN:
            raise DecodeError(f"more than {_SEEN} failures and outcomes; that of {key[0]} is not taken in")
        self._seen.add((kind, key))
        if kind == "failure":
            self._failures.setdefault(key, decode_json(PlanFailure, event.payload))

    def keys(self) -> set[Key]:
        """Of all that is retained of failures and outcomes."""
        return {key for _, key in self._seen}

    def failure(self, key: Key, why: Infeasible, entry: InForce | None, now: float) -> list[Action]:
        """Say why there is no plan, unless it was said already."""
        before = self._failures.get(key)
        kept = route_of(entry.plan) if entry is not None else ()
        same = before is not None and (before.kind, before.kept) == (why.kind, kept)
        if before is not None and same and before.reason == why.reason:
            return []
        since = before.since if before is not None and same else self.time_of_day(now)
        failure = PlanFailure(key[0], key[1], why.kind, why.reason, kept, since)
        told = self._retained("failure", key, encode_json(failure))
        self._failures[key] = failure
        # The charge of a battery is another every minute; that is no other failure.
        if before is not None and same and _shape(before.reason) == _shape(why.reason):
            return [told]
        return [told, Remember(failure_record(failure))]

    # --- outcomes ----------------------------------------------------------------------------------------

    def outcomes(self, now: float) -> list[Action]:
        """Publish what is new of jobs that ended, at a bounded rate."""
        actions: list[Action] = []
        for key, assignment in self._newest.items():
            if now - self._outcome_at.get(key, assignment[1]) < _OUTCOME_SECONDS:
                continue
            if self._estimates.demand(*key, now) <= 0.0:
                continue
            outcome = self._estimates.outcomes.outcome(*key)
            self._outcome_at[key] = now
            if outcome is None or not outcome.jobs or outcome == self._outcomes.get(key):
                continue
            actions.append(self._retained("outcome", key, encode_json(outcome)))
            self._outcomes[key] = outcome
            if now - self._summary_at.setdefault(key, now) >= _SUMMARY_SECONDS:
                actions += self._summary(key, now)
        return actions

    def _summary(self, key: Key, now: float) -> list[Action]:
        """The outcome so far, for the history."""
        outcome = self._estimates.outcomes.outcome(*key)
        if outcome is None or not outcome.jobs:
            return []
        self._summary_at[key] = now
        return [Remember(outcome_record(outcome, self._newest[key][0]))]

    def withdrawn(self, key: Key) -> list[Action]:
        """The model is gone: nothing of it stays retained."""
        self._estimates.outcomes.forget(*key)
        self._newest.pop(key, None)
        self._outcome_at.pop(key, None)
        self._summary_at.pop(key, None)
        self._outcomes.pop(key, None)
        self._failures.pop(key, None)
        kinds = [kind for kind in ("failure", "outcome") if (kind, key) in self._seen]
        return [self._retained(kind, key, b"") for kind in kinds]

    def _retained(self, kind: str, key: Key, payload: bytes) -> Publish:
        if payload:
            self._seen.add((kind, key))
        else:
            self._seen.discard((kind, key))
        return Publish(self._topics.build(kind, model=key[0], origin=key[1]), payload, qos=1, retain=True)


def _shape(reason: str) -> str:
    """A sentence without its figures."""
    return _FIGURES.sub("#", reason)
