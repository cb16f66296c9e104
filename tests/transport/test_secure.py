"""TLS, passwords and WebSocket, with the shipped TLS file."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme

from edgemesh.errors import BrokerError
from edgemesh.node.client import Client
from edgemesh.transport import broker_search
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.broker_search import BrokerSearch
from edgemesh.transport.local_broker import shipped_configuration, with_settings
from tests.brokers.peer import Peer
from tests.brokers.servers import Mosquitto, free_port, required_program
from tests.transport.agent import Agent, run


@dataclass
class SecureBroker:
    """A Mosquitto with the shipped TLS file and one account."""

    address: BrokerAddress
    other_ca: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    folder = tmp_path_factory.mktemp("secure")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.crt")
    trustme.CA().cert_pem.write_to_path(folder / "other.crt")
    server = ca.issue_cert("localhost")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.crt")
    passwords = folder / "passwords"
    program = required_program("mosquitto_passwd", "mosquitto")
    subprocess.run([program, "-b", "-c", passwords, "pi-4b", "right"], check=True, capture_output=True)
    port, plain = free_port(), free_port()
    configuration = with_settings(
        shipped_configuration("mosquitto-tls.conf"),
        {
            "listener": f"{port} 127.0.0.1",
            "cafile": str(folder / "ca.crt"),
            "certfile": str(folder / "server.crt"),
            "keyfile": str(folder / "server.key"),
            "password_file": str(passwords),
            "persistence_location": f"{folder}/",
            "user": "root",
        },
    )
    # A second listener, without TLS, tells when the broker is ready.
    configuration += f"listener {plain} 127.0.0.1\n"
    with Mosquitto(folder, configuration, plain):
        address = BrokerAddress("localhost", port, True, None, "pi-4b", "right", str(folder / "ca.crt"))
        yield SecureBroker(address, folder / "other.crt")


def test_tls_with_the_right_authority_and_password_connects(secure: SecureBroker) -> None:
    async def story() -> None:
        async with Agent(secure.address, "secure") as agent:
            await agent.hears("connected")
            await agent.subscribed("secure")
            agent.publish("secure", b"s" * 3_000_000)
            assert bytes((await agent.hears("message")).payload) == b"s" * 3_000_000

    run(story())


def test_a_certificate_of_another_authority_is_refused_with_a_sentence(secure: SecureBroker) -> None:
    async def story() -> None:
        async with Agent(replace(secure.address, ca_file=str(secure.other_ca)), "careful") as agent:
            assert "its certificate is not trusted" in await agent.hears("problem")

    run(story())


def test_a_certificate_for_another_host_is_refused_with_a_sentence(secure: SecureBroker) -> None:
    async def story() -> None:
        async with Agent(replace(secure.address, host="127.0.0.1"), "careful") as agent:
            sentence = await agent.hears("problem")
            assert "its certificate is not trusted" in sentence and "--ca" not in sentence
            assert "name the broker with --broker as its certificate does" in sentence

    run(story())


@pytest.mark.parametrize(
    ("born", "dies", "advice"),
    [(-20, -10, "renew it at the broker"), (10, 20, "set the clock of this machine, which may be behind")],
    ids=["expired", "not yet valid"],
)
def test_a_certificate_out_of_its_time_is_not_mended_with_another_ca_file(
    born: int, dies: int, advice: str, tmp_path: Path
) -> None:
    """Found by a reader: the advice was to name the CA file, which had been named."""
    ca, now = trustme.CA(), datetime.now(timezone.utc)
    ca.cert_pem.write_to_path(tmp_path / "ca.crt")
    server = ca.issue_cert("localhost", not_before=now + timedelta(born), not_after=now + timedelta(dies))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure_cert(context)

    async def story() -> None:
        listening = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            address = BrokerAddress("localhost", port, True, ca_file=str(tmp_path / "ca.crt"))
            async with Agent(address, "careful") as agent:
                sentence = await agent.hears("problem")
                assert advice in sentence and "CA" not in sentence

    run(story())


def test_a_ca_file_that_is_replaced_is_read_again(secure: SecureBroker, tmp_path: Path) -> None:
    """Found by a reader: agents that ran went on with the old one until they were started anew."""
    file, right = tmp_path / "ca.crt", Path(secure.address.ca_file or "").read_bytes()
    file.write_bytes(secure.other_ca.read_bytes())

    async def story() -> None:
        async with Agent(replace(secure.address, ca_file=str(file)), "careful") as agent:
            assert f"{file} does not hold its CA" in await agent.hears("problem")

            file.write_bytes(right[:100])
            assert f"cannot use the CA file {file}" in await agent.hears("problem")

            file.write_bytes(right)
            await agent.hears("connected")

    run(story())


def test_a_wrong_password_is_refused_with_what_to_check(secure: SecureBroker) -> None:
    async def story() -> None:
        async with Agent(replace(secure.address, password="wrong"), "guesses") as agent:
            sentence = await agent.hears("refused")
            assert "Not authorized" in sentence
            assert "check the user name and password" in sentence
            assert "wrong" not in sentence

    run(story())


def test_it_goes_from_a_broker_with_tls_to_one_without_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node does that looks for its broker: plain on its own machine, with TLS elsewhere."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "plain").mkdir()
    plain, with_tls = Mosquitto.shipped(tmp_path / "plain"), Mosquitto.shipped(tmp_path)
    port = free_port()
    with_tls.configuration += (
        f"listener {port} 127.0.0.1\nallow_anonymous true\n"
        f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.pem\n"
    )
    elsewhere = BrokerAddress("localhost", port, tls=True, ca_file=str(tmp_path / "ca.crt"))
    monkeypatch.setattr(broker_search, "find_broker", lambda timeout: elsewhere)
    search = BrokerSearch(plain.address, patience=0.0)

    async def story() -> None:
        async with Agent(search, "wanders") as agent:
            for here, there in ((with_tls, plain), (plain, with_tls), (with_tls, plain)):
                await asyncio.to_thread(there.stop)
                await asyncio.to_thread(here.start)
                await agent.hears("connected")
                await agent.subscribed("where")

    try:
        run(story())
    finally:
        plain.stop()
        with_tls.stop()


def test_plain_mqtt_to_a_tls_port_says_what_to_try(secure: SecureBroker) -> None:
    async def story() -> None:
        async with Agent(replace(secure.address, tls=False), "plain") as agent:
            assert "mqtts://" in await agent.hears("problem")

    run(story())


def test_a_websocket_carries_large_messages_to_the_broker(tmp_path: Path) -> None:
    """The other way Mosquitto 2.0.11 sends 41 KB per second to a WebSocket (measured), so small ones only."""
    server = Mosquitto.shipped(tmp_path)
    port = free_port()
    server.configuration += f"listener {port} 127.0.0.1\nprotocol websockets\n"

    async def story() -> None:
        async with Agent(BrokerAddress("127.0.0.1", port, websocket_path="/mqtt"), "browser") as agent:
            await agent.hears("connected")
            await agent.subscribed("result")
            with Peer(server.address) as listens:
                listens.subscribe("submit")
                agent.publish("submit", b"w" * 3_000_000)
                agent.publish("submit", b"after")
                arrived = [await asyncio.to_thread(listens.next) for _ in range(2)]
                assert [message.payload for message in arrived] == [b"w" * 3_000_000, b"after"]

                listens.publish("result", b"r" * 3000)
                assert bytes((await agent.hears("message")).payload) == b"r" * 3000

    with server:
        run(story())


def test_a_program_trusts_the_ca_file_that_its_environment_names(
    secure: SecureBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"mqtts://pi-4b:right@localhost:{secure.address.port}"
    monkeypatch.setenv("EDGEMESH_CA", secure.address.ca_file or "")
    with Client(url):
        pass
    monkeypatch.setenv("EDGEMESH_CA", str(secure.other_ca))
    with pytest.raises(BrokerError, match="certificate is not trusted"):
        Client(url)
