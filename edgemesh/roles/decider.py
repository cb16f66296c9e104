"""Decider: keeps every (model, origin) assigned as well as it can be, and says why."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.errors import DecodeError
from edgemesh.planning.alternatives import alternatives
from edgemesh.planning.explanation import why_changed, why_idle
from edgemesh.planning.instance import Instance
from edgemesh.planning.objectives import OBJECTIVES
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import predicted_latency
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import State
from edgemesh.protocol.requests import PlanRequest, PlanResponse, Policy
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Log, Publish, SetTimer, Subscribe
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import Connected, Disconnected, Event, MessageReceived, TimerFired
from edgemesh.roles.instances import assignment_message, may_become_plannable, planning_instance, route_of
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.refusals import Refusals

REPLAN_SECONDS = 2.0
"""At most one round of planning in this time, unless a plan in force has become impossible."""
_SETTLE_SECONDS = 0.3
"""Retained messages arrive in a burst: the first plan waits for its end."""
_TICK_SECONDS = 1.0
MARGIN = 0.05
"""A plan replaces another when it is faster by this share on the same estimates."""
_DRIFT = 0.25
"""The same plan is published again when its prediction moved by this share: hedges are timed by it."""
_RUNNER_UPS = 4
_ORIGINS = 1024


@dataclass
class _InForce:
    plan: Plan
    instance: Instance
    digest: str


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
        self._in_force: dict[tuple[str, str], _InForce] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._asked: list[PlanRequest] = []
        self._dirty = False
        self._planned_at = float("-inf")
        self._connected = False
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
            self._connected = False
            self.view.forget_silence()
            return []
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, TimerFired) and event.name == "plan":
            return self._round(now)
        if isinstance(event, TimerFired) and event.name == "tick":
            return [self._state("online"), *self._tick(now), SetTimer("tick", now + _TICK_SECONDS)]
        return []

    def _connect(self, now: float) -> list[Action]:
        self._connected = True
        kinds = ("state", "about", "model", "policy", "profile", "assignment", "heartbeat", "link")
        return [
            *(Subscribe(self._topics.filter(kind), TOPIC_QOS.get(kind, 1)) for kind in kinds),
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
                return self._policy(event, now)
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
        if kind == "state" and self._loses_a_plan(now):
            self._dirty = True
            return [SetTimer("plan", now)]  # impossible now: at once
        return self._soon(now)

    def _heartbeat(self, device: str, now: float) -> list[Action]:
        heartbeat = self.view.devices[device].heartbeat
        assert heartbeat is not None
        before = self.estimates.queue(device)
        self.estimates.observe_queue(device, heartbeat.queued_seconds)
        return self._soon(now) if abs(self.estimates.queue(device) - before) > 0.05 else []

    def _request(self, event: MessageReceived, now: float) -> list[Action]:
        if event.topic.names["verb"] != "plan":
            return []
        request = decode_json(PlanRequest, event.payload)
        if len(self._asked) < _ORIGINS and len(self._origins) < _ORIGINS:
            self._asked.append(request)
            self._origins.add((request.model, request.origin))
        return self._soon(now)

    def _policy(self, event: MessageReceived, now: float) -> list[Action]:
        model = event.topic.names["model"]
        if event.payload:
            self._policies[model] = decode_json(Policy, event.payload)
        else:
            self._policies.pop(model, None)
        for key in [key for key in self._in_force if key[0] == model]:
            del self._in_force[key]  # what is in force may break the new policy: plan afresh
        return self._soon(now)

    def _assignment(self, event: MessageReceived, now: float) -> list[Action]:
        """Retained ones of an earlier leader: keep planning their origins, and stay above their epochs."""
        self.view.learn(event, now)
        key = event.topic.names["model"], event.topic.names["origin"]
        known = self.view.assignments.get(key)
        if known is None:
            return []
        if len(self._origins) < _ORIGINS:
            self._origins.add(key)
        if known.term > self._holder.term:
            self._holder = Holder("online", self._holder.holder, self._holder.boot, known.term + 1)
            return self._soon(now)
        return []

    def _removed(self, model: str) -> list[Action]:
        gone = [key for key in self._origins if key[0] == model]
        self._origins.difference_update(gone)
        actions: list[Action] = []
        for key in gone:
            self._in_force.pop(key, None)
            topic = self._topics.build("assignment", model=key[0], origin=key[1])
            actions.append(Publish(topic, b"", qos=1, retain=True))
        return actions

    def _loses_a_plan(self, now: float) -> bool:
        return any(
            not self.view.online(device, now)
            for in_force in self._in_force.values()
            for device in in_force.plan.devices
        )

    def _tick(self, now: float) -> list[Action]:
        available = frozenset(device for device in self.view.devices if self.view.online(device, now))
        changed, self._available = available != self._available, available
        if changed and self._loses_a_plan(now):
            self._dirty = True
            return [SetTimer("plan", now)]
        return self._soon(now) if changed or self._drifted(now) else []

    def _drifted(self, now: float) -> bool:
        """Whether estimates moved so far that planning again is worth its time."""
        return now - self._planned_at >= 5.0

    # --- planning ----------------------------------------------------------------------------------------

    def _soon(self, now: float) -> list[Action]:
        if self._dirty:
            return []
        self._dirty = True
        return [SetTimer("plan", max(now + _SETTLE_SECONDS, self._planned_at + REPLAN_SECONDS))]

    def _round(self, now: float) -> list[Action]:
        self._dirty = False
        if not self._connected:
            return []
        self._planned_at = now
        for model in self.view.manifests:
            self._origins.add((model, APP_ORIGIN))
        actions: list[Action] = []
        for model, origin in sorted(self._origins):
            manifest = self.view.manifests.get(model)
            if manifest is not None:
                actions += self._decide(manifest, origin, now)
        asked, self._asked = self._asked, []
        return [*actions, *(self._answer(request, now) for request in asked)]

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
        current = self._in_force.get(key)
        reason = self._reason_to_change(current, manifest, plan, instance)
        if reason is None:
            return []
        if current is not None and reason.startswith("estimates moved"):
            kept = predicted_latency(instance, current.plan.partitions, current.plan.input_codec)
            assert not isinstance(kept, Infeasible)
            plan = Plan(current.plan.partitions, current.plan.input_codec, kept)
        self._in_force[key] = _InForce(plan, instance, manifest.digest)
        return self._publish(manifest, origin, plan, instance, reason, now)

    def _reason_to_change(
        self, current: _InForce | None, manifest: Manifest, plan: Plan, instance: Instance
    ) -> str | None:
        if current is None:
            return f"first plan of this decision node ({len(instance.devices)} devices known)"
        if current.digest != manifest.digest:
            return "the model's content changed"
        kept = predicted_latency(instance, current.plan.partitions, current.plan.input_codec)
        if isinstance(kept, Infeasible):
            return f"the plan in force became impossible: {kept.reason}"
        if route_of(plan) != route_of(current.plan) and plan.total < (1.0 - MARGIN) * kept.total:
            return why_changed(current.plan, current.instance, plan, instance).text
        if abs(kept.total - current.plan.total) > _DRIFT * current.plan.total:
            return f"estimates moved: {current.plan.total * 1e3:.1f} ms became {kept.total * 1e3:.1f} ms"
        return None

    def _publish(
        self, manifest: Manifest, origin: str, plan: Plan, instance: Instance, reason: str, now: float
    ) -> list[Action]:
        others = alternatives(instance, plan, runner_ups=_RUNNER_UPS)
        idle = why_idle(instance, plan, others.using)
        self._sequence += 1
        devices = frozenset(view for view in self.view.devices)
        emulated = frozenset(d for d in devices if (about := self.view.about(d)) and about.emulated)
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


TOPIC_QOS = {"heartbeat": 0, "link": 0}
