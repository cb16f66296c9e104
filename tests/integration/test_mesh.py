"""Promises that only real processes on a real broker can break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import psutil
import pytest

from edgemesh import Client
from edgemesh.errors import UnknownModelError
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.manifest import Manifest
from edgemesh.transport.local_broker import start_broker
from tests.integration.conftest import free_port
from tests.integration.mesh import Listener, RunningMesh

Model = tuple[Path, Manifest]


def ready(mesh: RunningMesh, model: Model, devices: dict[str, str | None]) -> None:
    """A mesh whose devices hold the model and are assigned; ``devices`` maps names to boards."""
    path, manifest = model
    for device in devices:
        mesh.give(device, path, manifest)
    mesh.publish_manifest(manifest)
    filters = [mesh.topics.filter(kind) for kind in ("assignment", "profile", "gateway")]
    with mesh.listening(*filters) as listener:
        mesh.start_roles()
        for device, board in devices.items():
            mesh.start_device(device, board)
        for device in devices:
            topic = mesh.topics.build("profile", device=device, model=manifest.name)
            listener.wait(lambda got, topic=topic: any(t == topic for t, _ in got), 20)
        topic = mesh.topics.build("assignment", model=manifest.name, origin="app")
        listener.wait(lambda got: any(t == topic and p for t, p in got), 20)
        gateway = mesh.topics.build("gateway", slot="0")
        listener.wait(lambda got: any(t == gateway and b"online" in p for t, p in got), 20)


def client_of(mesh: RunningMesh, **settings: object) -> Client:
    return Client(mesh.environment["EDGEMESH_BROKER"], mesh=mesh.name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_a_photograph_on_submit_becomes_faces_on_result(
    any_broker_port: int, tmp_path: Path, face: Model, photograph: Path, version: int
) -> None:
    mesh = RunningMesh(any_broker_port, tmp_path)
    try:
        ready(mesh, face, {"one": None})
        listener = Listener(mesh.port, f"edgemesh/v1/{mesh.name}/result/face-short", protocol=version)

        listener.client.publish(f"edgemesh/v1/{mesh.name}/submit/face-short", photograph.read_bytes(), qos=1)
        listener.wait(lambda got: len(got) == 1, 20)
        listener.close()

        result = json.loads(listener.messages[0][1])
        assert result["model"] == "face-short"
        assert [found["label"] for found in result["outputs"]["detections"]] == ["face"]
        assert result["route"] == [{"device": "one", "stop": face[1].unit_count, "codec": "raw"}]
    finally:
        mesh.stop()


def test_the_clients_as_printed_in_the_readme(mesh: RunningMesh, face: Model, photograph: Path) -> None:
    ready(mesh, face, {"one": None})
    tail = ["-p", str(mesh.port), "-t"]

    subscriber = subprocess.Popen(
        ["mosquitto_sub", *tail, f"edgemesh/v1/{mesh.name}/result/face-short", "-C", "1", "-W", "20"],
        stdout=subprocess.PIPE,
    )
    with mesh.listening() as settled:
        settled.wait(lambda got: True, 1)
    for _ in range(20):  # until the subscriber's subscription is there
        topic = f"edgemesh/v1/{mesh.name}/submit/face-short"
        subprocess.run(["mosquitto_pub", *tail, topic, "-f", str(photograph)], check=True)
        try:
            output, _ = subscriber.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            continue

    assert json.loads(output)["outputs"]["detections"][0]["label"] == "face"


def test_the_result_arrives_when_a_device_is_killed_in_the_middle_of_the_job(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    # A second for the model, so that the kill falls into the run.
    macs = sum(unit.macs for unit in face[1].units)
    slow, slower = mesh.board("slow", macs / 1.0), mesh.board("slower", macs / 1.2)
    ready(mesh, face, {"slow": slow, "slower": slower})
    with client_of(mesh) as client:
        expected = client.infer("face-short", photograph)
        assert expected.route[0].device == "slow"

        with mesh.listening(mesh.topics.build("work", device="slow")) as work:
            pending = client.begin("face-short", photograph)
            work.wait(lambda got: len(got) == 1, 5)
            mesh.kill("slow")
            result = pending.result()

    assert result.outputs == expected.outputs
    assert [hop.device for hop in result.route] == ["slower"]
    assert result.attempts == 2


def test_units_split_over_two_devices_give_the_same_bits(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    ready(mesh, face, {"one": None, "two": None})
    units = face[1].unit_count
    with client_of(mesh) as client:
        whole = client.infer("face-short", photograph, route=[Hop("one", units)])
        for cut in range(1, units, 9):
            split = client.infer("face-short", photograph, route=[Hop("one", cut), Hop("two", units)])

            assert [t.device for t in split.timings] == ["one", "two"]
            for ours, theirs in zip(split.tensors, whole.tensors, strict=True):
                assert np.array_equal(ours, theirs)


def test_two_streams_at_once_each_get_their_own_results(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    ready(mesh, face, {"one": None, "two": None})
    blank = np.zeros((1, 128, 128, 3), np.float32)
    with client_of(mesh) as first, client_of(mesh) as second:
        faces = first.stream("face-short", [photograph] * 12)
        nothing = second.stream("face-short", [blank] * 12)

        both = list(zip(faces, nothing, strict=True))

    assert len(both) == 12
    assert all(len(found.outputs["detections"]) == 1 for found, _ in both)
    assert all(empty.outputs["detections"] == [] for _, empty in both)


def test_a_device_without_the_model_fetches_it_and_resumes_after_a_cut(
    mesh: RunningMesh, face: Model, tmp_path: Path
) -> None:
    from edgemesh.node.model_import import Treatment, manifest_of
    from tests.wheels import MEDIAPIPE, wheel_member

    path = tmp_path / "pose.tflite"
    path.write_bytes(wheel_member(MEDIAPIPE, "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"))
    manifest = manifest_of(path, "pose", "tflite", Treatment())
    mesh.give("holder", path, manifest)
    # What a fetch that was cut leaves behind: some chunks right, one damaged, the rest not there.
    models = mesh.directory("newcomer") / "models"
    models.mkdir(parents=True)
    begun = bytearray(path.read_bytes()[: 5 * manifest.chunk_bytes])
    begun[2 * manifest.chunk_bytes] ^= 0xFF
    (models / f"{manifest.digest}.part").write_bytes(begun)
    mesh.publish_manifest(manifest)

    request = mesh.topics.filter("chunk-request", digest=manifest.digest)
    with mesh.listening(request, mesh.topics.filter("about")) as listener:
        mesh.start_device("holder")
        mesh.start_device("newcomer")
        about = mesh.topics.build("about", device="newcomer")
        listener.wait(lambda got: any(t == about and manifest.digest.encode() in p for t, p in got), 30)
        asked = {json.loads(p)["index"] for t, p in listener.messages if t.endswith("/request")}

    assert asked == {2, *range(5, len(manifest.chunks))}
    assert (models / manifest.digest).read_bytes() == path.read_bytes()


def test_a_killed_executor_costs_no_job_and_no_heartbeat(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    macs = sum(unit.macs for unit in face[1].units)
    ready(mesh, face, {"slow": mesh.board("slow", macs / 0.8)})
    executor = psutil.Process(mesh.processes["slow"].pid).children()[0]
    with client_of(mesh) as client:
        expected = client.infer("face-short", photograph)
        state = mesh.topics.build("state", device="slow")
        with mesh.listening(mesh.topics.build("work", device="slow"), state) as listener:
            pending = client.begin("face-short", photograph)
            listener.wait(lambda got: any(t.endswith("/work") for t, _ in got), 5)
            executor.send_signal(signal.SIGKILL)
            result = pending.result()
            states = [p for t, p in listener.messages if t == state]

    assert result.outputs == expected.outputs
    assert states == [b"online"]  # the retained one: it never went offline
    assert mesh.processes["slow"].poll() is None


def test_a_job_whose_model_nobody_holds_is_answered(mesh: RunningMesh, photograph: Path) -> None:
    mesh.start_roles()
    mesh.start_device("one")
    with mesh.listening(mesh.topics.filter("gateway"), mesh.topics.filter("result")) as listener:
        listener.wait(lambda got: any(b"online" in p for _, p in got), 15)
        mesh.publish(f"edgemesh/v1/{mesh.name}/submit/nothing", photograph.read_bytes())
        listener.wait(lambda got: any("/result/" in t for t, _ in got), 15)
        result = json.loads(listener.messages[-1][1])
    with client_of(mesh) as client, pytest.raises(UnknownModelError, match="edgemesh model add"):
        client.infer("nothing", photograph)

    assert result["code"] == "unknown-model"
    assert "edgemesh model add" in result["error"]


def test_a_device_started_before_its_broker_waits_and_connects(tmp_path: Path) -> None:
    port = free_port()
    mesh = RunningMesh(port, tmp_path)
    try:
        mesh.start_device("early")
        while "nothing listens there" not in mesh.log("early"):
            assert mesh.processes["early"].poll() is None
            time.sleep(0.05)
        with start_broker(port), mesh.listening(mesh.topics.build("state", device="early")) as listener:
            listener.wait(lambda got: got[-1:] != [] and got[-1][1] == b"online", 15)
    finally:
        mesh.stop()


def test_jobs_of_a_device_on_its_own_machine_take_no_broker_hop(
    mesh: RunningMesh, face: Model, photograph: Path
) -> None:
    ready(mesh, face, {"camera": None})
    directory = mesh.directory("camera")
    with client_of(mesh, origin="camera", device_directory=directory) as client:
        client.infer("face-short", photograph)  # asks for the plan, loads
        with mesh.listening(mesh.topics.filter("work"), mesh.topics.filter("reply")) as listener:
            result = client.infer("face-short", photograph)
            mesh.publish(mesh.topics.build("work", device="nobody"), b"marker")
            listener.wait(lambda got: any(p == b"marker" for _, p in got), 5)

    assert len(listener.messages) == 1  # the marker alone
    assert [hop.device for hop in result.route] == ["camera"]
    assert len(result.outputs["detections"]) == 1
    assert result.alone is False


def test_a_device_whose_broker_goes_away_serves_itself_and_says_so(
    tmp_path: Path, face: Model, photograph: Path
) -> None:
    with start_broker(free_port()) as broker:
        mesh = RunningMesh(broker.address.port, tmp_path)
        try:
            ready(mesh, face, {"camera": None})
            with client_of(mesh, origin="camera", device_directory=mesh.directory("camera")) as client:
                before = client.infer("face-short", photograph)
                broker.stop()
                ends = time.monotonic() + 10  # the agent may have yet to notice
                while not (after := client.infer("face-short", photograph)).alone:
                    assert time.monotonic() < ends
            infer = [sys.executable, "-m", "edgemesh.cli.main", "infer", "face-short", str(photograph)]
            told = [
                subprocess.run(
                    [*infer, "--origin", "camera", *options],
                    env=mesh.environment,
                    check=True,
                    stdout=subprocess.PIPE,
                ).stdout
                for options in ((), ("--json",))
            ]
        finally:
            mesh.stop()

    assert before.alone is False and after.outputs == before.outputs
    assert [hop.device for hop in after.route] == ["camera"]
    assert b"; without the broker: all of it ran on camera" in told[0]
    assert json.loads(told[1])["alone"] is True


def test_a_clean_end_says_stopped_and_leaves_no_process(mesh: RunningMesh) -> None:
    process = mesh.start_device("one")
    state = mesh.topics.build("state", device="one")
    with mesh.listening(state) as listener:
        listener.wait(lambda got: got[-1:] != [] and got[-1][1] == b"online", 15)
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        listener.wait(lambda got: got[-1][1] == b"stopped", 5)

    assert process.wait(5) == 0
    assert children and not any(child.is_running() for child in children)


def test_a_dead_agent_leaves_no_executor_behind(mesh: RunningMesh) -> None:
    process = mesh.start_device("one")
    with mesh.listening(mesh.topics.build("state", device="one")) as listener:
        listener.wait(lambda got: got[-1:] != [] and got[-1][1] == b"online", 15)
    (executor,) = psutil.Process(process.pid).children()

    os.kill(process.pid, signal.SIGKILL)

    process.wait()
    executor.wait(5)


def test_a_device_that_left_for_good_is_forgotten(mesh: RunningMesh, face: Model) -> None:
    path, manifest = face
    mesh.give("gone", path, manifest)
    mesh.publish_manifest(manifest)
    process = mesh.start_device("gone")
    profile = mesh.topics.build("profile", device="gone", model=manifest.name)
    with mesh.listening(profile) as listener:
        listener.wait(lambda got: len(got) == 1, 20)
    forget = [sys.executable, "-m", "edgemesh.cli.main", "device", "forget", "gone"]

    early = subprocess.run(forget, env=mesh.environment, capture_output=True, text=True, check=False)
    process.terminate()
    process.wait()
    done = subprocess.run(forget, env=mesh.environment, capture_output=True, text=True, check=False)

    assert early.returncode == 2 and "gone is online" in early.stderr
    assert done.returncode == 0 and manifest.name in done.stdout
    with mesh.listening(mesh.topics.root + "device/#") as left:
        mesh.publish(mesh.topics.build("work", device="marker"), b"marker")
        left.wait(lambda got: any(p == b"marker" for _, p in got), 5)
        assert len(left.messages) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_up_runs_a_whole_mesh_and_takes_it_all_with_it(mesh: RunningMesh, number: signal.Signals) -> None:
    kinds = [mesh.topics.filter(kind) for kind in ("state", "decision", "gateway")]
    with mesh.listening(*kinds) as listener:
        up = mesh.start("up", "up", "--emulate", "pi-zero-2w,pi-zero-2w", "--no-model")
        for topic in (
            mesh.topics.build("state", device="pi-zero-2w"),
            mesh.topics.build("state", device="pi-zero-2w-2"),
            mesh.topics.build("decision"),
            mesh.topics.build("gateway", slot="0"),
        ):
            listener.wait(lambda got, t=topic: any(found == t and b"online" in p for found, p in got), 20)
    members = psutil.Process(up.pid).children(recursive=True)

    up.send_signal(number)

    assert up.wait(10) == (0 if number == signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(members, timeout=10)
    assert len(members) >= 6 and not alive
