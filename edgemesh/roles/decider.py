"""Decider: keeps every (model, origin) assigned as well as it can be, and says why."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.planning.alternatives import alternatives_work
from edgemesh.planning.goal import Goal
from edgemesh.planning.plan import Infeasible
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import PlanRequest
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.roles import questions
from edgemesh.roles.actions import Action, Log, Publish, Remember, SetTimer, Subscribe
from edgemesh.roles.broker_memory import newer_said_again
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    ForeignMessageReceived,
    MessageReceived,
    TimerFired,
)
from edgemesh.roles.history_records import policy_record
from edgemesh.roles.joint_plans import Crowd
from edgemesh.roles.leadership import LAST_TERM, Leadership
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.news import News
from edgemesh.roles.other_versions import OtherVersions
from edgemesh.roles.plan_responses import plan_response
from edgemesh.roles.plans import Key, Plans, Situation
from edgemesh.roles.policies import Policies
from edgemesh.roles.questions import Questions
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.switching import Switch

REPLAN_SECONDS: Final = 2.0
"""At most one round of planning in this time, unless a plan in force has become impossible."""
_URGENT_SECONDS: Final = 0.2
"""The same when it has: a flapping device must not keep the planner busy."""
_STEP_SECONDS: Final = 0.5
"""The same when a link or a device has changed its speed all at once."""
_SETTLE_SECONDS: Final = 0.3
"""Retained messages arrive in a burst: the first plan waits for its end."""
_TICK_SECONDS: Final = 1.0
_REVIEW_SECONDS: Final = 5.0
"""Without any news the plans are reviewed this often: silence and ageing samples are no events."""
_QUEUE_STEP: Final = 0.05
"""A queue that moved by so many seconds is worth planning again."""
_GRACE_SECONDS: Final = 3.0
"""After it an assignment without a manifest is that of a model removed while nobody decided."""
_ROUND_WORK: Final = 4_000_000
"""Units squared times devices that are planned in one go, some 50 ms; then messages have their turn."""
_ORIGINS: Final = 1024
TERMS_AT_ONCE: Final = 1000
"""That it rises on a requester's word: no broker forgets so many leaders, and of 2^40 it leaves enough."""
_ERROR_CHARS: Final = 400
_KINDS: Final = (
    "state", "about", "model", "policy", "profile", "assignment", "failure", "outcome", "heartbeat",
    "resources", "link",
)  # fmt: skip
"""What it listens to, beside requests."""


