"""What custody costs a job without faults: against a requester that keeps nothing and sets no timer.

Both use the same connection, session and way through the same device. The other requester publishes the same
activation at QoS 0, keeps no input, no deadline and no second route, and takes the reply at QoS 0. It also
sends no reports of its jobs, so what is found is the most that custody can cost.

Method: blocks of jobs with and without custody in turn, each pair in the other order than the one before, so
that neither always comes first; the ratio of the two medians of each pair, and the median of these ratios. A
first pair of blocks warms up and is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from benchmarks.models import BenchModel
from benchmarks.report import NotMeasurableError, Report, paired_ratio
from paho.mqtt.enums import CallbackAPIVersion

from edgemesh.node.client import AsyncClient
from edgemesh.node.job_session import BrokerSession
from edgemesh.node.shell import Shell
from edgemesh.protocol.activation import Hop, decode_reply
from edgemesh.protocol.assignment import Assignment, HopPrediction
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, JobEnded, Subscribe
from edgemesh.roles.events import Connected, Event, JobSubmitted, MessageReceived
from edgemesh.roles.first_hop import FirstHop
from edgemesh.roles.mesh_view import MeshView
from edgemesh.roles.routes import RouteChooser

NAME, DEVICE = "custody", "alone"
LIMIT = 1.03
_BLOCK = 20
_BLOCKS, _QUICK_BLOCKS = 120, 10
_START_SECONDS = 20.0


def publish_plan(port: int, model: BenchModel) -> None:
    """Manifest and assignment of the one device, as an operator and a decision node retain them."""
    manifest, topics = model.manifest, Topics(NAME)
    end = manifest.unit_count
    plan = Assignment(
        1,
        1,
        manifest.name,
        manifest.digest,
        APP_ORIGIN,
        "latency",
        (Hop(DEVICE, end),),
        (HopPrediction(DEVICE, 0, end, 0.001, 0.0, 0.01, 0),),
        0.001,
        0.05,
        "the only device",
    )
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, message in (
        (topics.build("model", model=manifest.name), manifest),
        (topics.build("assignment", model=manifest.name, origin=APP_ORIGIN), plan),
    ):
        client.publish(topic, encode_json(message), qos=1, retain=True).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def measure(report: Report, url: str, model: BenchModel, inputs: Sequence[Any]) -> float:
    """Ratio of p50 of jobs with custody to jobs without, in turn; ``inputs`` are what one job takes."""
    kept, bare = asyncio.run(_samples(url, model, list(inputs), _QUICK_BLOCKS if report.quick else _BLOCKS))
    name = model.manifest.name
    report.figure(f"{name} with custody, one device, p50 ms", median(kept) * 1e3)
    report.figure(f"{name} without custody, p50 ms", median(bare) * 1e3)
    report.figure(f"what custody adds to {name}, ms", (median(kept) - median(bare)) * 1e3)
    return paired_ratio(kept, bare, _BLOCK)


async def _samples(
    url: str, model: BenchModel, inputs: list[np.ndarray[Any, Any]], blocks: int
) -> tuple[list[float], list[float]]:
    kept, bare = AsyncClient(url, mesh=NAME), _BareClient(url, mesh=NAME)
    samples: tuple[list[float], list[float]] = ([], [])
    async with kept, bare:
        try:
            await asyncio.wait_for(
                kept.infer(model.manifest.name, inputs, timeout=_START_SECONDS), _START_SECONDS
            )
            await asyncio.wait_for(bare.infer(model.manifest.name, inputs), _START_SECONDS)
        except asyncio.TimeoutError:
            raise NotMeasurableError("the device without emulation gave no answer") from None
        for number in range(blocks + 1):
            pair = ((kept, samples[0]), (bare, samples[1]))
            for client, seconds in pair if number % 2 else pair[::-1]:
                for _ in range(_BLOCK):
                    began = time.perf_counter()
                    await client.infer(model.manifest.name, inputs)
                    if number:  # the first block warms up
                        seconds.append(time.perf_counter() - began)
    return samples


class _BareClient(AsyncClient):
    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._session = _BareSession(self._mesh, self._origin, self._address, loop)
        await self._session.open(_START_SECONDS)


class _BareSession(BrokerSession):
    def __init__(self, mesh: str, origin: str, address: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(mesh, origin, address, loop)
        topics = Topics(mesh)
        self.role = _BareRole(self.requester, origin, topics)  # type: ignore[assignment]
        self.shell = Shell(self.role, topics, loop)
        self.shell.handle_also({JobEnded: self._ended})


class _BareRole:
    """Sends jobs and forgets them."""

    def __init__(self, requester: str, origin: str, topics: Topics) -> None:
        self.view = MeshView()
        self._requester = requester
        self._origin = origin
        self._topics = topics
        self._routes = RouteChooser(self.view, origin)
        self._first_hop = FirstHop(requester, topics)

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to a submission, a reply, and news of the mesh."""
        if isinstance(event, JobSubmitted):
            choice = self._routes.routes(event.model, now)[0]
            return [replace(self._first_hop.message(event, 0, choice, event.left, now), qos=0, token=None)]
        if isinstance(event, Connected):
            return self._subscriptions()
        if isinstance(event, MessageReceived) and event.topic.kind == "reply":
            reply, section = decode_reply(event.payload)
            return [
                JobEnded(reply.job, "", 0.0, reply.code, reply.text or "", section, timings=reply.timings)
            ]
        if isinstance(event, MessageReceived):
            self.view.learn(event, now)
        return []

    def _subscriptions(self) -> list[Action]:
        topics = self._topics
        filters = [topics.filter("reply", requester=self._requester)]
        filters += [topics.filter(kind) for kind in ("model", "state", "about", "heartbeat")]
        filters.append(topics.filter("assignment", origin=self._origin))
        return [Subscribe(topic_filter, 0) for topic_filter in filters]
