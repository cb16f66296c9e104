"""A plain MQTT client that knows what the mesh says of itself, and when it said it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

KINDS = (
    "device/+/state",
    "device/+/work",
    "decision/state",
    "gateway/+/state",
    "assignment/#",
    "model/#",
    "policy/#",
)


class Observer:
    """Keeps the newest message of each topic; reconnects by itself."""

    def __init__(self, root: str, port: int, kinds: Sequence[str] = KINDS) -> None:
        """``kinds`` are the topics below ``root``."""
        self.root = root
        self._said: dict[str, tuple[bytes, float]] = {}
        self._came = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        filters = [(root + kind, SubscribeOptions(qos=1)) for kind in kinds]
        self._client.on_connect = lambda client, *_: client.subscribe(filters)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def forget(self) -> None:
        """Only what is said from now on counts."""
        with self._came:
            self._said.clear()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes) -> None:
        """Retain a message below the root."""
        self._client.publish(self.root + topic, payload, qos=1, retain=True).wait_for_publish(10)

    def said(self, topic: str) -> tuple[bytes, float]:
        """Newest payload below the root and when it came; empty at time 0 where there is none."""
        return self._said.get(self.root + topic, (b"", 0.0))

    def online(self, topic: str) -> bool:
        """Whether a device or a holder of a role says that it is there."""
        payload, _ = self.said(topic)
        return payload == b"online" or _holder(payload).get("state") == "online"

    def holder(self, topic: str) -> tuple[str, int]:
        """Who holds a role, and in which term; nobody in term 0 where that is not known."""
        holder = _holder(self.said(topic)[0])
        named = holder.get("holder") if holder.get("state") == "online" else None
        return str(named or ""), int(holder.get("term", 0))

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Until ``condition`` holds; it is looked at after each message and every 50 ms. Whether it held."""
        ends = time.monotonic() + seconds
        with self._came:
            while not condition():
                left = ends - time.monotonic()
                if left <= 0:
                    return False
                self._came.wait(min(left, 0.05))
        return True

    def wait_for_next(self, topic: str, seconds: float) -> bool:
        """Until another message comes on ``topic``."""
        before = self.said(topic)[1]
        return self.wait(lambda: self.said(topic)[1] > before, seconds)

    def _heard(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        # Of activations only the moment counts.
        payload = b"" if message.topic.endswith("/work") else bytes(message.payload)
        with self._came:
            self._said[message.topic] = payload, time.monotonic()
            self._came.notify_all()


def _holder(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
