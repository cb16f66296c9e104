"""Each role as a state machine that hypothesis drives: any calls in any order, the invariants after each.

What a role asks for (runs, decoded inputs, rendered results) is answered by rules of its own, so it may come
late, never, or in another order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgemesh.protocol.activation import Hop, Reply, encode_reply
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.requests import PlanRequest, Policy
from edgemesh.protocol.result import ResultMessage, encode_result
from edgemesh.roles.actions import Acknowledge, DecodeInput, Publish, RenderResult
from edgemesh.roles.decider import Decider
from edgemesh.roles.events import (
    Connected,
    Disconnected,
    Event,
    ExecutorLost,
    InputDecoded,
    InputRefused,
    JobCancelled,
    MessageReceived,
    ResultRendered,
    RunFailed,
    RunFinished,
)
from edgemesh.roles.gateway import Gateway
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.requester import Requester
from edgemesh.roles.worker import Worker
from tests.roles.build import (
    DIGEST,
    FACE,
    ROUTE,
    TOPICS,
    about,
    activation,
    assignment,
    heartbeat,
    manifest,
    message,
    profile,
    reply,
    state,
    submitted,
)
from tests.roles.driven import Driven, DrivenRequester, DrivenWorker, HearsItself, ends, sent, works

DEVICES = st.sampled_from(["one", "two", "three"])
LEFT = st.sampled_from([0.0, 0.3, 2.0, 8.0])
ROUTES = st.sampled_from([(Hop("one", 4),), (Hop("two", 4),), ROUTE, (Hop("one", 3), Hop("three", 4))])
CODES = st.sampled_from(["busy", "run-failed", "unknown-model", "deadline", "superseded", "bad-input"])
PAUSE = st.sampled_from([0.01, 0.3, 1.0, 4.0])
STEPS = settings(max_examples=60, stateful_step_count=40, deadline=None)


class WorkerMachine(RuleBasedStateMachine):
    """One device's worker, its executor, and whoever sends it activations."""

    def __init__(self) -> None:
        super().__init__()
        role = Worker("one", TOPICS, queue_seconds=0.5)
        role.held = {DIGEST}
        self.worker = DrivenWorker(role)
        self.arrived: list[MessageReceived] = []

    @rule(left=LEFT, route=ROUTES, attempt=st.integers(0, 2), stream=st.sampled_from([None, "camera"]))
    def an_activation_arrives(
        self, left: float, route: tuple[Hop, ...], attempt: int, stream: str | None
    ) -> None:
        job = f"j-{len(self.arrived)}"
        self.arrived.append(activation(job, left=left, route=route, attempt=attempt, stream=stream))
        self.worker.take(self.arrived[-1])

    @precondition(lambda self: self.arrived)
    @rule(data=st.data())
    def one_is_delivered_again(self, data: st.DataObject) -> None:
        self.worker.take(data.draw(st.sampled_from(self.arrived)))

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 3.0]))
    def a_run_finishes(self, seconds: float) -> None:
        self.worker.take(RunFinished(self.worker.running, b"out", seconds, 0.0))

    @rule()
    def a_run_fails(self) -> None:
        self.worker.take(RunFailed(self.worker.running, "run-failed", "no"))

    @rule()
    def the_executor_dies(self) -> None:
        self.worker.take(ExecutorLost("killed"))

    @rule(seconds=PAUSE)
    def time_passes(self, seconds: float) -> None:
        self.worker.pass_until(self.worker.now + seconds)

    @invariant()
    def each_is_answered_or_passed_on_once(self) -> None:
        self.worker.check()

    def teardown(self) -> None:
        while self.worker.role.jobs:
            self.a_run_finishes(0.01)
        self.worker.check()


