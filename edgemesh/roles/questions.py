"""Questions of operator tools about plans: answered one at a time, from live estimates, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.planning.binding import binding_constraint
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible
from edgemesh.protocol.history import HistoryRequest
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.topics import TOPICS, Topics
from edgemesh.protocol.what_if import (
    ExplainRequest,
    ExplainResponse,
    FrontRequest,
    FrontResponse,
    WhatIfRequest,
    WhatIfResponse,
)
from edgemesh.roles.actions import Action, AnswerHistory, Log, Publish, SetTimer
from edgemesh.roles.answers import front_response, what_if_response
from edgemesh.roles.events import MessageReceived
from edgemesh.roles.plans import Plans

TIMER: Final = "question"
_WAITING: Final = 32
"""Questions that wait; more are not answered, and whoever asked gives up after some seconds."""
_PAUSE_SECONDS: Final = 0.1
"""Between two answers: a search may take as long, and the mesh must be served in between."""

Question = FrontRequest | WhatIfRequest | ExplainRequest
_ASKED: Final[dict[str, type[Question]]] = {
    "front": FrontRequest,
    "what-if": WhatIfRequest,
    "explain": ExplainRequest,
}
VERBS: Final = (*_ASKED, "history")
_WHY_CHARS: Final = 300


class Questions:
    """Takes requests, answers them when its timer fires."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._waiting: dict[tuple[str, Question | HistoryRequest], None] = {}
        self._answered_at = float("-inf")

    def ask(self, event: MessageReceived, now: float) -> list[Action]:
        """Take a request of one of ``VERBS``; raises DecodeError."""
        verb = event.topic.names["verb"]
        asked: type[Question | HistoryRequest] = HistoryRequest if verb == "history" else _ASKED[verb]
        question = decode_json(asked, event.payload)
        if len(self._waiting) >= _WAITING:
            raise DecodeError(f"{_WAITING} questions wait already")
        self._waiting[verb, question] = None
        return [SetTimer(TIMER, max(now, self._answered_at + _PAUSE_SECONDS))]

    def answer(
        self, plans: Plans, manifests: Mapping[str, Manifest], policies: Callable[[str], Policy], now: float
    ) -> list[Action]:
        """The answer to the oldest question that waits; those behind it have their turn whatever it does."""
        if not self._waiting:
            return []
        self._answered_at = now
        verb, question = next(iter(self._waiting))
        del self._waiting[verb, question]
        again: list[Action] = [SetTimer(TIMER, now + _PAUSE_SECONDS)] if self._waiting else []
        if isinstance(question, HistoryRequest):
            return [AnswerHistory(question), *again]
        topic, expiry = self._topics.build("response", verb=verb), TOPICS["response"].expiry
        told: list[Action] = []
        try:
            payload = encode_json(_answered(question, plans, manifests, policies, now))
        except Exception as error:  # absurd figures: whatever arithmetic, the planner or the encoder raises
            kind = type(error).__name__
            payload = encode_json(_refused(question, f"this cannot be computed: {ascii(error)[:_WHY_CHARS]}"))
            told = [Log("error", f"a question {verb} about {question.model} failed ({kind}): {error}", "ask")]
        return [Publish(topic, payload, qos=1, expiry=expiry), *told, *again]


def _answered(
    question: Question,
    plans: Plans,
    manifests: Mapping[str, Manifest],
    policies: Callable[[str], Policy],
    now: float,
) -> FrontResponse | WhatIfResponse | ExplainResponse:
    manifest = manifests.get(question.model)
    if manifest is None:
        return _refused(question, f"no model {question.model} in this mesh")
    return _response(question, manifest, plans, policies(question.model), now)


def _response(
    question: Question, manifest: Manifest, plans: Plans, policy: Policy, now: float
) -> FrontResponse | WhatIfResponse | ExplainResponse:
    key = question.model, question.origin
    situation = plans.situation(manifest, question.origin, policy, now)
    if isinstance(situation, Infeasible):
        return _refused(question, situation.reason)
    current = plans.in_force.get(key)
    in_force = current.plan if current is not None else None
    if isinstance(question, WhatIfRequest):
        return what_if_response(
            question, manifest, situation.instance, situation.goal, situation.policy, in_force
        )
    if isinstance(question, FrontRequest):
        return front_response(question, situation.instance, situation.goal, in_force)
    plan = plans.predicted(key, situation) or solve(situation.instance, situation.goal)
    if isinstance(plan, Infeasible):
        return _refused(question, plan.reason)
    text = binding_constraint(situation.instance, plan, situation.goal)
    return ExplainResponse(question.requester, question.model, question.origin, text=text)


def _refused(question: Question, why: str) -> FrontResponse | WhatIfResponse | ExplainResponse:
    head = (question.requester, question.model, question.origin)
    if isinstance(question, WhatIfRequest):
        return WhatIfResponse(*head, error=why)
    if isinstance(question, FrontRequest):
        return FrontResponse(*head, error=why)
    return ExplainResponse(*head, error=why)
