"""Decider: keeps every (model, origin) assigned as well as it can be, and says why."""

from __future__ import annotations

from collections.abc import Collection

from edgemesh.errors import DecodeError
from edgemesh.planning.alternatives import alternatives
from edgemesh.planning.explanation import why_idle
from edgemesh.planning.instance import Instance
from edgemesh.planning.objectives import OBJECTIVES
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import State
from edgemesh.protocol.requests import PlanRequest, PlanResponse, Policy
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.roles.actions import Action, Log, Publish, SetTimer, Subscribe
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived, TimerFired
from edgemesh.roles.instances import assignment_message, may_become_plannable, planning_instance
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.switching import InForce, Switch, switch

REPLAN_SECONDS = 2.0
"""At most one round of planning in this time, unless a plan in force has become impossible."""
_URGENT_SECONDS = 0.2
"""The same when it has: a flapping device must not keep the planner busy."""
_SETTLE_SECONDS = 0.3
"""Retained messages arrive in a burst: the first plan waits for its end."""
_TICK_SECONDS = 1.0
_STATE_SECONDS = 5.0
"""Between repetitions of this node's state: a standby distrusts one that is older than three of them."""
_REVIEW_SECONDS = 5.0
"""Without any news the plans are reviewed this often: silence and ageing samples are no events."""
_QUEUE_STEP = 0.05
"""A queue that moved by so many seconds is worth planning again."""
_GRACE_SECONDS = 3.0
"""After it an assignment without a manifest is that of a model removed while nobody decided."""
_RUNNER_UPS = 8
_ORIGINS = 1024
_POLICIES = 1024
_LAST_TERM = 1 << 40
"""A greater one comes from no leader: counting on from it would soon leave the range of the contract."""


