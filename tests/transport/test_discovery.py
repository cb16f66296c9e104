"""mDNS on this machine's loopback only."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from edgemesh.errors import MissingExtraError
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


def test_without_zeroconf_looking_names_the_extra_and_announcing_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)

    with pytest.raises(MissingExtraError, match=r"edgemesh\[mdns\]"):
        find_broker(0.1)
    with caplog.at_level(logging.INFO, "edgemesh"), announce(21885, "nobody"):
        pass

    assert "not announced" in caplog.text
