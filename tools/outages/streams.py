"""The programs that use the mesh while it breaks: two with the client library, one that knows only MQTT."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgemesh import Client
from edgemesh.errors import BrokerError, EdgemeshError
from edgemesh.node.prepared_job import Result
from edgemesh.protocol.ids import APP_ORIGIN
from outages.answers import Question
from outages.records import Job, Records

DEADLINE = 20.0
"""Of jobs by the client library, in seconds."""
PLAIN_DEADLINE = 30.0
"""Of submissions, which state none: the gateway's own."""
_PAUSE = (0.02, 0.15)
"""Seconds between a result and the next job."""
_PERIOD = 0.3
"""Seconds between two submissions of the plain app, whatever comes back."""
_REOPEN_SECONDS = 0.1


class ClientStream(threading.Thread):
    """One job after the other by the client library, each compared with the right answer."""

    def __init__(
        self,
        name: str,
        model: str,
        asked: list[Question],
        records: Records,
        broker: str,
        mesh: str,
        seed: int,
        origin: str = APP_ORIGIN,
        directory: Path | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self._model = model
        self._asked = asked
        self._records = records
        self._chance = random.Random(seed)
        self._settings: dict[str, Any] = {
            "broker": broker,
            "mesh": mesh,
            "origin": origin,
            "device_directory": directory,
            "timeout": DEADLINE,
        }
        self._client: Client | None = None

    def run(self) -> None:
        """Until ``over`` is set and the last job has ended."""
        number = 0
        while not self.over.is_set():
            job = self._records.begin(self.name, number, time.monotonic())
            try:
                result = self._answer(job, self._asked[number % len(self._asked)])
            except EdgemeshError as error:
                job.error = f"{type(error).__name__}: {error}"
                job.ended, job.ends = time.monotonic(), 1
            else:
                self._note(job, result, self._asked[number % len(self._asked)])
            number += 1
            self.over.wait(self._chance.uniform(*_PAUSE))
        if self._client is not None:
            self._client.close()

    def _note(self, job: Job, result: Result, question: Question) -> None:
        same = len(result.tensors) == len(question.tensors)
        pairs = zip(result.tensors, question.tensors, strict=False)
        job.right = same and all(np.array_equal(ours, right) for ours, right in pairs)
        job.attempts, job.predicted = result.attempts, result.predicted
        job.devices = tuple(hop.device for hop in result.route)
        job.ended, job.ends = time.monotonic(), 1

    def _answer(self, job: Job, question: Question) -> Result:
        while True:
            try:
                if self._client is None:
                    self._client = Client(**self._settings)
                return self._client.infer(self._model, question.payload)
            except BrokerError:
                # The agent that had custody has died and its socket with it, and says so at once. Over the
                # broker the requester is in this very process, and no fault may end a job like this.
                local = self._settings["origin"] != APP_ORIGIN
                if not local or time.monotonic() > job.began + DEADLINE:
                    raise
                job.handed_back += 1
                if self._client is not None:
                    self._client.close()
                    self._client = None
                time.sleep(_REOPEN_SECONDS)


class PlainApp:
    """Publishes pictures and reads results with MQTT 3.1.1 at QoS 1, as mosquitto_pub and _sub do.

    There is no correlation in MQTT 3.1.1: a result is known by its outputs, which differ for all inputs.
    """

    name = "plain app"

    def __init__(self, root: str, model: str, asked: list[Question], records: Records, port: int) -> None:
        self.over = threading.Event()
        self._root = root
        self._model = model
        self._asked = asked
        self._records = records
        self._numbers = {json.dumps(q.outputs, sort_keys=True): n for n, q in enumerate(asked)}
        self._open: dict[int, Job] = {}
        self._newest: dict[int, Job] = {}
        self._told: dict[str, tuple[str, str | None]] = {}
        """Outputs and code of each job id: one that comes again has to say the same."""
        self._unacknowledged: dict[int, Job | None] = {}
        """Submissions by packet identifier; None for one acknowledged before we knew of which job."""
        self._packets = threading.Lock()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, "plain-app", clean_session=False, protocol=paho.MQTTv311
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{root}result/{model}", 1)
        self._client.on_message = self._result
        self._client.on_publish = self._acknowledged
        self._client.on_disconnect = self._disconnected
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def join(self, seconds: float, since: float) -> None:
        """Wait for answers to what was submitted after ``since``, and disconnect."""
        self._thread.join()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and any(job.began > since for job in list(self._open.values())):
            time.sleep(0.05)
        self._client.disconnect()
        self._client.loop_stop()

    def _submit(self) -> None:
        number = 0
        while not self.over.wait(_PERIOD):
            place = number % len(self._asked)
            if self._may_come(place):  # its result could not be told from that of the one before
                number += 1
                continue
            job = self._records.begin(self.name, number, time.monotonic())
            with self._records.lock:
                self._open[place] = self._newest[place] = job
            # Under no lock of ours: paho calls back with locks of its own.
            topic = f"{self._root}submit/{self._model}"
            packet = self._client.publish(topic, self._asked[place].payload, qos=1).mid
            self._note_packet(packet, job)
            number += 1

    def _may_come(self, place: int) -> bool:
        before = self._open.get(place)
        return before is not None and time.monotonic() < before.began + PLAIN_DEADLINE

    def _acknowledged(self, client: object, userdata: object, packet: int, *_: object) -> None:
        self._note_packet(packet, None)

    def _note_packet(self, packet: int, job: Job | None) -> None:
        """It was sent for a job, or acknowledged: we may hear of either first, and the second one ends it."""
        with self._packets:
            if packet in self._unacknowledged:
                del self._unacknowledged[packet]
            else:
                self._unacknowledged[packet] = job

    def _disconnected(self, *_: object) -> None:
        """Whether the broker took what it did not acknowledge, nobody knows: the library sends it again."""
        with self._packets:
            for job in self._unacknowledged.values():
                if job is not None:
                    job.resubmitted += 1

    def _result(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        result = json.loads(message.payload)
        outputs = json.dumps(result.get("outputs"), sort_keys=True)
        place = self._numbers.get(outputs)
        told = outputs, result.get("code")
        with self._records.lock:
            if (before := self._told.get(result["job"])) is not None:
                self._records.redelivered += 1
                if before != told:
                    self._records.stray.append(f"another result than before under job id {result['job']}")
                return
            self._told[result["job"]] = told
            if result.get("error") is not None:
                self._records.errors.append(f"{result.get('code')}: {result['error']}")
                return
            if place is None or place not in self._newest:
                self._records.stray.append("outputs of no input that was sent")
                return
            job = self._open.pop(place, None) or self._newest[place]
            job.ends += 1
            job.told_as.append(result["job"])
            if job.ends == 1:
                job.ended, job.right = now, True
                job.attempts = result.get("attempts", 1)
            else:
                job.again.append(now)
