"""The files of brokers/ work as they are, with their paths and ports replaced."""

from __future__ import annotations

import configparser
import queue
import re
import shlex
import subprocess
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trustme

import edgemesh
from edgemesh.transport.child_process import ChildBroker
from edgemesh.transport.local_broker import (
    mosquitto_environment,
    shipped_configuration,
    start_broker,
    with_settings,
)
from tests.brokers.peer import WAIT, Peer
from tests.brokers.servers import Mosquitto, free_port, required_program

FOLDER = Path(edgemesh.__file__).parents[1] / "brokers"
WITH_LISTENER = ["mosquitto.conf", "mosquitto-tls.conf"]
ABOUT_TLS = ("cafile", "certfile", "keyfile", "tls_version", "password_file")
_LARGE_MESH = 2500
"""Retained messages of 5 KB: more than 1,000 and the 4 MB that a socket takes."""
DEBIANS_OWN = """\
pid_file /run/mosquitto/mosquitto.pid
persistence true
persistence_location /var/lib/mosquitto/
log_dest file /var/log/mosquitto/mosquitto.log
include_dir /etc/mosquitto/conf.d
"""
"""The settings of /etc/mosquitto/mosquitto.conf in Debian 12's package."""


def settings_of(name: str) -> dict[str, list[str]]:
    """Values of each key of a file."""
    found: dict[str, list[str]] = {}
    for line in shipped_configuration(name).splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
    return found


def test_these_tests_know_every_shipped_file() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.conf")) == sorted(
        [*WITH_LISTENER, "mosquitto-bridge.conf", "mosquitto-memory.conf"]
    )


def test_the_service_file_says_what_we_start_mosquitto_with() -> None:
    """Measured: without it a message of 443 KB takes four times as long through Mosquitto."""
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(shipped_configuration("mosquitto-memory.conf"))
    name, _, value = parser["Service"]["Environment"].partition("=")

    assert (name, int(value)) == ("MALLOC_TOP_PAD_", 16 << 20)
    assert mosquitto_environment({"PATH": "/bin"}) == {"PATH": "/bin", name: value}


def test_a_mosquitto_that_we_start_has_its_memory_in_reserve() -> None:
    required_program("mosquitto", "mosquitto")
    with start_broker(free_port()) as running:
        assert isinstance(running._child, ChildBroker)
        told = Path(f"/proc/{running._child.pid}/environ").read_bytes()
    assert b"MALLOC_TOP_PAD_=16777216" in told.split(b"\0")


@pytest.mark.parametrize("name", WITH_LISTENER)
def test_each_broker_file_sets_tcp_nodelay(name: str) -> None:
    """Measured: without it a QoS 1 request and its reply take 44 ms instead of 0.6."""
    assert settings_of(name)["set_tcp_nodelay"] == ["true"]


@pytest.mark.parametrize("name", WITH_LISTENER)
def test_each_broker_file_keeps_what_it_acknowledged(name: str) -> None:
    settings = settings_of(name)

    assert settings["persistence"] == ["true"]
    assert 0 < int(settings["autosave_interval"][0]) <= 60


def test_the_file_for_a_fleet_lets_nobody_in_without_a_password() -> None:
    settings = settings_of("mosquitto-tls.conf")

    assert settings["allow_anonymous"] == ["false"]
    assert settings["listener"] == ["8883"]


def test_a_client_that_does_not_read_for_a_while_gets_all_of_a_large_mesh(tmp_path: Path) -> None:
    """With Mosquitto's default it gets 1,000 and what fits into buffers of the kernel (measured)."""
    reads = threading.Event()
    got: queue.SimpleQueue[str] = queue.SimpleQueue()

    def slowly(client: object, userdata: object, message: paho.MQTTMessage) -> None:
        reads.wait(WAIT)
        got.put(message.topic)

    with (
        Mosquitto.shipped(tmp_path) as broker,
        Peer(broker.address) as speaks,
        Peer(broker.address, receive_maximum=65_535) as listens,
    ):
        listens.client.on_message = slowly
        for number in range(_LARGE_MESH):
            speaks.client.publish(f"device/{number}", bytes(5000), 1, True)
        speaks.publish("end")
        listens.subscribe("device/+")
        speaks.publish("end")  # the broker has seen the subscription, and sent what it sends
        reads.set()

        assert len({got.get(timeout=WAIT) for _ in range(_LARGE_MESH)}) == _LARGE_MESH


