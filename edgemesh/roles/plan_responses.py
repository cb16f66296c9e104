"""Answers of the decision node to those that asked for a plan."""

from __future__ import annotations

from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.requests import PlanRequest, PlanResponse, Policy
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Publish
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.roles.instances import may_become_plannable
from edgemesh.roles.mesh_view import MeshView

_EXPIRY_SECONDS = 30.0


def plan_response(
    request: PlanRequest,
    in_force: bool,
    failure: str | None,
    policy: Policy,
    settled: bool,
    topics: Topics,
    view: MeshView,
    estimates: MeshEstimates,
    now: float,
) -> Publish:
    """Whether there is an assignment, why not, and whether there may be one soon.

    ``failure`` is why the last planning of it gave none. Until the view has ``settled`` any device may be
    about to come: of those that a broker without its store had, nobody knows.
    """
    manifest = view.manifests.get(request.model)
    planned = manifest is not None and failure is None and in_force
    soon = False
    if planned:
        reason = "an assignment is in force"
    elif manifest is None:
        # Who asks has been told of it, and we are about to be; of a model that is gone they hear as we do.
        reason, soon = f"no model {request.model} in this mesh", True
    elif failure is not None:
        reason = failure
        soon = not settled or may_become_plannable(manifest, policy, view, estimates, now)
    elif request.origin != APP_ORIGIN and request.origin not in view.devices:
        reason, soon = f"no device {request.origin} in this mesh", not settled
    else:
        reason, soon = "not planned yet", True
    response = PlanResponse(request.requester, request.model, request.origin, planned, reason, soon)
    topic = topics.build("response", verb="plan")
    return Publish(topic, encode_json(response), qos=1, expiry=_EXPIRY_SECONDS)
