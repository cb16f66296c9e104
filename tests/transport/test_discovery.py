"""mDNS on this machine's loopback only."""

from __future__ import annotations

import itertools
import logging
import queue
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from edgemesh.errors import MissingExtraError
from edgemesh.transport import discovery as module
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.discovery import announce, find_broker

LOOPBACK = ["127.0.0.1"]


@contextmanager
def registered(service: str, port: int) -> Iterator[None]:
    """A broker of somebody else."""
    responder = Zeroconf(interfaces=LOOPBACK, ip_version=IPVersion.V4Only)
    info = ServiceInfo(
        service,
        f"test-broker.{service}",
        port,
        addresses=[socket.inet_aton("127.0.0.1")],
        server="broker.local.",
    )
    responder.register_service(info)
    try:
        yield
    finally:
        responder.close()


def test_a_broker_that_announces_itself_is_found() -> None:
    with registered("_mqtt._tcp.local.", 21883):
        assert find_broker(5.0, LOOPBACK) == BrokerAddress("127.0.0.1", 21883)


def test_one_with_tls_is_found_under_its_name_as_its_certificate_has_it() -> None:
    with registered("_secure-mqtt._tcp.local.", 28883):
        assert find_broker(5.0, LOOPBACK) == BrokerAddress("broker.local", 28883, tls=True)


def test_our_own_announcement_is_found_until_it_is_withdrawn() -> None:
    with announce(21884, "edgemesh-test", LOOPBACK):
        assert find_broker(5.0, LOOPBACK) == BrokerAddress("127.0.0.1", 21884)

    assert find_broker(0.3, LOOPBACK) is None


class Responder:
    """Notes what is announced, and what no longer is."""

    def __init__(self, said: queue.Queue[list[str]]) -> None:
        self._said = said

    def register_service(self, info: ServiceInfo, allow_name_change: bool) -> None:
        self._said.put(info.parsed_addresses())

    def unregister_all_services(self) -> None:
        self._said.put([])

    def close(self) -> None:
        pass


def test_an_announcement_follows_the_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a reader: a broker that began before the network was announced as 127.0.0.1 for ever."""
    said: queue.Queue[list[str]] = queue.Queue()
    own = [None, None, "10.9.0.1", "10.9.0.1", "10.9.0.7", None, "10.9.0.8"]
    addresses = itertools.chain(own, itertools.repeat("10.9.0.8"))
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_ABSENT_SECONDS", 0.0)
    monkeypatch.setattr(module, "_own_address", lambda: next(addresses))
    monkeypatch.setattr(module, "_open", lambda zeroconf, interfaces: Responder(said))

    with announce(21886, "edgemesh-test"):
        heard = [said.get(timeout=20) for _ in range(3)]
    while not said.empty():
        heard.append(said.get())

    assert heard == [["10.9.0.1"], [], ["10.9.0.8"], []]


def test_a_machine_that_is_short_of_something_announces_its_broker_once_it_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a reader: the thread ended, and nobody found the broker until it began again."""
    said: queue.Queue[list[str]] = queue.Queue()
    looks = iter([OSError(24, "Too many open files"), "10.9.0.1"])
    opened = iter([RuntimeError("can't start new thread"), Responder(said)])

    def next_of(outcomes: Iterator[Any], last: Any) -> Any:
        outcome = next(outcomes, last)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "_own_address", lambda: next_of(looks, "10.9.0.1"))
    monkeypatch.setattr(module, "_open", lambda zeroconf, interfaces: next_of(opened, None))

    with caplog.at_level(logging.INFO, "edgemesh"), announce(21887, "edgemesh-test"):
        assert said.get(timeout=20) == ["10.9.0.1"]
    assert [record.getMessage() for record in caplog.records] == [
        "the broker is not announced on the network: [Errno 24] Too many open files",
        "the broker is not announced on the network: can't start new thread",
    ]


def test_a_machine_without_a_thread_to_give_cannot_look_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(OSError, match="can't start new thread"):
        find_broker(0.1, LOOPBACK)


def test_the_addresses_of_this_machine_are_read() -> None:
    assert "127.0.0.1" in module._all_addresses()


def test_an_address_without_a_route_to_the_world_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network on its own has no default route."""
    there = ["127.0.0.1", "10.9.0.1"]
    monkeypatch.setattr(module, "_all_addresses", lambda: iter(there))

    class Unreachable(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(module.socket, "socket", Unreachable)

    assert module._own_address() == "10.9.0.1"
    there.pop()
    assert module._own_address() is None


def test_without_zeroconf_looking_names_the_extra_and_announcing_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)

    with pytest.raises(MissingExtraError, match=r"edgemesh\[mdns\]"):
        find_broker(0.1)
    with caplog.at_level(logging.INFO, "edgemesh"), announce(21885, "nobody"):
        pass

    assert "not announced" in caplog.text


class Answering:
    """Has heard one announcement."""

    def __init__(self, **said: object) -> None:
        self._said = said

    def get_service_info(self, service_type: str, name: str, timeout: int) -> ServiceInfo:
        given = {"port": 8883, "server": "broker.local.", **self._said}
        return ServiceInfo(service_type, name, **given)  # type: ignore[arg-type]


SECURE = "_secure-mqtt._tcp.local."


@pytest.mark.parametrize(
    "said",
    [
        {"server": "."},
        {"server": "a..local."},
        {"server": "a" * 64 + ".local."},
        {"server": "\x1b[2J.local."},
        {"server": "me@elsewhere."},
        {"port": 0},
    ],
    ids=str,
)
def test_a_host_that_nobody_could_look_up_is_not_found(said: dict[str, object]) -> None:
    """Found by a reader: whoever connects would end with an error of the name's encoding."""
    assert module.announced(Answering(), SECURE, f"broker.{SECURE}", 0.1) is not None
    assert module.announced(Answering(**said), SECURE, f"broker.{SECURE}", 0.1) is None


def test_a_name_that_no_service_has_does_not_end_the_search() -> None:
    """Found by the fuzzer: zeroconf raises in the thread that looks, which then looked no more."""
    assert module.announced(Answering(), SECURE, "anything", 0.1) is None
