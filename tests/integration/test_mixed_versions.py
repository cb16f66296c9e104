"""Releases side by side in one mesh of real processes: a later minor version takes part, a major one not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgemesh.protocol.activation import Activation, Hop, decode_reply, encode_activation
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.topics import MAJOR
from tests.integration.later_release import MARK
from tests.integration.mesh import RunningMesh
from tests.integration.test_mesh import client_of, ready

Model = tuple[Path, Manifest]
ROOT = Path(__file__).parents[2]


class MixedMesh(RunningMesh):
    """Some of its processes are of a later release."""

    def __init__(self, port: int, home: Path) -> None:
        super().__init__(port, home)
        self.later: dict[str, str] = {}
        """Names of processes to ``minor`` or ``major``."""

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        if name not in self.later:
            return super().start(name, *arguments)
        command = [sys.executable, "-m", "tests.integration.later_release", self.later[name], *arguments]
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def told(self, *arguments: str) -> str:
        """What ``edgemesh ARGUMENTS`` of this release prints, whatever its exit status."""
        command = [sys.executable, "-m", "edgemesh.cli.main", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout


@pytest.fixture
def mixed(broker_port: int, tmp_path: Path) -> Iterable[MixedMesh]:
    running = MixedMesh(broker_port, tmp_path)
    yield running
    running.stop()


def kinds_of(mesh: RunningMesh, messages: list[tuple[str, bytes]]) -> set[str]:
    """Kinds of the topics on which a field of the later release was seen."""
    mark = MARK.encode()
    return {mesh.topics.parse(topic).kind for topic, payload in messages if mark in payload}


def test_a_device_of_the_next_minor_version_and_one_of_this_work_for_each_other(
    mixed: MixedMesh, face: Model, photograph: Path
) -> None:
    mixed.later = {"newer": "minor"}
    units = face[1].unit_count
    whole, there, back = (
        (Hop("older", units),),
        (Hop("older", 30), Hop("newer", units)),
        (Hop("newer", 30), Hop("older", units)),
    )
    with mixed.listening(f"{mixed.topics.root}#") as listener:
        ready(mixed, face, {"older": None, "newer": None})

        found = {}
        for origin in ("app", "older", "newer"):
            lane = {} if origin == "app" else {"device_directory": mixed.directory(origin)}
            with client_of(mixed, origin=origin, **lane) as client:
                for route in (whole, there, back):
                    found[origin, route] = client.infer("face-short", photograph, route=route)
        listener.wait(
            lambda got: {"heartbeat", "resources", "receipt", "link"} <= kinds_of(mixed, got), 30
        )  # some are sent every few seconds only

    expected = found["app", whole].outputs
    assert expected["detections"]
    assert [result.outputs for result in found.values()] == [expected] * len(found)
    for (_, route), result in found.items():
        assert result.attempts == 1 and [t.device for t in result.timings] == [hop.device for hop in route]
    assert kinds_of(mixed, listener.messages) >= {"about", "profile", "work", "reply"}
    versions = {
        each["device"]: each["version"] for each in json.loads(mixed.told("devices", "--quick", "--json"))
    }
    assert versions == {"older": f"{MAJOR}.0", "newer": f"{MAJOR}.1"}
    assert "refused a message" not in mixed.log("older") + mixed.log("newer") + mixed.log("decision")


def test_roles_of_the_next_minor_version_serve_devices_and_apps_of_this(
    mixed: MixedMesh, face: Model, photograph: Path
) -> None:
    mixed.later = {"decision": "minor", "gateway": "minor"}
    result_topic = mixed.topics.build("result", model="face-short")
    with mixed.listening(f"{mixed.topics.root}#") as listener:
        ready(mixed, face, {"one": None, "two": None})

        with client_of(mixed) as client:
            expected = client.infer("face-short", photograph)
        mixed.publish(mixed.topics.build("submit", model="face-short"), photograph.read_bytes())
        listener.wait(lambda got: any(topic == result_topic for topic, _ in got), 20)

    result = json.loads(next(payload for topic, payload in listener.messages if topic == result_topic))
    assert result["outputs"] == expected.outputs and MARK in result
    assert kinds_of(mixed, listener.messages) >= {"assignment", "decision", "gateway", "work", "result"}
    assert "refused a message" not in mixed.log("one") + mixed.log("two")
    assert "planned on" in mixed.told("doctor")


def test_a_device_of_the_next_major_version_is_refused_by_name_and_the_mesh_goes_on(
    mixed: MixedMesh, face: Model, photograph: Path
) -> None:
    mixed.later = {"stranger": "major"}
    state = f"edgemesh/v{MAJOR + 1}/{mixed.name}/device/stranger/state"
    ready(mixed, face, {"one": None})
    with client_of(mixed) as client, mixed.listening(state) as listener:
        before = client.infer("face-short", photograph)
        mixed.start_device("stranger")
        listener.wait(lambda got: (state, b"online") in got, 20)

        shown = {each["device"]: each for each in json.loads(mixed.told("devices", "--quick", "--json"))}
        advice = mixed.told("doctor")
        after = client.infer("face-short", photograph)

    refusal = f"stranger speaks version {MAJOR + 1} of the wire contract and this mesh version {MAJOR}"
    assert mixed.log("decision").count(refusal) == 1
    assert (shown["stranger"]["state"], shown["stranger"]["version"]) == ("refused", str(MAJOR + 1))
    assert shown["one"]["state"] == "online"
    assert refusal in " ".join(advice.split())
    assert f"refused: version {MAJOR + 1}" in mixed.told("devices", "--quick")
    assert after.outputs == before.outputs and [hop.device for hop in after.route] == ["one"]


def test_a_frame_of_the_next_major_version_is_answered_with_both_versions(
    mixed: MixedMesh, face: Model
) -> None:
    ready(mixed, face, {"one": None})
    route = (Hop("one", face[1].unit_count),)
    header = Activation("j-1", "stranger", "face-short", face[1].digest, 0, route, 0, 5.0, "stranger")
    frame = bytearray(encode_activation(header, ()))
    frame[2] = MAJOR + 1  # the preamble's byte of the version

    with mixed.listening(mixed.topics.build("reply", requester="stranger")) as listener:
        mixed.publish(mixed.topics.build("work", device="one"), bytes(frame))
        listener.wait(lambda got: len(got) == 1, 10)

    reply, _ = decode_reply(listener.messages[0][1])
    assert (reply.code, reply.job) == ("wrong-version", "j-1")
    assert f"version {MAJOR + 1}" in (reply.text or "") and f"speaks {MAJOR}" in (reply.text or "")
