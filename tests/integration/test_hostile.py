"""Garbage on every topic: refused with a bounded log, answered where somebody waits, and nobody stops."""

from __future__ import annotations

import random
from pathlib import Path

import msgpack
import numpy as np
import psutil

from edgemesh.protocol.activation import Activation, Hop, decode_reply, encode_activation
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.tensors import section_bytes
from edgemesh.protocol.topics import TOPICS
from tests.integration.mesh import RunningMesh
from tests.integration.test_mesh import client_of, ready

GOLDEN = Path(__file__).parents[1] / "protocol" / "golden"
NAMES = {
    "device": ("one", "ghost"),
    "requester": ("gateway-0", "one", "ghost"),
    "model": ("ghost",),
    "origin": ("app", "one"),
    "slot": ("ghost",),
    "verb": ("plan", "ghost"),
    "digest": ("0" * 64,),
}


def hostile_payloads(seed: int) -> list[bytes]:
    """Random, truncated, huge, nested, of another version, of the wrong type, with numbers that are none."""
    chance = random.Random(seed)
    stored = [path.read_bytes() for path in sorted(GOLDEN.iterdir())]
    truncated = [payload[: chance.randrange(1, max(2, len(payload)))] for payload in stored]
    return [
        b"\0",
        chance.randbytes(64),
        chance.randbytes(300_000),
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"boot":1e999,"seq":NaN,"queue":-1}',
        b"\xff\xfe" * 50,
        b"1" * 5000,
        msgpack.packb({"job": ["x"] * 100}),
        b"EM\x02\x01" + (10).to_bytes(4, "little") + b"\x80" * 10,
        b"EM\x01\x01" + b"\xff" * 60,
        *chance.sample(truncated, 6),
        *chance.sample(stored, 6),
    ]


def all_topics(mesh: RunningMesh) -> list[tuple[str, str]]:
    """Kind and topic of every row of the contract, with names that exist and names that do not."""
    topics = []
    for kind, row in TOPICS.items():
        names = [name for name in NAMES if "{" + name + "}" in row.pattern]
        choices: list[dict[str, str]] = [{}]
        for name in names:
            choices = [{**choice, name: value} for choice in choices for value in NAMES[name]]
        topics += [(kind, mesh.topics.build(kind, **choice)) for choice in choices]
    return topics


def test_garbage_on_every_topic_stops_nobody(
    mesh: RunningMesh, face: tuple[Path, Manifest], photograph: Path
) -> None:
    ready(mesh, face, {"one": None})
    members = {name: psutil.Process(process.pid) for name, process in mesh.processes.items()}
    with client_of(mesh) as client, mesh.listening(mesh.topics.filter("result")) as results:
        expected = client.infer("face-short", photograph)
        before = {name: process.memory_info().rss for name, process in members.items()}

        for seed, (kind, topic) in enumerate(all_topics(mesh)):
            # The device's own `offline` and our own heartbeats are facts, not garbage: no stored messages
            # where they would be taken at their word.
            words = kind in ("state", "about", "heartbeat", "gateway", "decision")
            for payload in hostile_payloads(seed)[: 11 if words else None]:
                results.client.publish(topic, payload, qos=1)
        sent = results.client.publish("test/end", b"", qos=1)
        sent.wait_for_publish(60)

        after = client.infer("face-short", photograph)
        results.messages.clear()
        mesh.publish(mesh.topics.build("submit", model="face-short"), photograph.read_bytes())
        results.wait(lambda got: any(t.endswith("face-short") for t, _ in got), 20)

    assert after.outputs == expected.outputs
    for name, process in members.items():
        assert mesh.processes[name].poll() is None, mesh.log(name)[-2000:]
        assert "Traceback" not in mesh.log(name), mesh.log(name)[-3000:]
        assert len(mesh.log(name).splitlines()) < 120, "a flood of garbage became a flood of log"
        assert process.memory_info().rss - before[name] < 80e6


def test_an_activation_that_cannot_be_used_is_answered_with_one_error(
    mesh: RunningMesh, face: tuple[Path, Manifest]
) -> None:
    ready(mesh, face, {"one": None})
    manifest = face[1]
    units = manifest.unit_count
    work = mesh.topics.build("work", device="one")

    def activation(job: str, section: bytes, digest: str = manifest.digest, device: str = "one") -> bytes:
        route = (Hop(device, units),)
        header = Activation(job, "tester", manifest.name, digest, 0, route, 0, 10.0, "tester")
        return encode_activation(header, (section,))

    good = section_bytes([np.zeros(manifest.boundaries[0][0].shape, np.float32)])
    other_version = bytearray(activation("job-version", good))
    other_version[2] = 9
    cases = {
        "job-version": (bytes(other_version), "wrong-version"),
        "job-shape": (activation("job-shape", section_bytes([np.zeros((1, 2), np.float32)])), "bad-input"),
        "job-garbage": (activation("job-garbage", b"\xff" * 200), "bad-message"),
        "job-cut-short": (activation("job-cut-short", good[:-100]), "bad-message"),
        "job-model": (activation("job-model", good, digest="1" * 64), "unknown-model"),
        "job-device": (activation("job-device", good, device="two"), "bad-message"),
    }

    with mesh.listening(mesh.topics.build("reply", requester="tester")) as replies:
        for payload, _ in cases.values():
            replies.client.publish(work, payload, qos=1)
        replies.wait(lambda got: len(got) >= len(cases), 20)
        replies.client.publish(work, activation("job-good", good), qos=1)
        replies.wait(lambda got: len(got) > len(cases), 20)
        headers = [decode_reply(payload)[0] for _, payload in replies.messages]

    found = {header.job: header.code for header in headers}
    assert found == {**{job: code for job, (_, code) in cases.items()}, "job-good": None}
    assert len(headers) == len(found)
