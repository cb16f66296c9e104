"""More bugs to plant: jobs that end too soon, too late or in what is not so, and what is never told again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.errors import RunError
from edgemesh.roles.crash_bench import CrashBench
from edgemesh.roles.events import Connected
from edgemesh.roles.gateway import Gateway
from edgemesh.roles.policies import Policies
from edgemesh.roles.profiler import Profiler
from edgemesh.roles.requester import Requester

Patch = pytest.MonkeyPatch
_HOUR = 3600.0


def first_error_is_final(patch: Patch) -> None:
    """Whatever error a device answers with ends the job: nothing is tried elsewhere."""

    def refused(self: Any, job: Any, reply: Any, route: Any, now: float) -> Any:
        return self._end_error(job, reply.code or "", reply.text or "", now)

    patch.setattr(Requester, "_refused", refused)


def failed_run_is_final(patch: Patch) -> None:
    """A run that failed, as the executor died, ends the job."""
    refused = Requester._refused

    def at_once(self: Any, job: Any, reply: Any, route: Any, now: float) -> Any:
        if reply.code == RunError.code:
            return self._end_error(job, reply.code, reply.text or "", now)
        return refused(self, job, reply, route, now)

    patch.setattr(Requester, "_refused", at_once)


def submissions_have_an_hour(patch: Patch) -> None:
    """The gateway does not look at how long an app wants to wait."""
    begin: Callable[..., Any] = Gateway._begin

    def patient(self: Any, event: Any, *more: Any, **named: Any) -> Any:
        return begin(self, replace(event, expiry=_HOUR), *more, **named)

    patch.setattr(Gateway, "_begin", patient)


def retried_result_is_cut(patch: Patch) -> None:
    """Of a job that was sent more than once a client gets all bytes but the last."""
    end = Requester._end

    def cut(self: Any, job: Any, ended: Any, now: float) -> Any:
        if ended.code is None and ended.attempts > 1 and not self.requester.startswith("gateway"):
            ended = replace(ended, section=bytes(ended.section)[:-1])
        return end(self, job, ended, now)

    patch.setattr(Requester, "_end", cut)


def profiles_told_once(patch: Patch) -> None:
    """A broker that lost its memory is not told again what a device has measured."""
    handle = Profiler.handle

    def once(self: Any, event: Any, now: float, held: Any) -> Any:
        if isinstance(event, Connected) and self._connected:
            return []
        return handle(self, event, now, held)

    patch.setattr(Profiler, "handle", once)


def benched_for_ever(patch: Patch) -> None:
    """A model that killed executors is never taken again."""
    patch.setattr(CrashBench, "_back", lambda self, digest: [])


def offline_changes_nothing(patch: Patch) -> None:
    """Jobs wait for devices that are known to be gone."""
    patch.setattr(Requester, "_devices_gone", lambda self, devices, now: [])


def waits_for_the_broker(patch: Patch) -> None:
    """A device that could run its own jobs waits until the broker is back."""
    choice = Requester._choice

    def none_without_broker(self: Any, job: Any, now: float) -> Any:
        return None if self._connected_at is None else choice(self, job, now)

    patch.setattr(Requester, "_serve_locally", lambda self, now: [])
    patch.setattr(Requester, "_choice", none_without_broker)


def policy_ignored(patch: Patch) -> None:
    """The decision node does not keep to what an operator decided."""
    patch.setattr(Policies, "learn", lambda self, event: False)


def another_route_is_told(patch: Patch) -> None:
    """A result is said to have come over the first device of its route alone."""
    end = Requester._end

    def shortened(self: Any, job: Any, ended: Any, now: float) -> Any:
        return end(self, job, replace(ended, route=ended.route[:1]), now)

    patch.setattr(Requester, "_end", shortened)