class Decider:
    """The leading decision node. The caller carries out the actions in order."""

    def __init__(self, holder: str, boot: str, term: int, topics: Topics, objective: str = "latency") -> None:
        """``term`` is greater than that of every leader before."""
        self.view = MeshView()
        self.estimates = MeshEstimates()
        self._holder = Holder("online", holder, boot, term)
        self._topics = topics
        self._objective = objective
        self._sequence = 0
        self._policies: dict[str, Policy] = {}
        self._origins: set[tuple[str, str]] = set()
        self._in_force: dict[tuple[str, str], InForce] = {}
        self._why_anew: dict[tuple[str, str], str] = {}
        """Why nothing is in force where something was."""
        self._failures: dict[tuple[str, str], str] = {}
        self._asked: dict[PlanRequest, None] = {}
        self._plan_at: float | None = None
        """When the timer of the next round is due."""
        self._planned_at = float("-inf")
        self._connected_at: float | None = None
        self._stated_at = float("-inf")
        self._available: frozenset[str] = frozenset()
        self._refusals = Refusals()

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        return self._state("offline")

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        return [self._state("stopped")]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to news of the mesh and to timers."""
        if isinstance(event, Connected):
            return self._connect(now)
        if isinstance(event, Disconnected):
            self._connected_at = None
            return []
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, TimerFired) and event.name == "plan":
            return self._round(now)
        if isinstance(event, TimerFired) and event.name == "tick":
            return [*self._tick(now), SetTimer("tick", now + _TICK_SECONDS)]
        return []

    def _connect(self, now: float) -> list[Action]:
        # What the broker retains is the truth: it may have lost our plans, and models may have been removed.
        self.view = MeshView()
        self._policies.clear()
        self._in_force.clear()
        self._why_anew.clear()
        self._failures.clear()
        self._connected_at = self._stated_at = now
        kinds = ("state", "about", "model", "policy", "profile", "assignment", "heartbeat", "link")
        return [
            *(Subscribe(self._topics.filter(kind), TOPICS[kind].qos) for kind in kinds),
            Subscribe(self._topics.filter("request", verb="plan"), 1),
            self._state("online"),
            SetTimer("tick", now + _TICK_SECONDS),
            *self._soon(now),
        ]

    def _state(self, state: State) -> Publish:
        h = self._holder
        payload = encode_json(Holder(state, h.holder, h.boot, h.term))
        return Publish(self._topics.build("decision"), payload, qos=1, retain=True)

    # --- news --------------------------------------------------------------------------------------------

    def _message(self, event: MessageReceived, now: float) -> list[Action]:
        kind = event.topic.kind
        try:
            if kind == "request":
                return self._request(event, now)
            if kind == "policy":
                return self._policy_changed(event, now)
            if kind == "assignment":
                return self._assignment(event, now)
            relevant = self.view.learn(event, now) or self.estimates.learn(event, now)
        except DecodeError as error:
            return self._refusals.log(kind, error, now)
        if not relevant:
            return []
        if kind == "heartbeat":
            return self._heartbeat(event.topic.names["device"], now)
        if kind == "model" and not event.payload:
            return self._removed(event.topic.names["model"])
        if kind == "state" and self._loses_a_plan((event.topic.names["device"],), now):
            return self._at_once(now)
        return self._soon(now)

    def _heartbeat(self, device: str, now: float) -> list[Action]:
        heartbeat = self.view.devices[device].heartbeat
        assert heartbeat is not None
        before = self.estimates.queue(device)
        self.estimates.observe_queue(device, heartbeat.queued_seconds)
        return self._soon(now) if abs(self.estimates.queue(device) - before) > _QUEUE_STEP else []

    def _request(self, event: MessageReceived, now: float) -> list[Action]:
        if event.topic.names["verb"] != "plan":
            return []
        request = decode_json(PlanRequest, event.payload)
        if len(self._asked) < _ORIGINS:
            self._asked[request] = None
        # Only what can be planned is kept, or requests for made-up names would fill the table.
        key = request.model, request.origin
        if key[0] not in self.view.manifests or not (key[1] == APP_ORIGIN or self.view.about(key[1])):
            return self._soon(now)
        self._keep_planned(*key)
        # A job waits for the first plan of an origin; what cannot be planned is not tried more often.
        known = key in self._in_force or key in self._failures
        return self._soon(now) if known else self._at_once(now)

    def _keep_planned(self, model: str, origin: str) -> None:
        if len(self._origins) < _ORIGINS:
            self._origins.add((model, origin))

    def _policy_changed(self, event: MessageReceived, now: float) -> list[Action]:
        model = event.topic.names["model"]
        policy = decode_json(Policy, event.payload) if event.payload else None
        if policy == self._policies.get(model):
            return []
        if policy is None:
            del self._policies[model]
        elif model in self._policies or len(self._policies) < _POLICIES:
            self._policies[model] = policy
        else:
            raise DecodeError(f"more than {_POLICIES} policies; that of {model} is not taken in")
        for key in [key for key in self._in_force if key[0] == model]:
            del self._in_force[key]  # what is in force may break the new policy: plan afresh
            self._why_anew[key] = "the policy changed"
        return self._soon(now)

    def _assignment(self, event: MessageReceived, now: float) -> list[Action]:
        """Retained ones of an earlier leader: keep planning their origins, and stay above their epochs."""
        self.view.learn(event, now)
        key = event.topic.names["model"], event.topic.names["origin"]
        known = self.view.assignments.get(key)
        if known is None:
            return []
        self._keep_planned(*key)
        if known.epoch <= (self._holder.term, self._sequence):
            return []  # our own, or one that ours will replace
        if known.term > _LAST_TERM:
            return [self._cleared(key), *self._soon(now)]
        if known.term >= self._holder.term:
            h = self._holder
            self._holder = Holder("online", h.holder, h.boot, known.term + 1)
        if self._in_force.pop(key, None) is not None:
            self._why_anew[key] = f"another decision node published epoch {known.term}.{known.sequence}"
        return self._soon(now)

    def _removed(self, model: str) -> list[Action]:
        gone = [key for key in self._origins if key[0] == model]
        self._origins.difference_update(gone)
        for key in gone:
            self._in_force.pop(key, None)
            self._why_anew.pop(key, None)
            self._failures.pop(key, None)
        return [self._cleared(key) for key in sorted({*gone, *self._orphans(model)})]

    def _orphans(self, model: str) -> list[tuple[str, str]]:
        """Retained assignments of ``model``."""
        return [key for key in self.view.assignments if key[0] == model]

    def _cleared(self, key: tuple[str, str]) -> Publish:
        return Publish(self._topics.build("assignment", model=key[0], origin=key[1]), b"", qos=1, retain=True)

    def _loses_a_plan(self, devices: Collection[str], now: float) -> bool:
        """Whether one of ``devices`` is gone and some plan in force needs it."""
        gone = {device for device in devices if not self.view.online(device, now)}
        return any(not gone.isdisjoint(in_force.plan.devices) for in_force in self._in_force.values())

    def _tick(self, now: float) -> list[Action]:
        if self._connected_at is None:
            return []
        actions: list[Action] = []
        if now - self._stated_at >= _STATE_SECONDS:
            self._stated_at = now
            actions.append(self._state("online"))
        available = frozenset(device for device in self.view.devices if self.view.online(device, now))
        lost, changed = self._available - available, available != self._available
        self._available = available
        if self._loses_a_plan(lost, now):
            return [*actions, *self._at_once(now)]
        if changed or now - self._planned_at >= _REVIEW_SECONDS:
            return [*actions, *self._soon(now)]
        return actions

    # --- planning ----------------------------------------------------------------------------------------

    def _soon(self, now: float) -> list[Action]:
        """Plan when the burst of news is over, and not too often."""
        return self._plan_by(max(now + _SETTLE_SECONDS, self._planned_at + REPLAN_SECONDS))

    def _at_once(self, now: float) -> list[Action]:
        """Plan now: jobs are lost or wait for their fallback until then."""
        return self._plan_by(max(now, self._planned_at + _URGENT_SECONDS))

    def _plan_by(self, at: float) -> list[Action]:
        if self._plan_at is not None and self._plan_at <= at:
            return []
        self._plan_at = at
        return [SetTimer("plan", at)]

    def _round(self, now: float) -> list[Action]:
        self._plan_at = None
        if self._connected_at is None:
            return []
        self._planned_at = now
        for model in self.view.manifests:
            self._keep_planned(model, APP_ORIGIN)
        actions = self._cleared_orphans() if now - self._connected_at >= _GRACE_SECONDS else []
        for model, origin in sorted(self._origins):
            manifest = self.view.manifests.get(model)
            if manifest is not None:
                actions += self._decide(manifest, origin, now)
        asked, self._asked = self._asked, {}
        return [*actions, *(self._answer(request, now) for request in asked)]

    def _cleared_orphans(self) -> list[Action]:
        """Assignments of models that were removed while nobody decided."""
        self._origins = {key for key in self._origins if key[0] in self.view.manifests}
        orphans = [key for key in self.view.assignments if key[0] not in self.view.manifests]
        return [self._cleared(key) for key in orphans]

    def _decide(self, manifest: Manifest, origin: str, now: float) -> list[Action]:
        key = manifest.name, origin
        policy = self._policies.get(manifest.name, Policy())
        instance = planning_instance(manifest, origin, self.view, self.estimates, policy, now)
        if isinstance(instance, str):
            return self._failed(key, instance)
        plan = OBJECTIVES[self._objective](instance)
        if isinstance(plan, Infeasible):
            return self._failed(key, plan.reason)
        self._failures.pop(key, None)
        chosen = switch(self._in_force.get(key), manifest, plan, instance, now)
        if chosen is None:
            return []
        if (why := self._why_anew.pop(key, None)) is not None:
            chosen = Switch(chosen.plan, why)
        self._in_force[key] = InForce(chosen.plan, instance, manifest, now)
        return self._publish(manifest, origin, chosen.plan, instance, chosen.reason, now)

    def _publish(
        self, manifest: Manifest, origin: str, plan: Plan, instance: Instance, reason: str, now: float
    ) -> list[Action]:
        others = alternatives(instance, plan, runner_ups=_RUNNER_UPS)
        idle = why_idle(instance, plan, others.using)
        self._sequence += 1
        abouts = {device: self.view.about(device) for device in self.view.devices}
        emulated = frozenset(device for device, about in abouts.items() if about and about.emulated)
        message = assignment_message(
            manifest,
            origin,
            plan,
            others,
            idle,
            epoch=(self._holder.term, self._sequence),
            objective=self._objective,
            reason=reason,
            estimates_age=self.estimates.age(frozenset(plan.devices), now),
            emulated=emulated,
        )
        topic = self._topics.build("assignment", model=manifest.name, origin=origin)
        route = ", ".join(f"{p.device} {p.start}-{p.stop}" for p in plan.partitions)
        text = f"{manifest.name} for {origin}: {route}, predicted {plan.total * 1e3:.1f} ms; {reason}"
        return [
            Publish(topic, encode_json(message), qos=1, retain=True),
            Log("info", text, manifest.name),
        ]

    def _failed(self, key: tuple[str, str], reason: str) -> list[Action]:
        # The last good assignment stays: it may be right again before anybody acts.
        if self._failures.get(key) == reason:
            return []
        self._failures[key] = reason
        return [Log("warning", f"no plan of {key[0]} for {key[1]}: {reason}", key[0])]

    def _answer(self, request: PlanRequest, now: float) -> Publish:
        key = request.model, request.origin
        manifest = self.view.manifests.get(request.model)
        failure = self._failures.get(key)
        planned = manifest is not None and failure is None and key in self._in_force
        soon = False
        if planned:
            reason = "an assignment is in force"
        elif manifest is None:
            reason = f"no model {request.model} in this mesh"
        else:
            reason = failure or "not planned yet"
            soon = may_become_plannable(manifest, self.view, self.estimates, now)
        response = PlanResponse(request.requester, request.model, request.origin, planned, reason, soon)
        return Publish(self._topics.build("response", verb="plan"), encode_json(response), qos=1, expiry=30.0)