class Decider:
    """The leading decision node. The caller carries out the actions in order."""

    def __init__(
        self,
        holder: str,
        boot: str,
        term: int,
        topics: Topics,
        goal: Goal = Goal(),  # noqa: B008 (frozen)
        unix_time: Callable[[float], float] | None = None,
        *,
        plans_app: bool = True,
    ) -> None:
        """``term`` is greater than that of every leader before.

        ``goal`` counts where a policy does not say otherwise. ``unix_time(now)`` is the time of
        day at ``now``, for what people read; without it none is told. ``plans_app`` keeps every model planned
        for inputs from applications before one comes: their first job does not wait, devices load for it.
        """
        self.view = MeshView()
        self.estimates = MeshEstimates()
        self.plans = Plans(self.view, self.estimates, goal)
        self._policies = Policies()
        self._crowd = Crowd(self.plans, self._policies.of)
        self._leads = Leadership(holder, boot, term, topics)
        self._topics = topics
        self._plans_app = plans_app
        self._news = News(topics, self.estimates, unix_time)
        self._questions = Questions(topics)
        self._others = OtherVersions(topics)
        self._origins: set[Key] = set()
        self._failures: dict[Key, str] = {}
        self._asked: dict[PlanRequest, None] = {}
        self._profiled: dict[tuple[str, str], str] = {}
        """Device and model to the boot id under which it published a profile of it last."""
        self._todo: list[Key] = []
        """What is left of the round under way."""
        self._plan_at: float | None = None
        """When the timer of the next round is due."""
        self._planned_at = float("-inf")
        self._connected_at: float | None = None
        self._available: frozenset[str] = frozenset()
        self._refusals = Refusals()

    def will(self) -> Publish:
        """What the broker publishes when the connection dies."""
        return self._leads.state("offline")

    def farewell(self) -> list[Action]:
        """What to publish before a clean end."""
        return [self._leads.state("stopped")]

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to news of the mesh and to timers."""
        if isinstance(event, Connected):
            return self._connect(now)
        if isinstance(event, Disconnected):
            self._connected_at = None
            return []
        if isinstance(event, MessageReceived):
            return self._message(event, now)
        if isinstance(event, ForeignMessageReceived):
            return self._others.heard(event, now)
        if isinstance(event, TimerFired) and event.name == "plan":
            return self._round(now)
        if isinstance(event, TimerFired) and event.name == "tick":
            return [*self._tick(now), SetTimer("tick", now + _TICK_SECONDS)]
        if isinstance(event, TimerFired) and event.name == questions.TIMER and self._connected_at is not None:
            return self._questions.answer(self.plans, self.view.manifests, self._policies.of, now)
        return []

    def _connect(self, now: float) -> list[Action]:
        # What the broker retains is the truth: it may have lost our plans, and models may have been removed.
        self.view = MeshView()
        self.plans.clear(self.view)
        self._news.clear()
        self._policies.clear()
        self._failures.clear()
        self._todo.clear()
        self._connected_at = now
        subscriptions = [
            *(Subscribe(self._topics.filter(kind), TOPICS[kind].qos) for kind in _KINDS),
            *(Subscribe(self._topics.filter("request", verb=verb), 1) for verb in ("plan", *questions.VERBS)),
            *self._others.subscriptions(),
        ]
        timer = SetTimer("tick", now + _TICK_SECONDS)
        return [*self._leads.begin(subscriptions, now), timer, *self._soon(now)]

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
            if kind == "decision":
                return self._leader_heard(event, now)
            if kind in ("failure", "outcome"):
                self._news.heard(event)
                return []
            if kind == "model" and (newer := newer_said_again(event, self.view, self._topics)) is not None:
                return newer
            steps = self.estimates.steps
            relevant = self.view.learn(event, now) or self.estimates.learn(event, now)
        except DecodeError as error:
            return self._refusals.log(kind, error, now)
        if not relevant:
            return []
        if kind == "heartbeat":
            return self._heartbeat(event.topic.names["device"], now)
        if kind == "resources":
            self._resources(event.topic.names["device"])
        if self.estimates.steps > steps:
            # What was believed before is forgotten: the sooner plans know, the fewer jobs suffer.
            return self._plan_by(max(now, self._planned_at + _STEP_SECONDS))
        if kind == "model" and not event.payload:
            return self._removed(event.topic.names["model"])
        if kind == "state" and self._loses_a_plan((event.topic.names["device"],), now):
            return self._at_once(now)
        if kind == "profile" and self._is_first_of_a_life(**event.topic.names):
            return self._plan_by(max(now + _SETTLE_SECONDS, self._planned_at + _URGENT_SECONDS))
        return self._soon(now)

    def _leader_heard(self, event: MessageReceived, now: float) -> list[Action]:
        had_read = self._leads.has_read(now)
        risen = self._leads.heard(event)
        if risen:
            for key in list(self.plans.in_force):
                self.plans.renew(key, "another decision node led in the same term")
        return [*risen, *self._soon(now)] if risen or not had_read else []

    def _is_first_of_a_life(self, device: str, model: str) -> bool:
        """Whether this profile is the first since the device has started: it can be planned with now, and
        until it is, jobs take a longer way."""
        about = self.view.about(device)
        if about is None or self._profiled.get((device, model)) == about.boot:
            return False
        if len(self._profiled) >= _ORIGINS:
            self._profiled.clear()
        self._profiled[device, model] = about.boot
        return True

    def _heartbeat(self, device: str, now: float) -> list[Action]:
        heartbeat = self.view.devices[device].heartbeat
        assert heartbeat is not None
        before = self.estimates.queue(device, now)
        self.estimates.observe_queue(device, heartbeat.queued_seconds)
        return self._soon(now) if abs(self.estimates.queue(device, now) - before) > _QUEUE_STEP else []

    def _resources(self, device: str) -> None:
        view = self.view.devices[device]
        if view.resources is not None:
            self.estimates.observe_resources(device, view.resources)

    def _request(self, event: MessageReceived, now: float) -> list[Action]:
        verb = event.topic.names["verb"]
        if verb in questions.VERBS:
            return self._questions.ask(event, now)
        if verb != "plan":
            return []
        request = decode_json(PlanRequest, event.payload)
        if len(self._asked) < _ORIGINS:
            self._asked[request] = None
        # Only what can be planned is kept, or requests for made-up names would fill the table.
        key = request.model, request.origin
        if key[0] not in self.view.manifests or not (key[1] == APP_ORIGIN or self.view.about(key[1])):
            return self._soon(now)
        self._keep_planned(*key)
        published = self.view.assignments.get(key)
        if published is not None and (request.term, request.sequence) > published.epoch:
            # A broker's older store may be several leaders behind; but whoever asks may say anything.
            self._leads.rise_above(min(request.term, self._leads.term + TERMS_AT_ONCE))
            self.plans.renew(key, f"{request.requester} knows epoch {request.term}.{request.sequence}")
        # A job waits for the first plan of an origin; what cannot be planned is not tried more often.
        known = key in self.plans.in_force or key in self._failures
        return self._soon(now) if known else self._at_once(now)

    def _keep_planned(self, model: str, origin: str) -> None:
        if len(self._origins) < _ORIGINS:
            self._origins.add((model, origin))

    def _policy_changed(self, event: MessageReceived, now: float) -> list[Action]:
        if not self._policies.learn(event):
            return []
        model = event.topic.names["model"]
        self.plans.policy_changed(model)
        # A retained one was set before this node came, and is in the history of whoever decided then.
        record = policy_record(model, self._policies.told(model))
        return [*([] if event.retained else [Remember(record)]), *self._soon(now)]

    def _assignment(self, event: MessageReceived, now: float) -> list[Action]:
        """Retained ones of an earlier leader: keep planning their origins, and stay above their epochs."""
        self.view.learn(event, now)
        key = event.topic.names["model"], event.topic.names["origin"]
        known = self.view.assignments.get(key)
        if known is None:
            return []
        self._keep_planned(*key)
        if known.epoch <= (self._leads.term, self._news.sequence):
            return []  # our own, or one that ours will replace
        if known.term > LAST_TERM:
            return [self._cleared(key), *self._soon(now)]
        self._leads.rise_above(known.term)
        self.plans.renew(key, f"another decision node published epoch {known.term}.{known.sequence}")
        return self._soon(now)

    def _removed(self, model: str) -> list[Action]:
        gone = [key for key in self._origins if key[0] == model]
        self._origins.difference_update(gone)
        for key in gone:
            self.plans.forget(key)
            self._failures.pop(key, None)
        return self._withdrawn({*gone, *(key for key in self._retained() if key[0] == model)})

    def _retained(self) -> set[Key]:
        """Of all assignments, failures and outcomes that the broker holds."""
        return {*self.view.assignments, *self._news.keys()}

    def _withdrawn(self, keys: Collection[Key]) -> list[Action]:
        """Nothing of ``keys`` stays retained."""
        return [action for key in sorted(keys) for action in (self._cleared(key), *self._news.withdrawn(key))]

    def _cleared(self, key: Key) -> Publish:
        return Publish(self._topics.build("assignment", model=key[0], origin=key[1]), b"", qos=1, retain=True)

    def _loses_a_plan(self, devices: Collection[str], now: float) -> bool:
        """Whether one of ``devices`` is gone and some plan in force needs it."""
        gone = {device for device in devices if not self.view.online(device, now)}
        return any(not gone.isdisjoint(entry.plan.devices) for entry in self.plans.in_force.values())

    def _tick(self, now: float) -> list[Action]:
        if self._connected_at is None:
            return []
        actions = self._leads.repeat(now)
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
        """Review the plans; what is too much for one go is left to the next, right after it."""
        self._plan_at = None
        if self._connected_at is None or not self._leads.has_read(now):
            return []
        self._planned_at = now
        actions: list[Action] = []
        if not self._todo:
            for model in self.view.manifests if self._plans_app else ():
                self._keep_planned(model, APP_ORIGIN)
            if self._has_settled(now):
                actions += self._cleared_orphans()
            self._todo = sorted(self._origins, reverse=True)
        self._crowd.begin()
        work = 0.0
        while self._todo and work < _ROUND_WORK:
            model, origin = self._todo.pop()
            manifest = self.view.manifests.get(model)
            if manifest is not None and (model, origin) in self._origins:
                work += manifest.unit_count**2 * max(1, len(self.view.devices))
                done = self._guarded((model, origin), partial(self._decide, manifest, origin, now), now)
                actions += done
                if any(isinstance(action, Publish) and action.payload for action in done):
                    work += alternatives_work(manifest.unit_count, len(self.view.devices))
        if self._todo:
            return [*actions, *self._plan_by(now)]
        asked, self._asked = self._asked, {}
        actions += self._guarded(None, partial(self._planned_together, now), now)
        actions += self._guarded(None, partial(self._news.outcomes, now), now)
        for request in asked:
            actions += self._guarded(None, partial(self._answered, request, now), now)
        return actions

    def _answered(self, request: PlanRequest, now: float) -> list[Action]:
        key = request.model, request.origin
        state = key in self.plans.in_force, self._failures.get(key), self._policies.of(request.model)
        settled = self._has_settled(now)
        return [plan_response(request, *state, settled, self._topics, self.view, self.estimates, now)]

    def _has_settled(self, now: float) -> bool:
        """Whether all that is retained, and devices that connect as we do, have had the time to come."""
        # The same sum as for the timer, or rounding never ends.
        return self._connected_at is not None and now >= self._connected_at + _GRACE_SECONDS

    def _planned_together(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for situation, chosen in self._crowd.better(now):
            key = situation.manifest.name, situation.origin
            actions += self._guarded(key, partial(self._take_over, situation, chosen, now), now)
        return actions

    def _guarded(self, key: Key | None, step: Callable[[], list[Action]], now: float) -> list[Action]:
        """What ``step`` does; an error in it is told, and takes nothing from the rest of the round."""
        try:
            return step()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:_ERROR_CHARS]
            what = "a step of planning" if key is None else f"planning of {key[0]} for {key[1]}"
            if key is not None:
                self._failures[key] = f"planning failed: {why}"
            return self._refusals.tell(what, f"{what} failed: {why}", now)

    def _cleared_orphans(self) -> list[Action]:
        """What is retained of models that were removed while nobody decided, and of origins that left."""
        self._origins = {key for key in self._origins if not self._is_orphan(key)}
        return self._withdrawn([key for key in self._retained() if self._is_orphan(key)])

    def _is_orphan(self, key: Key) -> bool:
        """Whether there is no plan, and nobody who could want one: a failure would stay retained for good."""
        model, origin = key
        if model not in self.view.manifests:
            return True
        planned = key in self.plans.in_force or key in self.view.assignments
        return not planned and origin != APP_ORIGIN and self.view.about(origin) is None

    def _decide(self, manifest: Manifest, origin: str, now: float) -> list[Action]:
        key = manifest.name, origin
        reviewed = self.plans.review(manifest, origin, self._policies.of(manifest.name), now)
        if isinstance(reviewed, Infeasible):
            return self._failed(key, reviewed, now)
        self._failures.pop(key, None)
        situation, chosen = reviewed
        if chosen is None or (chosen.is_choice and not self._crowd.allows(key, chosen.plan, now)):
            return self._news.planned(key)
        return self._take_over(situation, chosen, now)

    def _take_over(self, situation: Situation, chosen: Switch, now: float) -> list[Action]:
        if notes := self._crowd.notes(now):
            situation = replace(situation, notes=(*situation.notes, *notes))
        entry = self.plans.take_over(situation, chosen, self._news.time_of_day(now), now)
        term = self._leads.term
        try:
            errors = self.plans.errors(situation, now)
            return self._news.assignment(situation, entry, chosen.reason, errors, term, self.view, now)
        except Exception:
            # Nobody was told of it.
            key = situation.manifest.name, situation.origin
            self.plans.renew(key, "the plan before could not be published")
            raise

    def _failed(self, key: Key, why: Infeasible, now: float) -> list[Action]:
        # The last good assignment stays: it may be right again before anybody acts.
        assert self._connected_at is not None
        settled = self._has_settled(now)
        entry = self.plans.in_force.get(key)
        told = self._news.failure(key, why, entry, now) if settled else []
        if not settled:
            told += self._plan_by(self._connected_at + _GRACE_SECONDS)
        if self._failures.get(key) == why.reason:
            return told
        self._failures[key] = why.reason
        return [*told, Log("warning", f"no plan of {key[0]} for {key[1]}: {why.reason}", key[0])]
