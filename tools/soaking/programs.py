"""The programs that submit jobs: one with the client library, one that knows only MQTT."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgemesh import Client
from edgemesh.errors import EdgemeshError
from edgemesh.node.client import new_stream
from edgemesh.roles.actions import JobEnded
from soaking.tally import RIGHT, Job, Tally

CLIENT, STREAM, PLAIN = "client library", "client library, latest", "plain app"
_ANSWERS = "soak/answers"
"""Where the plain app wants its results: below the root of no mesh."""


class ClientProgram:
    """Submits without waiting, by the client library."""

    def __init__(self, url: str, mesh: str, model: str, given: Any, tally: Tally, timeout: float) -> None:
        """``given`` is the input of every job, ``timeout`` its deadline in seconds."""
        self._client = Client(url, mesh=mesh, timeout=timeout)
        self._model = model
        self._given = given
        self._tally = tally
        self._frames = new_stream()
        self._client.manifest(model)

    def submit(self, given: Any = None, timeout: float | None = None) -> Job:
        """A job of its own."""
        return self._submit(CLIENT, self._given if given is None else given, timeout, None)

    def submit_frame(self, timeout: float | None = None) -> Job:
        """A frame of a stream of which only the newest matters."""
        return self._submit(STREAM, self._given, timeout, self._frames)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _submit(self, program: str, given: Any, timeout: float | None, stream: str | None) -> Job:
        job = self._tally.begin(program, time.monotonic())
        try:
            pending = self._client.begin(self._model, given, timeout=timeout, stream=stream)
        except EdgemeshError as error:
            self._tally.end(job, error.code, time.monotonic())
            return job
        # A thread that waits for each of hundreds of open jobs would be load of its own.
        pending._future.add_done_callback(self._ending(job))
        return job

    def _ending(self, job: Job) -> Callable[[Future[JobEnded]], None]:
        return lambda ended: self._tally.end(job, ended.result().code or RIGHT, time.monotonic())


class PlainProgram:
    """Publishes a picture with an expiry and a response topic; results are told apart by correlation."""

    def __init__(self, url_port: int, root: str, model: str, payload: bytes, tally: Tally) -> None:
        self._topic = f"{root}submit/{model}"
        self._payload = payload
        self._tally = tally
        self._jobs: dict[bytes, Job] = {}
        self.unknown = 0
        """Results of no job that was submitted."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "soak-plain", protocol=paho.MQTTv5)
        # The default of 20 would make a closed loop of it: the gateway acknowledges with the result.
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = lambda client, *_: client.subscribe(_ANSWERS, 1)
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", url_port)
        self._client.loop_start()

    def submit(self, seconds: int) -> Job:
        """Publish one picture whose result is wanted within ``seconds``."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = _ANSWERS
        properties.CorrelationData = correlation = str(len(self._jobs)).encode()
        properties.MessageExpiryInterval = seconds
        job = self._jobs[correlation] = self._tally.begin(PLAIN, time.monotonic())
        self._client.publish(self._topic, self._payload, qos=1, properties=properties)
        return job

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        job = self._jobs.get(getattr(message.properties, "CorrelationData", b""))
        if job is None:
            self.unknown += 1
            return
        self._tally.end(job, json.loads(message.payload).get("code") or RIGHT, time.monotonic())
