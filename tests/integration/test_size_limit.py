"""A broker with a limit of size, as hosted ones have it: what is too large ends, and keeps nobody away."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from edgemesh.errors import InputError
from edgemesh.node.model_import import ImportOptions, import_model
from edgemesh.protocol.manifest import Manifest
from tests.brokers.servers import Mosquitto
from tests.integration.mesh import RunningMesh
from tests.integration.test_mesh import client_of, ready
from tests.tflite_models import chain

TAKES_BYTES = 150_000
"""Less than the 196,608 of the face model's input, and more than the photograph that becomes one."""


@pytest.mark.parametrize("setting", ["max_packet_size", "message_size_limit"])
def test_a_job_larger_than_the_broker_takes_ends_and_others_are_served(
    setting: str, tmp_path: Path, face: tuple[Path, Manifest], photograph: Path
) -> None:
    content = tmp_path / "small.tflite"
    content.write_bytes(chain("RELU", shape=(1, 4)).content())
    small = import_model(str(content), "small", tmp_path, ImportOptions())
    values = np.array([[-1, 2, -3, 4]], np.float32)
    array = io.BytesIO()
    np.save(array, values)

    with Mosquitto.shipped(tmp_path, **{setting: str(TAKES_BYTES)}) as broker:
        mesh = RunningMesh(broker.port, tmp_path / "home")
        try:
            mesh.give("one", *face)
            mesh.publish_manifest(face[1])
            ready(mesh, small, {"one": None})
            with client_of(mesh) as client, mesh.listening(mesh.topics.filter("result")) as results:
                with pytest.raises(InputError, match=r"its input has 19.,... bytes.* raise max_packet_size"):
                    client.infer("face-short", photograph)
                assert client.infer("small", values).tensors[0].tolist() == [[0, 2, 0, 4]]

                for number, (model, payload) in enumerate(
                    [("face-short", photograph.read_bytes()), ("small", array.getvalue())], start=1
                ):
                    mesh.publish(mesh.topics.build("submit", model=model), payload)
                    results.wait(lambda got, number=number: len(got) == number, 20)
            told = [json.loads(payload) for _, payload in results.messages]
            assert told[0]["code"] == "bad-input" and "raise max_packet_size" in told[0]["error"]
            assert told[1]["outputs"]["tensors"][0]["values"] == [0, 2, 0, 4]
            assert "lost the broker" not in mesh.log("gateway")
            assert mesh.log("gateway").count("more than the broker takes") == 1
        finally:
            mesh.stop()