class RequesterMachine(RuleBasedStateMachine):
    """A requester among devices that come, go, answer, refuse, or say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = DrivenRequester(Requester("asker", "app", TOPICS, MeshView()))
        self.names = count()
        self.cancelled: set[str] = set()
        self.sequence = count(1)

    @initialize()
    def the_mesh_is_there(self) -> None:
        self.driven.take(Connected())
        self.driven.take(manifest())
        for device in ("one", "two", "three"):
            self.driven.take(state(device))
            self.driven.take(about(device, DIGEST))
        self.a_plan_is_published(ROUTE)

    @rule(route=ROUTES)
    def a_plan_is_published(self, route: tuple[Hop, ...]) -> None:
        fallbacks = {"one": (Hop("two", 4),), "two": (Hop("one", 4),), "three": (Hop("one", 4),)}
        used = {hop.device for hop in route}
        kept = {device: other for device, other in fallbacks.items() if device in used}
        self.driven.take(assignment(*route, epoch=(1, next(self.sequence)), fallbacks=kept))

    @rule(left=LEFT, route=st.one_of(st.none(), ROUTES))
    def a_job_is_submitted(self, left: float, route: tuple[Hop, ...] | None) -> None:
        self.driven.take(submitted(f"j-{next(self.names)}", left, route=route))

    @precondition(lambda self: works(self.driven.done))
    @rule(data=st.data(), code=st.one_of(st.none(), CODES))
    def a_device_answers(self, data: st.DataObject, code: str | None) -> None:
        """Any attempt that was ever sent: late, twice, or in time."""
        device, header = data.draw(st.sampled_from(works(self.driven.done)))
        self.driven.take(reply(header.job, header.attempt, code, device=device))

    @precondition(lambda self: self.driven.deadlines)
    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.driven.deadlines)))
        self.cancelled.add(job)
        self.driven.take(JobCancelled(job))

    @rule(device=DEVICES, text=st.sampled_from(["online", "offline", "stopped"]))
    def a_device_changes_its_state(self, device: str, text: str) -> None:
        self.driven.take(state(device, text))

    @rule(device=DEVICES, boot=st.sampled_from(["b-1", "b-2"]))
    def a_device_says_that_it_lives(self, device: str, boot: str) -> None:
        self.driven.take(heartbeat(device, (0, 4), boot=boot))

    @rule(event=st.sampled_from([Connected(), Disconnected()]))
    def the_connection_changes(self, event: Event) -> None:
        self.driven.take(event)

    @rule(seconds=PAUSE)
    def time_passes(self, seconds: float) -> None:
        self.driven.pass_until(self.driven.now + seconds)

    @invariant()
    def each_job_ends_once_and_by_its_deadline(self) -> None:
        if not self.cancelled:
            self.driven.check()
        ended = Counter(job for job, _ in ends(self.driven.done))
        assert all(times == 1 for times in ended.values()), ended

    def teardown(self) -> None:
        self.driven.pass_until(self.driven.now + 10.0)
        assert self.driven.role.open_jobs == 0
        assert {job for job, _ in ends(self.driven.done)} | self.cancelled >= set(self.driven.deadlines)
        assert not [name for name in self.driven.timers if name.startswith("job:")]


class GatewayMachine(RuleBasedStateMachine):
    """The gateway of one slot: apps, a decoder, a renderer, devices and a connection that breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven(Gateway("0", "laptop", "b-7", 2, TOPICS))
        self.numbers = count(1)
        self.photos = count(1)
        self.submitted: dict[int, MessageReceived] = {}
        """What the broker gave to this connection, by acknowledgement."""
        self.photo_of: dict[str, bytes] = {}
        """By job."""
        self.acknowledged: Counter[int] = Counter()
        self.to_decode: list[DecodeInput] = []
        self.to_render: list[RenderResult] = []
        self.results: Counter[str] = Counter()
        self.connected = False

    def _take(self, event: Event) -> None:
        self._follow(self.driven.take(event))

    def _follow(self, actions: list[Any]) -> None:
        published = False
        for action in actions:
            if isinstance(action, DecodeInput):
                self.to_decode.append(action)
                self.photo_of[action.job] = bytes(action.payload)
            elif isinstance(action, RenderResult):
                self.to_render.append(action)
            elif isinstance(action, Publish) and TOPICS.parse(action.topic).kind == "result":
                published = True
                self.results[decode_json(ResultMessage, action.payload).job] += 1
            elif isinstance(action, Acknowledge) and action.acknowledgement in self.submitted:
                assert published, "acknowledged before its result was published"
                assert self.connected, "acknowledged on a connection that is gone"
                self.acknowledged[action.acknowledgement] += 1

    @initialize()
    def the_mesh_is_there(self) -> None:
        self.the_connection_comes()
        self._take(manifest())
        for device in ("one", "two"):
            self._take(state(device))
            self._take(about(device, DIGEST))
        self._take(assignment(Hop("one", 4), fallbacks={"one": (Hop("two", 4),)}))

    @precondition(lambda self: not self.connected)
    @rule()
    def the_connection_comes(self) -> None:
        self.connected = True
        self._take(Connected())
        again = [event for number, event in self.submitted.items() if not self.acknowledged[number]]
        self.submitted.clear()
        for event in again:
            self._deliver(replace(event, duplicate=True))

    @precondition(lambda self: self.connected)
    @rule()
    def the_connection_goes(self) -> None:
        self._take(Disconnected())
        self.connected = False

    @precondition(lambda self: self.connected)
    @rule(model=st.sampled_from(["face", "face", "unheard-of"]), left=st.sampled_from([0.5, 3.0]))
    def an_app_submits(self, model: str, left: float) -> None:
        topic = TOPICS.parse(TOPICS.build("submit", model=model))
        self._deliver(MessageReceived(topic, f"photo {next(self.photos)}".encode(), expiry=left))

    def _deliver(self, event: MessageReceived) -> None:
        number = next(self.numbers)
        self.submitted[number] = replace(event, acknowledgement=number)
        self._take(self.submitted[number])

    @precondition(lambda self: self.to_decode)
    @rule(data=st.data(), fine=st.booleans())
    def an_input_is_decoded(self, data: st.DataObject, fine: bool) -> None:
        job = self.to_decode.pop(data.draw(st.integers(0, len(self.to_decode) - 1))).job
        self._take(InputDecoded(job, b"tensors") if fine else InputRefused(job, "bad-input", "no picture"))

    @precondition(lambda self: self.to_render)
    @rule(data=st.data())
    def a_result_is_rendered(self, data: st.DataObject) -> None:
        self._render(data.draw(st.integers(0, len(self.to_render) - 1)))

    @precondition(lambda self: works(self.driven.done))
    @rule(data=st.data(), code=st.one_of(st.none(), CODES))
    def a_device_answers(self, data: st.DataObject, code: str | None) -> None:
        device, header = data.draw(st.sampled_from(works(self.driven.done)))
        told = Reply(header.job, "gateway-0", header.attempt, device, code, code)
        payload = encode_reply(told, () if code else (b"out",))
        self._take(message("reply", payload, requester="gateway-0"))

    @rule(device=st.sampled_from(["one", "two"]), text=st.sampled_from(["online", "offline"]))
    def a_device_changes_its_state(self, device: str, text: str) -> None:
        self._take(state(device, text))

    @rule(seconds=PAUSE)
    def time_passes(self, seconds: float) -> None:
        self._follow(self.driven.pass_until(self.driven.now + seconds))

    def _render(self, index: int) -> None:
        ended = self.to_render.pop(index).ended
        text = encode_result(
            ResultMessage(
                ended.job, ended.model, ended.seconds, {}, (), (), ended.attempts, ended.code, ended.text
            )
        )
        self._take(ResultRendered(ended.job, text))

    @invariant()
    def each_submission_is_acknowledged_once_after_its_one_result(self) -> None:
        assert all(times == 1 for times in self.acknowledged.values()), self.acknowledged
        photos = Counter(self.photo_of.get(job, job.encode()) for job in self.results.elements())
        assert all(times == 1 for times in photos.values()), photos

    def teardown(self) -> None:
        if not self.connected:
            self.the_connection_comes()
        self._follow(self.driven.pass_until(self.driven.now + 20.0))
        while self.to_render:
            self._render(0)
        assert set(self.submitted) <= set(self.acknowledged)
        self.each_submission_is_acknowledged_once_after_its_one_result()