def test_both_broker_files_agree_on_all_but_who_may_connect() -> None:
    plain, tls = (settings_of(name) for name in WITH_LISTENER)
    about_access = {"listener", "allow_anonymous", *ABOUT_TLS}

    assert {k: v for k, v in plain.items() if k not in about_access} == {
        k: v for k, v in tls.items() if k not in about_access
    }


def test_the_plain_file_starts_mosquitto_with_its_websocket_lines_too(tmp_path: Path) -> None:
    server = Mosquitto.shipped(tmp_path)
    for line in ("listener 9001", "protocol websockets", "allow_anonymous true"):
        assert f"\n#{line}\n" in server.configuration
        server.configuration = server.configuration.replace(
            f"\n#{line}\n", f"\n{line.replace('9001', f'{free_port()} 127.0.0.1')}\n"
        )

    with server, Peer(server.address) as peer:
        peer.publish("t", b"x")


def test_the_tls_file_starts_mosquitto(tmp_path: Path) -> None:
    """That clients can use it is in tests/transport/test_secure.py."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    issued = ca.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    (tmp_path / "passwords").touch()
    plain = free_port()
    configuration = with_settings(
        shipped_configuration("mosquitto-tls.conf"),
        {
            "listener": f"{free_port()} 127.0.0.1",
            "cafile": f"{tmp_path}/ca.crt",
            "certfile": f"{tmp_path}/server.crt",
            "keyfile": f"{tmp_path}/server.key",
            "password_file": f"{tmp_path}/passwords",
            "persistence_location": f"{tmp_path}/",
            "user": "root",
        },
    )

    with Mosquitto(tmp_path, configuration + f"listener {plain} 127.0.0.1\n", plain) as server:
        assert server.child is not None


@pytest.mark.parametrize("name", WITH_LISTENER)
def test_a_file_works_beside_debians_own_as_the_readme_installs_it(name: str, tmp_path: Path) -> None:
    """Mosquitto refuses a second ``persistence_location``, and Debian's file has one."""
    required_program("mosquitto", "mosquitto")
    (line,) = re.findall(
        r"^sed .* \| sudo tee /etc/mosquitto/conf\.d/", (FOLDER / "README.md").read_text(), re.M
    )
    edit = shlex.split(line)[1]
    shipped = subprocess.run(["sed", edit, FOLDER / name], check=True, capture_output=True, text=True).stdout
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "edgemesh.conf").write_text(
        with_settings(
            shipped,
            {"listener": f"{free_port()} 127.0.0.1", **dict.fromkeys(ABOUT_TLS), "allow_anonymous": "true"},
        )
    )
    port = free_port()
    debian = with_settings(
        DEBIANS_OWN,
        {
            "pid_file": f"{tmp_path}/pid",
            "persistence_location": f"{tmp_path}/",
            "log_dest": f"file {tmp_path}/log",
            "include_dir": f"{tmp_path}/conf.d",
            "user": "root",
        },
    )

    with Mosquitto(tmp_path, f"{debian}listener {port} 127.0.0.1\n", port) as server:
        assert server.child is not None


def test_home_assistants_add_on_gets_the_settings_of_the_shipped_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"/share/mosquitto/edgemesh\.conf`:\n\n```\n(.*?)```", readme, re.S)
    shipped = settings_of("mosquitto.conf")

    told = dict(line.split(" ", 1) for line in block.splitlines())
    assert "max_packet_size" in told
    assert told == {key: shipped[key][0] for key in told}


