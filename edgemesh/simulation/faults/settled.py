"""Settled: what must be true again some time after the last fault was repaired."""

from __future__ import annotations

from edgemesh.protocol.assignment import Assignment, Holder
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import About
from edgemesh.simulation.faults.rules import Rules
from edgemesh.simulation.faults.schedules import APP, CLIENTS, Deed
from edgemesh.simulation.faults.world import World

SETTLE_SECONDS = 45.0
"""A silent holder is noticed after 16 s, a half-open connection after 15 s; then come plans and profiles."""
OPERATOR_SECONDS = 10.0
"""After the repair, until somebody adds a model that the mesh has lost."""
_JOB_SECONDS = 10.0
_ROLES = {"decision": ("decision", {}), "gateway-0": ("gateway", {"slot": "0"})}
"""Role to its topic."""


def check_settled(world: World, rules: Rules) -> None:
    """Raise RuleBrokenError where retained state is not true or a new job fails."""
    _check_roles(world, rules)
    _check_devices(world, rules)
    _check_assignments(world, rules)
    _check_new_jobs(world, rules)


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
    for name, node in world.mesh.devices.items():
        retained = world.mesh.broker.retained
        state = retained.get(world.topics.build("state", device=name))
        if state is None or state.payload != b"online":
            rules.broken("settles", f"{name} lives, but retained is {state and bytes(state.payload)!r}", name)
        about = retained.get(world.topics.build("about", device=name))
        boot = decode_json(About, about.payload).boot if about is not None else None
        if boot != node.role.settings.boot:
            rules.broken("settles", f"{name} lives as {node.role.settings.boot}, retained is {boot}", name)


def _check_assignments(world: World, rules: Rules) -> None:
    for topic, message in world.mesh.broker.retained.items():
        if world.topics.parse(topic).kind == "assignment":
            devices = decode_json(Assignment, message.payload).devices
            if not devices <= set(world.mesh.devices):
                rules.broken("settles", f"an assignment names {sorted(devices)}", topic)


def _check_new_jobs(world: World, rules: Rules) -> None:
    right = rules.ended[None]
    for client in CLIENTS:
        world.do(Deed(0.0, "job", client, _JOB_SECONDS, name=f"last-{client}"))
    world.do(Deed(0.0, "submission", APP, _JOB_SECONDS, name="last-app"))
    world.mesh.run(_JOB_SECONDS + 0.1)
    if rules.ended[None] != right + len(CLIENTS) or not rules.results()["last-app"]:
        codes = {str(code): count for code, count in rules.ended.items()}
        rules.broken("settles", f"new jobs fail: {codes}, app {rules.results()['last-app']}", "last-app")
