"""How processes leave a mesh: asked to, and killed again and again by what they run."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from edgemesh.errors import ModelError, RunError
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import Heartbeat, ReadyPartition
from tests.integration.mesh import RunningMesh
from tests.integration.test_mesh import client_of, ready

Model = tuple[Path, Manifest]
LEAVING_SECONDS = 5


def slow_boards(mesh: RunningMesh, face: Model) -> dict[str, str | None]:
    """Two devices that take a second and more for the model, so that a signal falls into a run."""
    macs = sum(unit.macs for unit in face[1].units)
    return {"slow": mesh.board("slow", macs / 1.0), "slower": mesh.board("slower", macs / 1.2)}


def test_a_device_asked_to_end_in_the_middle_of_a_job_hands_it_on_and_says_stopped(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    ready(mesh, face, slow_boards(mesh, face))
    leaving = mesh.processes["slow"]
    executors = psutil.Process(leaving.pid).children()
    state = mesh.topics.build("state", device="slow")
    with client_of(mesh) as client:
        expected = client.infer("face-short", photograph)
        assert expected.route[0].device == "slow"

        with mesh.listening(mesh.topics.build("work", device="slow"), state) as listener:
            pending = client.begin("face-short", photograph)
            listener.wait(lambda got: any(t.endswith("/work") for t, _ in got), 5)
            leaving.send_signal(signal.SIGTERM)
            status = leaving.wait(LEAVING_SECONDS)
            result = pending.result()
            listener.wait(lambda got: (state, b"stopped") in got, 5)

    assert status == 0
    assert result.outputs == expected.outputs
    assert [hop.device for hop in result.route] == ["slower"]
    assert (state, b"offline") not in listener.messages
    assert executors and not any(executor.is_running() for executor in executors)


def test_a_gateway_asked_to_end_leaves_what_it_has_not_answered_to_the_standby(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    ready(mesh, face, slow_boards(mesh, face))
    topic = mesh.topics.build("gateway", slot="0")
    mesh.start("standby", "gateway", "run", "--id", "standby")
    kinds = [mesh.topics.filter(kind) for kind in ("work", "result", "gateway")]
    with mesh.listening(*kinds) as listener:
        mesh.publish(f"edgemesh/v1/{mesh.name}/submit/face-short", photograph.read_bytes())
        listener.wait(lambda got: any(t.endswith("/work") for t, _ in got), 10)
        mesh.processes["gateway"].send_signal(signal.SIGTERM)
        status = mesh.processes["gateway"].wait(LEAVING_SECONDS)
        listener.wait(lambda got: any("/result/" in t for t, _ in got), 20)
        mesh.publish(mesh.topics.build("work", device="nobody"), b"marker")
        listener.wait(lambda got: any(p == b"marker" for _, p in got), 5)

    said = [json.loads(p) for t, p in listener.messages if t == topic]
    results = [json.loads(p) for t, p in listener.messages if "/result/" in t]
    assert status == 0
    assert [(holder["holder"], holder["state"]) for holder in said[:2]] == [
        ("gateway", "online"),
        ("gateway", "stopped"),
    ]
    assert said[-1]["holder"] == "standby" and said[-1]["term"] > said[0]["term"]
    assert len(results) == 1
    assert [found["label"] for found in results[0]["outputs"]["detections"]] == ["face"]


def test_a_decision_node_asked_to_end_is_followed_by_the_standby_in_a_higher_term(mesh: RunningMesh) -> None:
    topic = mesh.topics.build("decision")
    mesh.start("decision", "decision", "run", "--id", "decision")
    with mesh.listening(topic) as listener:
        listener.wait(lambda got: any(b"online" in p for _, p in got), 15)
        mesh.start("standby", "decision", "run", "--id", "standby")
        while "standing by" not in mesh.log("standby"):
            assert mesh.processes["standby"].poll() is None
            time.sleep(0.05)
        mesh.processes["decision"].send_signal(signal.SIGTERM)
        status = mesh.processes["decision"].wait(LEAVING_SECONDS)
        listener.wait(lambda got: b"standby" in got[-1][1], 10)

    said = [json.loads(payload) for _, payload in listener.messages]
    assert status == 0
    assert any((told["holder"], told["state"]) == ("decision", "stopped") for told in said)
    assert said[-1]["state"] == "online" and said[-1]["term"] > said[0]["term"]


def test_a_model_that_kills_the_executor_three_times_is_left_out_by_name_and_heartbeats_go_on(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    macs = sum(unit.macs for unit in face[1].units)
    ready(mesh, face, {"slow": mesh.board("slow", macs / 0.8)})
    agent = mesh.processes["slow"]
    route = [Hop("slow", face[1].unit_count)]
    work = mesh.topics.build("work", device="slow")
    beats = mesh.topics.build("heartbeat", device="slow")
    with client_of(mesh) as client, mesh.listening(work, beats) as listener:
        client.manifest("face-short")
        for _ in range(3):
            # An executor that has just been started is not in a run yet.
            listener.wait(lambda got: any(ready_by(got, beats)[-1:]), 15)
            before = len(listener.messages)
            pending = client.begin("face-short", photograph, route=route)
            listener.wait(lambda got, n=before: any(t == work for t, _ in got[n:]), 5)
            time.sleep(0.2)  # of the 0.8 s that the run takes: the message comes to us and to it at once
            (executor,) = psutil.Process(agent.pid).children()
            executor.kill()
            with pytest.raises(RunError, match="ended by signal 9"):
                pending.result()
            listener.wait(lambda got, n=before: () in ready_by(got[n:], beats), 5)

        with pytest.raises(ModelError, match="model face-short killed the executor of slow 3 times"):
            client.infer("face-short", photograph, route=route)
        so_far = sum(topic == beats for topic, _ in listener.messages)
        listener.wait(lambda got: sum(t == beats for t, _ in got) >= so_far + 2, 10)

    assert ready_by(listener.messages, beats)[-1] == ()
    assert agent.poll() is None


def ready_by(messages: list[tuple[str, bytes]], topic: str) -> list[tuple[ReadyPartition, ...]]:
    """What each of the device's heartbeats says that it has loaded."""
    return [decode_json(Heartbeat, payload).ready for found, payload in messages if found == topic]
