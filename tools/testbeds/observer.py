"""What a testbed hears of its mesh, over the broker's Unix socket: no namespace is in the way there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
from benchmarks.report import NotMeasurableError

from edgemesh.errors import DecodeError
from edgemesh.protocol.assignment import Assignment
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.presence import Heartbeat, Profile
from edgemesh.protocol.topics import Topics

_CONNECT_SECONDS = 10.0
_LONGEST_BEAT = 4.0


class Observer:
    """Collects profiles, states, heartbeats and assignments; ask from any thread."""

    def __init__(self, topics: Topics, socket: Path) -> None:
        self.profiles: dict[tuple[str, str], Profile] = {}
        """By device and model."""
        self.states: dict[str, str] = {}
        self.assignments: dict[tuple[str, str], Assignment] = {}
        """By model and origin."""
        self.on_assignment: Callable[[Assignment], None] = lambda assignment: None
        """Called on a thread of the observer."""
        self._busy: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._topics = topics
        self._changed = threading.Condition()
        self._handlers: dict[str, Callable[[dict[str, str], bytes], None]] = {
            "state": self._state,
            "profile": self._profile,
            "heartbeat": self._heartbeat,
            "assignment": self._assignment,
        }
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, transport="unix", protocol=paho.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        # The socket file appears some milliseconds after the process.
        ends = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                self._client.connect(str(socket))
                break
            except OSError as error:
                if time.monotonic() > ends:
                    raise NotMeasurableError(f"the broker of the testbed does not answer: {error}") from None
                time.sleep(0.05)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish at QoS 1 and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(_CONNECT_SECONDS)

    def forget(self, device: str) -> None:
        """The agent starts again: what it said before no longer counts."""
        with self._changed:
            self.states.pop(device, None)
            for key in [key for key in self.profiles if key[0] == device]:
                del self.profiles[key]

    def wait(self, condition: Callable[[], bool], within: float) -> bool:
        """Whether ``condition`` came to hold within so many seconds."""
        with self._changed:
            return self._changed.wait_for(condition, within)

    def busy_seconds(self) -> dict[str, float]:
        """Per device: the busy fraction of each heartbeat times the time since the one before."""
        with self._changed:
            return dict(self._busy)

    def _connected(self, client: paho.Client, *_: object) -> None:
        for kind in self._handlers:
            client.subscribe(self._topics.filter(kind), qos=1)

    def _message(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            try:
                topic = self._topics.parse(message.topic)
                self._handlers[topic.kind](topic.names, message.payload)
            except DecodeError:
                return  # an emptied retained message
            finally:
                self._changed.notify_all()

    def _state(self, names: dict[str, str], payload: bytes) -> None:
        self.states[names["device"]] = payload.decode("ascii", "replace")

    def _profile(self, names: dict[str, str], payload: bytes) -> None:
        self.profiles[names["device"], names["model"]] = decode_json(Profile, payload)

    def _heartbeat(self, names: dict[str, str], payload: bytes) -> None:
        device, now = names["device"], time.monotonic()
        earlier = self._heard.get(device, now)
        self._heard[device] = now
        # A gap is an absence, in which nothing ran.
        spent = min(now - earlier, _LONGEST_BEAT) * decode_json(Heartbeat, payload).busy
        self._busy[device] = self._busy.get(device, 0.0) + spent

    def _assignment(self, names: dict[str, str], payload: bytes) -> None:
        assignment = decode_json(Assignment, payload)
        self.assignments[names["model"], names["origin"]] = assignment
        self.on_assignment(assignment)
