"""Laws that hold for any order of events: every job ends once, by its deadline."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.protocol.activation import Hop
from edgemesh.roles.actions import RunUnits
from edgemesh.roles.events import Connected, Disconnected, ExecutorLost, JobCancelled, RunFailed, RunFinished
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.requester import Requester
from edgemesh.roles.worker import Worker
from tests.roles.build import (
    DIGEST,
    ROUTE,
    TOPICS,
    about,
    activation,
    assignment,
    heartbeat,
    manifest,
    reply,
    state,
    submitted,
)
from tests.roles.driven import DrivenRequester, DrivenWorker, ends, only

DEVICES = st.sampled_from(["one", "two", "three"])
JOBS = st.integers(0, 5).map(lambda number: f"j-{number}")
LEFT = st.sampled_from([0.0, 0.3, 2.0, 8.0])
PAUSES = st.sampled_from([0.0, 0.0, 0.01, 0.2, 1.0, 8.0])
CODES = st.sampled_from(
    [None, "busy", "run-failed", "unknown-model", "deadline", "superseded", "wrong-version"]
)
ROUTES = st.sampled_from(
    [(Hop("one", 4),), (Hop("two", 4),), (Hop("one", 2), Hop("three", 4)), (Hop("one", 3),)]
)


def at_worker() -> st.SearchStrategy[Any]:
    """What may happen to the worker of device ``one``."""
    attempts = st.integers(0, 2)
    routes = st.sampled_from([ROUTE, (Hop("one", 4),), (Hop("two", 4),)])
    arrives = st.builds(
        lambda job, attempt, left, route, stream: activation(
            job, attempt=attempt, left=left, route=route, stream=stream
        ),
        JOBS,
        attempts,
        LEFT,
        routes,
        st.sampled_from([None, None, "camera"]),
    )
    return st.one_of(arrives, arrives, st.sampled_from(["finish", "fail", "lose", "stale"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(PAUSES, at_worker()), max_size=40))
def test_a_worker_answers_or_passes_on_each_activation_once_in_any_order(happening: list[Any]) -> None:
    role = Worker("one", TOPICS, queue_seconds=0.2)
    role.held = {DIGEST}
    worker = DrivenWorker(role)
    for pause, what in happening:
        at = worker.now + pause
        runs, run = only(RunUnits, worker.done), worker.running
        if what == "finish":
            worker.take(RunFinished(run, b"out", 0.01, 0.001), at)
        elif what == "fail":
            worker.take(RunFailed(run, "run-failed", "no"), at)
        elif what == "lose":
            worker.take(ExecutorLost("killed"), at)
        elif what == "stale":
            worker.take(RunFinished(runs[0].run if runs else "none", b"out", 0.01, 0.001), at)
        else:
            worker.take(what, at)
        worker.check()
    # Whoever waits is answered at the latest when it is late, and a run that ends lets the next one begin.
    while role.jobs:
        worker.take(RunFinished(worker.running, b"out", 0.01, 0.001), worker.now + 0.01)
    worker.check()


def at_requester() -> st.SearchStrategy[Any]:
    """What may happen to a requester."""
    return st.one_of(
        st.builds(
            lambda job, left, route: submitted(job, left, route=route),
            JOBS,
            LEFT,
            st.one_of(st.none(), ROUTES),
        ),
        st.builds(
            lambda job, attempt, code, device: reply(job, attempt, code, device=device),
            JOBS,
            st.integers(0, 4),
            CODES,
            DEVICES,
        ),
        st.builds(state, DEVICES, st.sampled_from(["online", "offline", "stopped"])),
        st.builds(lambda device, ready: heartbeat(device, *ready), DEVICES, st.just([(0, 4)])),
        st.builds(
            lambda route, sequence: assignment(
                *route, epoch=(1, sequence), fallbacks={"one": (Hop("two", 4),), "two": (Hop("one", 4),)}
            ),
            st.sampled_from([(Hop("one", 4),), (Hop("two", 4),), ROUTE]),
            st.integers(0, 9),
        ),
        st.builds(manifest),
        st.builds(lambda device: about(device, DIGEST), DEVICES),
        st.builds(JobCancelled, JOBS),
        st.sampled_from([Connected(), Disconnected()]),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PAUSES, at_requester()), max_size=50))
def test_a_requester_ends_each_job_once_and_by_its_deadline_in_any_order(happening: list[Any]) -> None:
    driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
    cancelled: set[str] = set()
    for pause, what in happening:
        if isinstance(what, JobCancelled):
            cancelled.add(what.job)
        at = driven.now + pause
        driven.pass_until(at)
        already = {job for job, _ in ends(driven.done)} | cancelled
        if getattr(what, "job", None) in already and not isinstance(what, JobCancelled):
            continue  # job ids are not used twice
        driven.take(what)
        driven.check()
    driven.pass_until(driven.now + 10.0)
    assert driven.role.open_jobs == 0
    assert {job for job, _ in ends(driven.done)} | cancelled >= set(driven.deadlines)
    assert not [name for name in driven.timers if name.startswith("job:")]
    assert not driven.role._jobs._over
