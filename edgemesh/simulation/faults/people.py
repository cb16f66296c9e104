"""People: what those who use a mesh ask of it, and do to its models. None of it is a fault."""

from __future__ import annotations

from collections.abc import Callable

from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.requests import Pin, Policy
from edgemesh.roles.actions import Publish
from edgemesh.roles.client import ClientRole
from edgemesh.roles.device import Device
from edgemesh.roles.events import JobCancelled, JobSubmitted
from edgemesh.simulation.connection import ModelledConnection
from edgemesh.simulation.faults.catalogue import Catalogue
from edgemesh.simulation.faults.schedules import APP, DEVICES, FACE, TWIN, Deed
from edgemesh.simulation.mesh import Mesh
from edgemesh.simulation.sections import stand_in

ANSWERS = "answers/"
"""Of an app, before the name of the submission."""
_POISON = "a" + "/b" * 250
"""A topic for which Mosquitto ends the connection of whoever publishes on it."""
_RESPONSE_TOPICS = {"answer-topic": ANSWERS, "poison-topic": _POISON}
"""Where an app wants its answer, by deed."""


class People:
    """Those who have programs at a mesh, and one app that only publishes."""

    def __init__(self, mesh: Mesh, catalogue: Catalogue, app: ModelledConnection) -> None:
        self.submitted: Callable[[Deed, Manifest | None], None] = lambda deed, manifest: None
        """Is told of each job, and by which manifest its input was prepared, where somebody knew one."""
        self.cancelled: Callable[[Deed], None] = lambda deed: None
        """Is told of each job that nobody waits for any more."""
        self.models_changed_at = mesh.clock.now
        """When one was added, replaced or removed last."""
        self._mesh = mesh
        self._catalogue = catalogue
        self._app = app

    def do(self, deed: Deed) -> None:
        """Do it now."""
        _DEEDS[deed.kind](self, deed)

    def _job(self, deed: Deed) -> None:
        """A job at a client or at a device's own requester."""
        shell = self._mesh.shell(deed.target)
        if not shell.alive or shell.paused:
            return
        role = shell.role
        assert isinstance(role, (ClientRole, Device))
        manifest = role.view.manifests.get(deed.model)
        if manifest is None and deed.model == FACE:
            manifest = self._catalogue.face  # the program knows it from before
        self.submitted(deed, manifest)
        stream = deed.stream or None
        if manifest is None:
            shell.deliver(JobSubmitted(deed.name, deed.model, deed.name.encode(), deed.seconds, stream))
        else:
            self._mesh.submit(shell, manifest, deed.name, left=deed.seconds, stream=stream)

    def _policy(self, deed: Deed) -> None:
        """An operator leaves a device out, or takes that back."""
        self._publish_policy(Policy(exclude=(deed.target,)) if deed.target != APP else None)

    def _split(self, deed: Deed) -> None:
        """An operator has units run on two boards; a third may take the place of either."""
        first, last = (device for device in DEVICES if device != deed.target)
        cut = int(deed.amount)
        pins = (
            Pin(0, cut, first, (deed.target,)),
            Pin(cut, self._catalogue.face.unit_count, last, (deed.target,)),
        )
        self._publish_policy(Policy(pins=pins))

    def _publish_policy(self, policy: Policy | None) -> None:
        topic = self._mesh.topics.build("policy", model=FACE)
        self._app.publish(Publish(topic, b"" if policy is None else encode_json(policy), 1, retain=True))

    def _cancel(self, deed: Deed) -> None:
        """The program that waits for a job ends."""
        shell = self._mesh.shell(deed.target)
        if shell.alive and not shell.paused:
            self.cancelled(deed)
            shell.deliver(JobCancelled(deed.name))

    def _submission(self, deed: Deed) -> None:
        """An app publishes an input; ``amount`` is its bytes."""
        self.submitted(deed, None)
        topic = self._mesh.topics.build("submit", model=deed.model)
        name = deed.name.encode()
        payload = name + stand_in(int(deed.amount)) if deed.amount else name
        retain, response_topic = deed.kind == "retained-submission", _RESPONSE_TOPICS.get(deed.kind)
        if response_topic == ANSWERS:
            response_topic += deed.name
        message = Publish(topic, payload, 1, retain, deed.seconds, correlation=name)
        self._app.publish(message, response_topic)

    def _add_model(self, deed: Deed) -> None:
        """Somebody adds a model at a device: a second name, one that nothing can run, or other content."""
        self.models_changed_at = self._mesh.clock.now
        shell = self._mesh.shell(deed.target)
        if not shell.alive or shell.paused or shell.connection is None or not shell.connection.connected:
            return
        disk = self._mesh.devices[deed.target].disk
        if deed.kind == "add-twin":
            known = disk.whole.get(self._catalogue.face.digest)
            if known is not None:
                shell.carry_out([self._mesh.manifest_message(self._catalogue.twin(self._catalogue.face))])
            return
        made = {
            "replace-model": self._catalogue.next_face,
            "add-other": self._catalogue.other,
            "add-nowhere": self._catalogue.nowhere,
        }
        self._mesh.add_model(*made[deed.kind](), deed.target)

    def _forget_name(self, deed: Deed) -> None:
        """Somebody removes the second name."""
        self.models_changed_at = self._mesh.clock.now
        shell = self._mesh.shell(deed.target)
        if shell.alive and not shell.paused:
            topic = self._mesh.topics.build("model", model=TWIN)
            shell.carry_out([Publish(topic, b"", qos=1, retain=True)])


_DEEDS: dict[str, Callable[[People, Deed], None]] = {
    "job": People._job,
    "cancel": People._cancel,
    "policy": People._policy,
    "split": People._split,
    "submission": People._submission,
    "retained-submission": People._submission,
    "answer-topic": People._submission,
    "poison-topic": People._submission,
    "add-twin": People._add_model,
    "add-other": People._add_model,
    "add-nowhere": People._add_model,
    "replace-model": People._add_model,
    "forget-name": People._forget_name,
}


def is_deadly(job: str) -> bool:
    """Whether whoever runs the job dies of it."""
    return job.startswith("deadly-input")
