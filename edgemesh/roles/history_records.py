"""Records for the history, from what the decision node publishes and hears."""

from __future__ import annotations

import hashlib

from edgemesh.protocol import limits
from edgemesh.protocol.assignment import Assignment, PlanFailure
from edgemesh.protocol.history import HistoryRecord
from edgemesh.protocol.outcome import Outcome
from edgemesh.protocol.requests import Policy
from edgemesh.roles.policy_words import policy_text


def assignment_record(assignment: Assignment) -> HistoryRecord:
    """A plan was published."""
    a = assignment
    return HistoryRecord(
        "assignment",
        a.model,
        _bounded(a.reason),
        origin=a.origin,
        term=a.term,
        sequence=a.sequence,
        objective=a.objective,
        route=a.route,
        seconds=a.seconds,
        joules=a.joules,
    )


def failure_record(failure: PlanFailure) -> HistoryRecord:
    """No plan can be made."""
    f = failure
    return HistoryRecord("failure", f.model, _bounded(f.reason), origin=f.origin, route=f.kept)


def outcome_record(outcome: Outcome, assignment: Assignment | None) -> HistoryRecord:
    """What jobs took under ``assignment``, the one that the outcome is about, where that is still known."""
    o = outcome
    known = assignment if assignment is not None and assignment.epoch == o.epoch else None
    compared = f"prediction off by {o.mape:.1%} over {o.compared} jobs" if o.mape is not None else ""
    return HistoryRecord(
        "outcome",
        o.model,
        compared or "no job to compare yet",
        origin=o.origin,
        term=o.term,
        sequence=o.sequence,
        objective=known.objective if known else None,
        route=known.route if known else (),
        seconds=o.predicted,
        joules=known.joules if known else None,
        measured=o.seconds,
        error=o.mape,
        jobs=o.jobs,
        failed=o.failed,
    )


def policy_record(model: str, policy: Policy | None) -> HistoryRecord:
    """A person changed what is kept to; None where the policy was cleared. The store adds what was before."""
    who = policy.changed_by if policy is not None else None
    return HistoryRecord("policy", model, _bounded(policy_text(policy or Policy())), who=who)


def _bounded(text: str) -> str:
    """``text`` as a reader takes it; the digest tells apart two long ones that begin alike."""
    if len(text) <= limits.TEXT_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    end = f"... ({len(text)} characters, {digest})"
    return text[: limits.TEXT_CHARS - len(end)] + end
