"""Settled: what must be true again some time after the last fault was repaired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from edgemesh.errors import BusyError
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment, Holder
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import About, Profile
from edgemesh.protocol.requests import Policy
from edgemesh.simulation.faults.broken import RuleBrokenError
from edgemesh.simulation.faults.rules import Rules
from edgemesh.simulation.faults.schedules import APP, CLIENTS, FACE, OTHER, Deed
from edgemesh.simulation.faults.world import World

_SETTLE_SECONDS = 45.0
"""A silent holder is noticed after 16 s, a half-open connection after 15 s; then come plans and profiles."""
_OPERATOR_SECONDS = 10.0
"""After the repair, until somebody looks after what the mesh cannot mend."""
_AGAIN_SECONDS = 130
"""In which what has an hour is sent again, whose copies were all lost: it waits ever longer."""
_STAYS_SECONDS = 17
"""What was settled for so long stays so: whatever silence still goes unnoticed is noticed within it."""
_JOB_SECONDS = 10.0
_AFTER_SECONDS = 2.0
"""After the last job ended, for an end or a result that comes twice."""
_PHOTOGRAPHS, _PHOTOGRAPH_BYTES, _PHOTOGRAPHS_SECONDS = 60, 4e5, 30.0
_ROLES = {"decision": ("decision", {}), "gateway-0": ("gateway", {"slot": "0"})}
"""Role to its topic."""


def settle(world: World, rules: Rules, *, patient: bool) -> None:
    """Give the mesh time to become whole: all of it if ``patient``, or until it has been so for a while."""
    whole = 0
    for second in range(1, int(_OPERATOR_SECONDS + _SETTLE_SECONDS) + 1):
        world.pace.run(1.0)
        operated = second == _OPERATOR_SECONDS and world.operate()
        is_whole = not patient and not operated and _holds(partial(_check_whole, world, rules))
        whole = whole + 1 if is_whole else 0
        if whole >= _STAYS_SECONDS:
            return
    for _ in range(_AGAIN_SECONDS):
        if _holds(rules.check_end):
            return
        world.pace.run(1.0)


def check_settled(world: World, rules: Rules, *, patient: bool) -> None:
    """Raise RuleBrokenError where a job never ended, retained state is not true or a new job fails.

    If ``patient`` photographs are published, too, more at once than the gateway's link takes in a second.
    """
    _check_whole(world, rules)
    _check_new_jobs(world, rules)
    if patient:
        _check_photographs(world, rules)


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except RuleBrokenError:
        return False
    return True


def _check_whole(world: World, rules: Rules) -> None:
    rules.check_end()
    _check_roles(world, rules)
    _check_devices(world, rules)
    _check_assignments(world, rules)


def _check_roles(world: World, rules: Rules) -> None:
    for role, (kind, names) in _ROLES.items():
        holding = [node for node in world.mesh.holders if node.role == role and node.held is not None]
        if len(holding) != 1:
            rules.broken("settles", f"{len(holding)} nodes hold the role {role}", role)
        retained = world.mesh.broker.retained.get(world.topics.build(kind, **names))
        state = decode_json(Holder, retained.payload) if retained is not None else None
        if state is None or state.state != "online" or state.boot != holding[0].boot:
            rules.broken("settles", f"{holding[0].boot} holds {role}, but retained is {state}", role)


def _check_devices(world: World, rules: Rules) -> None:
    profiled = _profiled(world)
    for name, node in world.mesh.devices.items():
        retained = world.mesh.broker.retained
        state = retained.get(world.topics.build("state", device=name))
        if state is None or state.payload != b"online":
            rules.broken("settles", f"{name} lives, but retained is {state and bytes(state.payload)!r}", name)
        about = retained.get(world.topics.build("about", device=name))
        boot = decode_json(About, about.payload).boot if about is not None else None
        if boot != node.role.settings.boot:
            rules.broken("settles", f"{name} lives as {node.role.settings.boot}, retained is {boot}", name)
        if untold := {digest for digest in node.role.profiler.published if (name, digest) not in profiled}:
            rules.broken("settles", f"{name} has profiles that are not retained: {sorted(untold)}", name)


def _profiled(world: World) -> set[tuple[str, str]]:
    """Devices and digests of which a profile is retained."""
    parsed = ((world.topics.parse(topic), message) for topic, message in world.mesh.broker.retained.items())
    return {
        (topic.names["device"], decode_json(Profile, message.payload).digest)
        for topic, message in parsed
        if topic.kind == "profile"
    }


def _check_assignments(world: World, rules: Rules) -> None:
    for topic, message in world.mesh.broker.retained.items():
        if world.topics.parse(topic).kind == "assignment":
            assignment = decode_json(Assignment, message.payload)
            if not assignment.devices <= set(world.mesh.devices):
                rules.broken("settles", f"an assignment names {sorted(assignment.devices)}", topic)
            policy = _policy(world, assignment.model)
            for route in (assignment.route, *(way.route for way in assignment.fallbacks)):
                if against := _against(policy, route):
                    rules.broken("settles", f"an assignment uses {against} against its policy", topic)


def _policy(world: World, model: str) -> Policy:
    """The retained policy of a model."""
    retained = world.mesh.broker.retained.get(world.topics.build("policy", model=model))
    return decode_json(Policy, retained.payload) if retained is not None else Policy()


def _against(policy: Policy, route: tuple[Hop, ...]) -> list[str]:
    """Devices of a route that the policy leaves out, altogether or for units that they have there."""
    starts = (0, *(hop.stop for hop in route))
    return sorted(
        hop.device
        for start, hop in zip(starts, route, strict=False)
        if hop.device in policy.exclude
        or any(
            pin.start < hop.stop and start < pin.stop and hop.device not in policy.devices_of(pin)
            for pin in policy.pins
        )
    )


def _check_new_jobs(world: World, rules: Rules) -> None:
    right = rules.ended[None]
    jobs = [Deed(0.0, "job", client, _JOB_SECONDS, name=f"last-{client}") for client in CLIENTS]
    # Whatever its stream has been through, the newest frame has its turn.
    jobs += [replace(frame, seconds=_JOB_SECONDS, name=f"last-{frame.stream}") for frame in rules.newest]
    if world.is_told(OTHER) and world.is_held(OTHER):
        jobs.append(Deed(0.0, "job", "anywhere", _JOB_SECONDS, name=f"last-{OTHER}", model=OTHER))
    for job in (*jobs, Deed(0.0, "submission", APP, _JOB_SECONDS, name="last-app")):
        world.do(job)
    wanted = right + len(jobs)
    done = world.pace.run(
        _JOB_SECONDS + 0.1, lambda: rules.ended[None] >= wanted and rules.results()["last-app"] > 0
    )
    if done:
        world.pace.run(_AFTER_SECONDS)
    if rules.ended[None] != wanted or not rules.results()["last-app"]:
        codes = {str(code): count for code, count in rules.ended.items()}
        rules.broken("settles", f"new jobs fail: {codes}, app {rules.results()['last-app']}", "last-app")


def _check_photographs(world: World, rules: Rules) -> None:
    names = [f"last-photograph-{number}" for number in range(_PHOTOGRAPHS)]
    for name in names:
        world.do(Deed(0.0, "submission", APP, _PHOTOGRAPHS_SECONDS, _PHOTOGRAPH_BYTES, name))
    codes = rules.codes
    world.pace.run(_PHOTOGRAPHS_SECONDS, lambda: all(name in codes for name in names))
    allowed: set[str | None] = {None}
    if _policy(world, FACE).pins:
        allowed.add(BusyError.code)  # on boards that an operator chose all of it may be more than they can do
    wrong = [f"{n}: {codes.get(n, 'no answer')}" for n in names if codes.get(n, "") not in allowed]
    if wrong:
        text = f"{len(wrong)} of {len(names)} photographs have no result ({wrong[0]})"
        rules.broken("settles", text, wrong[0].partition(":")[0])
