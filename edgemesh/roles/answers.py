"""Answers to questions about plans, from an instance of live estimates; nothing in the mesh changes."""

from __future__ import annotations

from collections.abc import Sequence

from edgemesh.planning.alternatives import all_on_one_device, plans_using
from edgemesh.planning.explanation import why_changed, why_idle
from edgemesh.planning.front import pareto_front
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan, Prediction
from edgemesh.planning.prediction import predicted_latency
from edgemesh.planning.what_if import BatteryEffect, ContradictionError, changed
from edgemesh.planning.wording import as_joules, as_milliseconds, as_money, listed
from edgemesh.protocol import limits
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Resources
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.what_if import (
    FrontRequest,
    FrontResponse,
    PlannedRoute,
    WhatIfRequest,
    WhatIfResponse,
)
from edgemesh.roles.announcements import hop_predictions, route_label, route_of
from edgemesh.roles.conditions import Limits, conditions


def what_if_response(
    request: WhatIfRequest,
    manifest: Manifest,
    instance: Instance,
    goal: Goal,
    policy: Policy,
    in_force: Plan | None,
) -> WhatIfResponse:
    """The plan in force now beside the best one in the mesh of the question, with the reason in words.

    ``in_force`` is None where nothing is planned.
    """
    head = (request.requester, request.model, request.origin)
    macs = [unit.macs for unit in manifest.units]
    try:
        question = changed(instance, request, macs, _battery_effect(policy))
    except ContradictionError as error:
        return WhatIfResponse(*head, error=str(error))
    now = None if in_force is None else _on(instance, in_force)
    best = solve(question.instance, goal)
    notes = question.notes + _weights(question.instance) + _already_better(instance, goal, in_force)
    if isinstance(best, Infeasible):
        return WhatIfResponse(
            *head, error=f"there would be no plan: {best.reason}", now=_route_of(now), notes=notes
        )
    kept = None if now is None else _on(question.instance, now)
    return WhatIfResponse(
        *head,
        now=_route_of(now),
        then=_route_of(best),
        kept=_route_of(kept),
        text=_difference(now, best, instance, question.instance, goal),
        notes=notes + _unused(request, question.instance, best, goal),
    )


def front_response(
    request: FrontRequest, instance: Instance, goal: Goal, in_force: Plan | None
) -> FrontResponse:
    """Every plan that no other beats in both latency and joules, with what people look for among them."""
    points = pareto_front(instance)
    now = None if in_force is None else _on(instance, in_force)
    singles = [plan for plan in all_on_one_device(instance).values() if plan is not None]
    return FrontResponse(
        request.requester,
        request.model,
        request.origin,
        objective=goal.objective,
        bound=goal.bound(points[0].total) if points else None,
        points=tuple(planned_route(plan, hops=False) for plan in _thinned(points, limits.FRONT)),
        total=len(points),
        in_force=_route_of(now, hops=False),
        weighted=any(device.energy_weight != 1.0 for device in instance.devices),
        singles=tuple(planned_route(plan, hops=False) for plan in singles[: limits.FRONT]),
    )


def _thinned(points: Sequence[Plan], most: int) -> list[Plan]:
    """At most ``most`` of ``points``, evenly, both ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _battery_effect(policy: Policy) -> BatteryEffect:
    """What ``policy`` makes of a device that runs from a battery of some charge."""

    def effect(charge: float) -> tuple[str, float]:
        told = Resources(0.0, 0, 0, battery=charge, on_battery=True)
        condition = conditions("", ("it",), {"it": told}, policy, Limits()).of["it"]
        return condition.unavailable, condition.energy_weight

    return effect


def _on(instance: Instance, plan: Plan) -> Plan | None:
    """``plan`` with its figures on ``instance``; None where it cannot be carried out there."""
    prediction = predicted_latency(instance, plan.partitions, plan.input_codec)
    if isinstance(prediction, Infeasible):
        return None
    return Plan(plan.partitions, plan.input_codec, prediction, plan.proven, plan.bound)


def _already_better(instance: Instance, goal: Goal, in_force: Plan | None) -> tuple[str, ...]:
    """That the plan in force is not the best one even now: a difference would be laid to the question."""
    best = solve(instance, goal)
    if in_force is None or isinstance(best, Infeasible) or best.partitions == in_force.partitions:
        return ()
    return (
        f"even as things are, {route_label(best)} is the best plan on the newest estimates "
        f"({_figures(best.prediction)}); what is gained is less than the margin for a switch, or it is new",
    )


def _unused(request: WhatIfRequest, instance: Instance, best: Plan, goal: Goal) -> tuple[str, ...]:
    """Why the plan does without what was added; why the others are idle is in the assignment."""
    unused = [board.device for board in request.added if board.device not in best.devices]
    if not unused:
        return ()
    using, unexamined = plans_using(instance, best, unused, goal)
    told = {idle.device: idle.text for idle in why_idle(instance, best, using, goal, unexamined)}
    return tuple(f"{name} would be idle: {told[name]}" for name in unused)


def _weights(instance: Instance) -> tuple[str, ...]:
    weighted = [f"{d.id} {d.energy_weight:g}" for d in instance.devices if d.energy_weight != 1.0]
    return (f"joules are weighted: {listed(weighted)} times",) if weighted else ()


def _difference(now: Plan | None, then: Plan, before: Instance, after: Instance, goal: Goal) -> str:
    figures = _figures(then.prediction)
    if now is None:
        return f"nothing is planned now; the plan would be {route_label(then)}: {figures}"
    if then.partitions == now.partitions:
        if figures == _figures(now.prediction):
            return f"nothing would change: {figures}"
        return (
            f"the same units would stay on the same devices: {figures} instead of {_figures(now.prediction)}"
        )
    return (
        f"units would move: {figures} instead of {_figures(now.prediction)} now; "
        f"{_why_not_kept(now, then, before, after, goal)}"
    )


def _why_not_kept(now: Plan, then: Plan, before: Instance, after: Instance, goal: Goal) -> str:
    kept = predicted_latency(after, now.partitions, now.input_codec)
    if isinstance(kept, Infeasible):
        return f"the plan in force could not be carried out: {kept.reason}"
    text = f"the plan in force would take {_figures(kept)}"
    if then.bound is not None and kept.total > then.bound:
        return f"{text}, beyond the bound of {as_milliseconds(then.bound)}"
    return f"{text}: {why_changed(now, before, then, after, goal).text}"


def _figures(prediction: Prediction) -> str:
    parts = [as_milliseconds(prediction.total)]
    if prediction.joules > 0.0:
        parts.append(as_joules(prediction.joules))
    if prediction.money > 0.0:
        parts.append(f"money {as_money(prediction.money)}")
    return ", ".join(parts)


def _route_of(plan: Plan | None, *, hops: bool = True) -> PlannedRoute | None:
    return None if plan is None else planned_route(plan, hops=hops)


def planned_route(plan: Plan, *, hops: bool) -> PlannedRoute:
    """``plan`` as answers tell it, with what each partition takes where ``hops``."""
    prediction = plan.prediction
    return PlannedRoute(
        route_of(plan),
        prediction.total,
        prediction.joules,
        prediction.money,
        hop_predictions(prediction) if hops else (),
        prediction.result.seconds if hops and prediction.result is not None else 0.0,
    )
