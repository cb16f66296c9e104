"""A smart plug on the same broker, from the command line to the resources of a real device process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.meter import MeterSetting
from edgemesh.transport.local_broker import start_broker
from tests.integration.conftest import free_port
from tests.integration.mesh import RunningMesh

SENSOR, ASK, ANSWER, LWT = "tele/desk/SENSOR", "cmnd/desk/Status", "stat/desk/STATUS10", "tele/desk/LWT"


class Plug:
    """A Tasmota plug by its documented topics; it speaks MQTT 3.1.1, as they do."""

    def __init__(self, port: int) -> None:
        self.watts = 4.5
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self.client.on_message = self._asked
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.publish(LWT, b"Online", retain=True)
        self.client.subscribe(ASK)

    def report(self, topic: str = SENSOR) -> None:
        told: dict[str, Any] = {"Time": "x", "ENERGY": {"Total": 3.185, "Power": self.watts, "Voltage": 230}}
        payload = {"StatusSNS": told} if topic == ANSWER else told
        self.client.publish(topic, json.dumps(payload).encode())

    def _asked(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        if message.payload == b"10":
            self.report(ANSWER)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def plug(broker_port: int) -> Iterator[Plug]:
    plug = Plug(broker_port)
    yield plug
    plug.close()


def command(mesh: RunningMesh, *arguments: str, status: int = 0) -> str:
    """What ``edgemesh ARGUMENTS`` prints, on the channel of its outcome."""
    done = subprocess.run(
        [sys.executable, "-m", "edgemesh.cli.main", *arguments],
        env=mesh.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def device_power(mesh: RunningMesh, *arguments: str) -> Any:
    return json.loads(command(mesh, "device", "power", "one", *arguments, "--json"))


def test_a_plug_named_on_the_command_line_becomes_the_source_of_a_devices_watts(
    mesh: RunningMesh, plug: Plug
) -> None:
    topic = mesh.topics.build("resources", device="one")
    with mesh.listening(mesh.topics.filter("resources")) as listener:
        # Started before the device is there: the setting is retained.
        mesh.start_device("one")
        listener.wait(lambda got: any(t == topic for t, _ in got), 30)
        before = device_power(mesh)

        named = device_power(mesh, "--plug", SENSOR)
        plug.watts = 6.25
        plug.report()
        listener.wait(lambda got: b'"watts":6.25' in got[-1][1], 15)
        listed = json.loads(command(mesh, "devices", "--quick", "--json"))
        text = command(mesh, "device", "power", "one")
        plug.watts = 10_000.0
        plug.report()
        listener.wait(lambda got: b'"problem":' in got[-1][1], 15)
        plug.client.publish(LWT, b"Offline", retain=True)
        listener.wait(lambda got: b'"state":"offline"' in got[-1][1], 15)
        after = device_power(mesh, "--none")

    assert "plug" not in before and before["online"]
    # This machine may have a meter of its own, which goes before any plug; it is asked for a report at once.
    assert named["plug"]["state"] == "reporting" and named["plug"]["watts"] == 4.5
    assert named["plug"]["kind"] == "tasmota" and named["plug"]["energy"] == pytest.approx(3.185 * 3.6e6)
    if "watts_source" not in before or before["watts_source"].startswith("board"):
        assert (named["watts"], named["watts_source"]) == (4.5, "plug tasmota")
    assert [device["watts"] for device in listed] == [6.25]
    assert "plug tele/desk/SENSOR (tasmota, reporting): 6.2 W, 3.185 kWh counted" in text
    assert "10000 W" in mesh.log("one")
    assert "plug" not in after and "setting" not in after


def test_a_setting_waits_for_a_device_that_is_away_and_survives_its_restart(
    mesh: RunningMesh, plug: Plug
) -> None:
    topic = mesh.topics.build("resources", device="one")
    with mesh.listening(mesh.topics.filter("resources"), mesh.topics.filter("state")) as listener:
        mesh.start_device("one")
        listener.wait(lambda got: any(t == topic for t, _ in got), 30)
        mesh.processes["one"].terminate()
        assert mesh.processes["one"].wait(10) == 0
        away = device_power(mesh, "--plug", SENSOR)
        mesh.start_device("one")
        listener.wait(lambda got: b'"state":"reporting"' in got[-1][1], 30)
        mesh.processes["one"].terminate()
        assert mesh.processes["one"].wait(10) == 0
    command(mesh, "device", "forget", "one")
    with mesh.listening(mesh.topics.filter("meter"), mesh.topics.filter("state")) as listener:
        mesh.publish("x", b"")  # whatever is retained has come before this is acknowledged
        assert listener.messages == []

    assert not away["online"] and away["setting"] == {"topic": SENSOR, "kind": "auto"}


def test_a_broker_that_was_stopped_and_lost_its_store_hears_of_the_plug_again(tmp_path: Path) -> None:
    """Its last words are the Wills of those connected: what a device answers must not pass for its memory."""
    port = free_port()
    mesh = RunningMesh(port, tmp_path)
    topic, payload = mesh.topics.build("meter", device="one"), encode_json(MeterSetting(SENSOR))
    try:
        with start_broker(port) as running, mesh.listening(mesh.topics.filter("resources")) as listener:
            assert running.kind == "mosquitto"
            mesh.start_device("one")
            listener.wait(bool, 30)
            mesh.publish(topic, payload, retain=True)
            listener.wait(lambda got: b'"plug":' in got[-1][1], 15)
        with start_broker(port), mesh.listening(topic) as listener:
            listener.wait(lambda got: got == [(topic, payload)], 30)
    finally:
        mesh.stop()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ghost",), ("no device ghost", "edgemesh devices")),
        (("ghost", "--plug", "tele/+/SENSOR"), ("no topic of a plug", "tele/desk/SENSOR")),
        (("ghost", "--plug", "edgemesh/v1/home/submit/face"), ("no topic of a plug",)),
        (("ghost", "--plug", SENSOR, "--none"), ("one of the two",)),
        (("ghost", "--kind", "shelly"), ("--plug TOPIC",)),
    ],
)
def test_what_cannot_be_set_is_one_sentence(
    mesh: RunningMesh, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    said = command(mesh, "device", "power", *arguments, status=2)

    assert len(said.splitlines()) == 1
    assert all(word in said for word in words)
