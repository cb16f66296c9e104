"""Follows the plans of a mesh: one event for each change, until it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgemesh.node.mesh_reader import MeshReader
from edgemesh.node.mesh_reading import MeshReading
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment, PlanFailure
from edgemesh.protocol.requests import Policy
from edgemesh.roles.policy_words import policy_text
from edgemesh.transport.address import BrokerAddress

_LOOK_SECONDS = 0.1
Key = tuple[str, str]


@dataclass(frozen=True)
class PlanChange:
    """One change, or what is so when the watching begins."""

    kind: Literal["plan", "failure", "mended", "policy", "gone"]
    model: str
    origin: str | None
    text: str
    """Why."""
    route: tuple[Hop, ...] = ()
    seconds: float | None = None
    joules: float | None = None


@dataclass(frozen=True)
class Seen:
    """What is compared; assignments that only bring new figures are the same."""

    assignments: Mapping[Key, Assignment]
    failures: Mapping[Key, PlanFailure]
    policies: Mapping[str, Policy]


def differences(before: Seen, now: Seen) -> list[PlanChange]:
    """What changed, policies first: they are often the reason of the rest."""
    found = [
        PlanChange("policy", model, None, _policy_words(now.policies.get(model)))
        for model in sorted({*before.policies, *now.policies})
        if _kept_to(before, model) != _kept_to(now, model)
    ]
    for key in sorted({*before.failures, *now.failures}):
        old, new = before.failures.get(key), now.failures.get(key)
        if new is not None and (old is None or old.reason != new.reason):
            found.append(PlanChange("failure", *key, new.reason, new.kept))
        elif new is None and key in now.assignments:
            found.append(PlanChange("mended", *key, "it can be planned again"))
    for key in sorted({*before.assignments, *now.assignments}):
        was, is_now = before.assignments.get(key), now.assignments.get(key)
        if is_now is None:
            found.append(PlanChange("gone", *key, "the assignment was withdrawn"))
        elif was is None or was.route != is_now.route:
            a = is_now
            found.append(PlanChange("plan", a.model, a.origin, a.reason, a.route, a.seconds, a.joules))
    return found


async def plan_changes(
    mesh: str, address: BrokerAddress, model: str | None, origin: str | None, over: asyncio.Event
) -> AsyncIterator[PlanChange]:
    """What is so, then each change as it comes, until ``over`` is set.

    Raises UnknownModelError, BrokerError when the broker is away at the start; later it is waited for.
    """
    async with MeshReader(mesh, address) as reader:
        if model is not None:
            reader.reading.manifest(model)
        seen = Seen({}, {}, {})
        while not over.is_set():
            now = _seen(reader.reading, model, origin)
            for change in differences(seen, now):
                yield change
            seen = now
            await reader.until(over.is_set, _LOOK_SECONDS)


def _seen(reading: MeshReading, model: str | None, origin: str | None) -> Seen:
    def wanted(key: Key) -> bool:
        return model in (None, key[0]) and origin in (None, key[1])

    return Seen(
        {key: a for key, a in reading.view.assignments.items() if wanted(key)},
        {key: f for key, f in reading.failures.items() if wanted(key)},
        {name: p for name, p in reading.policies.items() if model in (None, name)},
    )


def _kept_to(seen: Seen, model: str) -> Policy:
    """Without who set it: no policy, and one that was cleared, are the same."""
    return replace(seen.policies.get(model, Policy()), changed_by=None)


def _policy_words(policy: Policy | None) -> str:
    if policy is None:
        return "the policy was cleared"
    by = f" (set by {policy.changed_by})" if policy.changed_by else ""
    return f"{policy_text(policy)}{by}"