def test_the_key_and_the_passwords_are_given_to_mosquitto_before_it_starts_with_tls() -> None:
    """It reads them as its own user, also where root starts it."""
    text = shipped_configuration("mosquitto-tls.conf")
    settings = settings_of("mosquitto-tls.conf")
    (given,) = re.findall(r"^#   chown mosquitto: (.*)$", text, re.M)
    (closed,) = re.findall(r"^#   chmod 600 (.*)$", text, re.M)

    assert given == closed == f"{settings['password_file'][0]} {settings['keyfile'][0]}"


def test_passwords_are_made_as_the_tls_file_says(tmp_path: Path) -> None:
    program = required_program("mosquitto_passwd", "mosquitto")
    told = re.findall(
        r"^#   mosquitto_passwd (.*?)/etc/\S+ (\S+)", shipped_configuration("mosquitto-tls.conf"), re.M
    )
    for options, name in told:
        command = [program, *options.split(), tmp_path / "passwords", name]
        subprocess.run(command, input=b"secret\nsecret\n", check=True, capture_output=True)

    lines = (tmp_path / "passwords").read_text().splitlines()
    assert [line[: len(name) + 4] for line, (_, name) in zip(lines, told)] == ["pi-4b:$7$", "laptop:$7$"]


def bridged(folder: Path, central_port: int) -> Mosquitto:
    """A site's broker with the shipped bridge to a central one without TLS."""
    site = Mosquitto.shipped(folder)
    site.configuration += with_settings(
        shipped_configuration("mosquitto-bridge.conf"),
        {
            "address": f"127.0.0.1:{central_port}",
            "bridge_cafile": None,
            "bridge_tls_version": None,
            "remote_username": None,
            "remote_password": None,
            "restart_timeout": "1",
        },
    )
    return site


def test_the_bridge_carries_jobs_in_and_results_out_once_under_the_sites_name(tmp_path: Path) -> None:
    (tmp_path / "central").mkdir()
    (tmp_path / "site").mkdir()
    with (
        Mosquitto.shipped(tmp_path / "central") as central,
        bridged(tmp_path / "site", central.port) as site,
        Peer(central.address) as app,
        Peer(site.address) as gateway,
    ):
        gateway.subscribe("edgemesh/v1/home/submit/#")
        app.subscribe("edgemesh/v1/site-a/#")
        app.subscribe("site-a/answers/#")
        _wait_for_bridge(app, gateway)

        app.publish(
            "edgemesh/v1/site-a/submit/face",
            b"photo",
            ContentType="image/jpeg",
            ResponseTopic="site-a/answers/7",
        )
        job = gateway.next()
        properties: object = job.properties
        assert (job.topic, job.payload) == ("edgemesh/v1/home/submit/face", b"photo")
        assert properties.ContentType == "image/jpeg"  # type: ignore[attr-defined]
        assert properties.ResponseTopic == "site-a/answers/7"  # type: ignore[attr-defined]

        gateway.publish("edgemesh/v1/home/result/face", b"{}")
        gateway.publish("site-a/answers/7", b"{}")
        gateway.publish("edgemesh/v1/home/device/pi/state", b"online")
        arrived = [(m.topic, m.payload) for m in (app.next() for _ in range(4))]
        assert sorted(arrived) == [
            ("edgemesh/v1/site-a/device/pi/state", b"online"),
            ("edgemesh/v1/site-a/result/face", b"{}"),
            ("edgemesh/v1/site-a/submit/face", b"photo"),
            ("site-a/answers/7", b"{}"),
        ]
        # Nothing came round: a marker behind it is the next on either side.
        app.publish("edgemesh/v1/site-a/submit/end", b"end")
        assert gateway.until(b"end") == []
        assert app.until(b"end") == []


def _wait_for_bridge(app: Peer, gateway: Peer) -> None:
    """Until a message passes; those sent before the bridge is up are lost."""
    for attempt in range(200):
        app.publish("edgemesh/v1/site-a/submit/ready", str(attempt).encode())
        app.next()
        try:
            passed = gateway.messages.get(timeout=0.1)
        except Exception:
            continue
        if passed.payload == str(attempt).encode():
            return
    raise AssertionError("the bridge did not come up")
