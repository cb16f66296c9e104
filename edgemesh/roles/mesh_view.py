"""What the mesh's topics say: devices, models and assignments, as one reader has seen them."""

from __future__ import annotations

from dataclasses import dataclass

from edgemesh.errors import DecodeError
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import About, Heartbeat, ReadyPartition, Resources, State, decode_state
from edgemesh.roles.events import MessageReceived

_SILENT_SECONDS = 7.0
"""Three heartbeats missed: a device killed without a Will is noticed before 1.5 keep-alives pass."""
_BEAT_SECONDS = 3.0
"""Beyond this a heartbeat is overdue, and what the one before said may be long over."""
_FIRST_DEVICE_SECONDS = 10.0
"""Between two attempts to connect a device may wait 6 s."""
_DEVICES = 4096
_MODELS = 1024


@dataclass
class DeviceView:
    """One device as seen from its topics."""

    state: State = "offline"
    about: About | None = None
    heartbeat: Heartbeat | None = None
    resources: Resources | None = None
    """The last ones; believed only while it is online, as all that it retains."""
    heard_at: float | None = None
    """When its last heartbeat came, or since when one is waited for; None while nobody could be heard."""


class MeshView:
    """Learns from messages; never trusts a retained one whose writer is not online."""

    def __init__(self) -> None:
        self.devices: dict[str, DeviceView] = {}
        self.manifests: dict[str, Manifest] = {}
        self.assignments: dict[tuple[str, str], Assignment] = {}
        self._earlier: set[tuple[str, str]] = set()
        """Assignments known from an earlier connection only."""
        self._earlier_models: set[str] = set()
        """The same of manifests, by name."""
        self._first_heard_at = 0.0
        """When the first device said anything."""

    def learn(self, event: MessageReceived, now: float) -> bool:
        """Take in a message; True when it was of a kind kept here. Raises DecodeError."""
        kind, names = event.topic.kind, event.topic.names
        if not self.devices:
            self._first_heard_at = now
        if kind == "state":
            self._learn_state(names["device"], event, now)
        elif kind == "about":
            self._learn_about(names["device"], event, now)
        elif kind == "heartbeat":
            self._learn_heartbeat(names["device"], event, now)
        elif kind == "resources":
            self._learn_resources(names["device"], event)
        elif kind == "model":
            self._learn_manifest(names["model"], event)
        elif kind == "assignment":
            self._learn_assignment(names["model"], names["origin"], event)
        else:
            return False
        return True

    def online(self, device: str, now: float) -> bool:
        """Whether the device says so, and was heard lately where it was heard at all."""
        view = self.devices.get(device)
        if view is None or view.state != "online":
            return False
        return view.heard_at is None or now - view.heard_at < _SILENT_SECONDS

    def about(self, device: str) -> About | None:
        """The device's self-description, while it is online."""
        view = self.devices.get(device)
        return view.about if view is not None and view.state == "online" else None

    def resources(self, device: str) -> Resources | None:
        """What the device says its machine has left, while it is online."""
        view = self.devices.get(device)
        return view.resources if view is not None and view.state == "online" else None

    def holds(self, device: str, digest: str) -> bool:
        """Whether the device says it has the content."""
        about = self.about(device)
        return about is not None and any(held.digest == digest for held in about.models)

    def is_ready(self, device: str, partition: ReadyPartition) -> bool:
        """Whether the device's last heartbeat says that the partition is loaded."""
        beat = self._last_beat(device)
        return beat is not None and partition in beat.ready

    def queued(self, device: str, now: float) -> float:
        """Seconds of work that waited at the device as it said in its last heartbeat; 0 where that is old."""
        view, beat = self.devices.get(device), self._last_beat(device)
        if view is None or beat is None or view.heard_at is None:
            return 0.0
        is_new = view.state == "online" and now - view.heard_at <= _BEAT_SECONDS
        return beat.queued_seconds if is_new else 0.0

    def forget_silence(self) -> None:
        """Nobody can be heard while the broker is away."""
        for view in self.devices.values():
            view.heard_at = None

    def begin_to_listen(self, now: float) -> None:
        """The broker is back: silence counts from here on, and its retained messages are the truth.

        Should it have lost them, a new leader may begin with any epoch; the first assignment of each key is
        believed, as a newcomer would, and so is the first manifest of each name.
        """
        for view in self.devices.values():
            view.heard_at = now
        self._earlier = set(self.assignments)
        self._earlier_models = set(self.manifests)

    def is_earlier(self, model: str, origin: str) -> bool:
        """Whether the assignment is known from an earlier connection only: the broker may have lost it."""
        return (model, origin) in self._earlier

    def is_earlier_model(self, model: str) -> bool:
        """The same of the manifest."""
        return model in self._earlier_models

    def models_told_at(self, since: float, grace: float) -> float:
        """When a model that nobody has told of does not exist, for one that listens ``since`` then.

        What is retained takes a moment, ``grace`` seconds. Where not even a device has said anything the
        broker may have lost its memory, and its devices be later than we are: they tell of models then.
        """
        if not self.devices:
            return since + _FIRST_DEVICE_SECONDS
        return max(since, self._first_heard_at) + grace

    def _last_beat(self, device: str) -> Heartbeat | None:
        """The device's last heartbeat; None for one of an earlier life, of which nothing is left."""
        view = self.devices.get(device)
        if view is None or view.heartbeat is None:
            return None
        began_anew = view.about is not None and view.about.boot != view.heartbeat.boot
        return None if began_anew else view.heartbeat

    def _device(self, device: str) -> DeviceView:
        if device not in self.devices and len(self.devices) >= _DEVICES:
            raise DecodeError(f"more than {_DEVICES} devices; {device} is not taken in")
        return self.devices.setdefault(device, DeviceView())

    def _learn_state(self, device: str, event: MessageReceived, now: float) -> None:
        state = decode_state(event.payload) if event.payload else "offline"
        view = self._device(device)
        if state == "online" and (view.state != "online" or view.heard_at is None):
            # A broker that was killed keeps "online" of devices that died with it: they must be heard, too.
            view.heard_at = now
        view.state = state

    def _learn_about(self, device: str, event: MessageReceived, now: float) -> None:
        about = decode_json(About, event.payload) if event.payload else None
        view = self._device(device)
        before, view.about = view.about, about
        if before is not None and about is not None and before.boot != about.boot:
            view.heard_at = now  # a new life: its first heartbeat follows

    def _learn_heartbeat(self, device: str, event: MessageReceived, now: float) -> None:
        heartbeat = decode_json(Heartbeat, event.payload)
        view = self._device(device)
        view.heartbeat = heartbeat
        view.heard_at = now

    def _learn_resources(self, device: str, event: MessageReceived) -> None:
        resources = decode_json(Resources, event.payload) if event.payload else None
        self._device(device).resources = resources

    def _learn_manifest(self, model: str, event: MessageReceived) -> None:
        if not event.payload:
            self.manifests.pop(model, None)
            return
        manifest = decode_json(Manifest, event.payload)
        if manifest.name != model:
            raise DecodeError(f"manifest of {manifest.name} under the topic of {model}")
        if model not in self.manifests and len(self.manifests) >= _MODELS:
            raise DecodeError(f"more than {_MODELS} models; {model} is not taken in")
        known = self.manifests.get(model)
        # A lower revision that was retained may come after the live one: across publishers there is no order.
        # One that is live has taken the place of what the broker retained.
        newer = known is None or manifest.revision >= known.revision
        if newer or model in self._earlier_models or not event.retained:
            self._earlier_models.discard(model)
            self.manifests[model] = manifest

    def _learn_assignment(self, model: str, origin: str, event: MessageReceived) -> None:
        key = (model, origin)
        if not event.payload:
            self.assignments.pop(key, None)
            self._earlier.discard(key)
            return
        assignment = decode_json(Assignment, event.payload)
        if (assignment.model, assignment.origin) != key:
            raise DecodeError(f"assignment of {assignment.model}/{assignment.origin} under {model}/{origin}")
        known = self.assignments.get(key)
        # A lower epoch is from a leader that was replaced: obeyed by nobody.
        newer = known is None or key in self._earlier or assignment.epoch > known.epoch
        if newer or (known is not None and self._is_of_today(assignment, known)):
            self._earlier.discard(key)
            if known != assignment:
                self.assignments[key] = assignment

    def _is_of_today(self, came: Assignment, known: Assignment) -> bool:
        """Whether only the one that came is for the model's content, under the same epoch.

        A broker that went back in time has leaders begin with epochs that others have had, and a message of
        then may have been on its way since.
        """
        manifest = self.manifests.get(came.model)
        return (
            came.epoch == known.epoch
            and manifest is not None
            and came.digest == manifest.digest != known.digest
        )