class DeciderMachine(RuleBasedStateMachine):
    """A decision node among devices that come and go, policies, questions and another leader's plans."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = HearsItself(Decider("laptop", "b-9", 3, TOPICS))
        self.states: dict[str, str] = {}
        self.seen = 0

    @initialize()
    def it_is_connected(self) -> None:
        self.driven.take(Connected())
        self.driven.take(manifest())

    @rule(device=DEVICES, seconds=st.sampled_from([1e-4, 0.01, 0.05, 2.0]))
    def a_device_comes(self, device: str, seconds: float) -> None:
        self.states[device] = "online"
        self.driven.take(state(device))
        self.driven.take(about(device, DIGEST))
        self.driven.take(profile(device, *[seconds] * FACE.unit_count))
        self.driven.take(heartbeat(device, (0, 4)))

    @rule(device=DEVICES, text=st.sampled_from(["offline", "stopped"]))
    def a_device_goes(self, device: str, text: str) -> None:
        self.states[device] = text
        self.driven.take(state(device, text))

    @rule(device=DEVICES, queued=st.sampled_from([0.0, 0.5, 30.0]))
    def a_device_says_how_much_waits(self, device: str, queued: float) -> None:
        self.driven.take(heartbeat(device, (0, 4), queued=queued))

    @rule(
        objective=st.sampled_from([None, "latency", "energy", "bounded-energy", "throughput"]),
        exclude=st.one_of(st.just(()), DEVICES.map(lambda device: (device,))),
    )
    def a_policy_is_set(self, objective: Any, exclude: tuple[str, ...]) -> None:
        policy = Policy(objective=objective, exclude=exclude)
        self.driven.take(message("policy", policy, model="face", retained=True))

    @rule(term=st.integers(1, 3), route=ROUTES)
    def an_earlier_plan_arrives(self, term: int, route: tuple[Hop, ...]) -> None:
        self.driven.take(assignment(*route, epoch=(term, 1)))

    @rule(origin=st.sampled_from(["app", "one"]))
    def somebody_asks_for_a_plan(self, origin: str) -> None:
        request = encode_json(PlanRequest("asker", "face", origin))
        self.driven.take(message("request", request, verb="plan"))

    @rule(payload=st.binary(max_size=40), kind=st.sampled_from(["heartbeat", "about", "resources"]))
    def garbage_arrives(self, payload: bytes, kind: str) -> None:
        self.driven.take(message(kind, payload, device="one"))

    @rule(event=st.sampled_from([Connected(), Disconnected()]))
    def the_connection_changes(self, event: Event) -> None:
        self.driven.take(event)

    @rule(seconds=PAUSE)
    def time_passes(self, seconds: float) -> None:
        self.driven.pass_until(self.driven.now + seconds)

    @invariant()
    def plans_are_whole_newer_and_over_devices_that_live(self) -> None:
        plans = [
            decode_json(Assignment, a.payload) for a in sent("assignment", self.driven.done) if a.payload
        ]
        epochs = [plan.epoch for plan in plans]
        assert epochs == sorted(set(epochs)), epochs
        for plan in plans[self.seen :]:
            stops = [hop.stop for hop in plan.route]
            assert stops == sorted(set(stops)) and stops[-1] == FACE.unit_count, plan.route
            assert all(self.states.get(hop.device) == "online" for hop in plan.route), (plan, self.states)
            for fallback in plan.fallbacks:
                assert all(hop.device != fallback.avoids for hop in fallback.route), fallback
        self.seen = len(plans)


TestWorker = WorkerMachine.TestCase
TestWorker.settings = STEPS
TestRequester = RequesterMachine.TestCase
TestRequester.settings = STEPS
TestGateway = GatewayMachine.TestCase
TestGateway.settings = STEPS
TestDecider = DeciderMachine.TestCase
TestDecider.settings = settings(STEPS, max_examples=30)
