"""Drives one role by hand: gives it events at points in time, keeps its timers, checks its invariants."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

from edgemesh.errors import EdgemeshError
from edgemesh.protocol.activation import Activation, Reply, decode_activation, decode_reply
from edgemesh.roles.actions import Action, CancelTimer, JobEnded, Publish, RunUnits, SetTimer
from edgemesh.roles.events import (
    Connected,
    Event,
    ExecutorLost,
    JobSubmitted,
    MessageReceived,
    RunFailed,
    RunFinished,
    TimerFired,
)
from tests.roles.build import TOPICS

A = TypeVar("A")


class Driven:
    """A role, its timers, and all that it did."""

    def __init__(self, role: Any) -> None:
        self.role = role
        self.now = 0.0
        self.timers: dict[str, float] = {}
        self.done: list[Action] = []
        self.at_executor: list[str] = []
        """Runs that the executor has, in order: it is at the first one."""

    @property
    def running(self) -> str:
        """The run that the executor is at."""
        return self.at_executor[0] if self.at_executor else "none"

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        """What the role does on ``event``; timers due before fire first."""
        if at is not None:
            self.pass_until(at)
        if isinstance(event, ExecutorLost):
            self.at_executor.clear()
        elif isinstance(event, (RunFinished, RunFailed)) and event.run in self.at_executor:
            self.at_executor.remove(event.run)
        actions: list[Action] = self.role.handle(event, self.now)
        self._note(actions)
        return actions

    def pass_until(self, at: float) -> list[Action]:
        """What the role does by itself until ``at``."""
        outcome: list[Action] = []
        while self.timers and min(self.timers.values()) <= at:
            name = min(self.timers, key=lambda name: (self.timers[name], name))
            self.now = max(self.now, self.timers.pop(name))
            outcome += self._fire(name)
        self.now = max(self.now, at)
        return outcome

    def _fire(self, name: str) -> list[Action]:
        actions: list[Action] = self.role.handle(TimerFired(name), self.now)
        self._note(actions)
        return actions

    def _note(self, actions: list[Action]) -> None:
        self.done += actions
        for action in actions:
            if isinstance(action, SetTimer):
                assert action.at >= self.now - 1e-9, action
                self.timers[action.name] = action.at
            elif isinstance(action, CancelTimer):
                self.timers.pop(action.name, None)
            elif isinstance(action, RunUnits):
                self.at_executor.append(action.run)


def only(kind: type[A], actions: Iterable[Any]) -> list[A]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def sent(kind: str, actions: list[Action]) -> list[Publish]:
    """Messages published on topics of ``kind``."""
    return [a for a in only(Publish, actions) if TOPICS.parse(a.topic).kind == kind]


def works(actions: list[Action]) -> list[tuple[str, Activation]]:
    """Activations sent, with the device that each goes to."""
    return [
        (TOPICS.parse(a.topic).names["device"], decode_activation(a.payload)[0])
        for a in sent("work", actions)
    ]


def replies(actions: list[Action]) -> list[Reply]:
    """Replies sent."""
    return [decode_reply(a.payload)[0] for a in sent("reply", actions)]


def codes(actions: list[Action]) -> list[tuple[str, str | None]]:
    """Job and code of each reply sent."""
    return [(answer.job, answer.code) for answer in replies(actions)]


def ends(actions: list[Action]) -> list[tuple[str, str | None]]:
    """Job and code of each job ended."""
    return [(ended.job, ended.code) for ended in only(JobEnded, actions)]


class HearsItself(Driven):
    """A decision node whose broker says again what it says of its role."""

    echoes = True

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        actions = super().take(event, at)
        if self.echoes and isinstance(event, Connected):
            for said in sent("decision", actions):
                actions += super().take(MessageReceived(TOPICS.parse(said.topic), said.payload))
        return actions


class DrivenWorker(Driven):
    """Also checks that each activation is answered or passed on once, and that the queue is bounded."""

    def __init__(self, role: Any) -> None:
        super().__init__(role)
        self.taken: Counter[tuple[str, int]] = Counter()

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        if isinstance(event, MessageReceived):
            with contextlib.suppress(EdgemeshError):
                header, _ = decode_activation(event.payload)
                self.taken[header.job, header.attempt] = 1
        actions = super().take(event, at)
        assert self.role.jobs <= 257
        assert len(self.at_executor) <= min(2, self.role.jobs)
        return actions

    def check(self) -> None:
        """What must hold after every test."""
        said = Counter((r.job, r.attempt) for r in replies(self.done))
        said += Counter((a.job, a.attempt) for _, a in works(self.done))
        assert all(count == 1 for count in said.values()), said
        open_now = len(self.taken) - len([key for key in self.taken if key in said])
        assert open_now == self.role.jobs, (self.taken, said, self.role.jobs)
        runs = [run.run for run in only(RunUnits, self.done)]
        assert len(runs) == len(set(runs))
        assert (self.role.jobs > 0) == bool(self.at_executor)
        if self.role.jobs == 0:
            assert self.role.queued_seconds(self.now) == 0.0


class DrivenRequester(Driven):
    """Also checks that each job ends once, by its deadline, and that no timer outlives its job."""

    def __init__(self, role: Any) -> None:
        super().__init__(role)
        self.deadlines: dict[str, float] = {}

    def take(self, event: Event, at: float | None = None) -> list[Action]:
        if at is not None:
            self.pass_until(at)
        if isinstance(event, JobSubmitted):
            self.deadlines.setdefault(event.job, self.now + event.left)
        if isinstance(event, MessageReceived):
            self.role.view.learn(event, self.now)
        return super().take(event)

    def check(self) -> None:
        """What must hold after every test."""
        ended = Counter(end.job for end in only(JobEnded, self.done))
        assert all(count == 1 for count in ended.values()), ended
        open_now = {job for job in self.deadlines if job not in ended}
        assert self.role.open_jobs <= len(open_now)
        assert {name for name in self.timers if name.startswith("job:")} <= {f"job:{job}" for job in open_now}
        for job in open_now:
            assert self.now <= self.deadlines[job] or self.role.open_jobs < len(open_now), job
