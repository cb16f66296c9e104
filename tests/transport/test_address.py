"""Broker URLs, as people write them."""

from __future__ import annotations

import pytest

from edgemesh.errors import SettingsError
from edgemesh.transport.address import BrokerAddress, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("broker.local", BrokerAddress("broker.local", 1883)),
        ("mqtt://u:12%23a%2Fb@host:1884", BrokerAddress("host", 1884, username="u", password="12#a/b")),
        ("mqtt://u:p@ss@host", BrokerAddress("host", 1883, username="u", password="p@ss")),
        ("wss://u:p@host/path", BrokerAddress("host", 443, True, "/path", "u", "p")),
        ("mqtt://[::1]:1885", BrokerAddress("::1", 1885)),
        ("mqtt://[fe80::1:2:3%eth0]", BrokerAddress("fe80::1:2:3%eth0", 1883)),
        ("my_pi.local.", BrokerAddress("my_pi.local.", 1883)),
        ("mqtt://küche.local", BrokerAddress("küche.local", 1883)),
    ],
)
def test_what_is_written_is_where_it_connects(url: str, address: BrokerAddress) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize("scheme", ["mqtt://", "mqtts://", "wss://", ""])
@pytest.mark.parametrize(
    "password", ["12#ab", "12/ab", "12?ab", "ab/12", "99999/ab", "#ab", "1[2ab", "12://ab"]
)
def test_a_password_that_is_not_encoded_is_never_taken_for_a_port_nor_shown(
    scheme: str, password: str
) -> None:
    """Found by a reader: with ``12#ab`` it connected to the host ``u``, port 12."""
    for user in ("u", "u@mail"):
        with pytest.raises(SettingsError, match="in a password as %2F, %3F and %23") as refused:
            parse_address(f"{scheme}{user}:{password}@host:1883")

        assert "ab" not in str(refused.value).partition(" is no URL")[0]
        assert "12" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mqtt://u:p@host:abc", "Port could not be cast to integer value as 'abc'"),
        ("mqtt://host:99999", "out of range"),
        ("http://host", "unknown scheme 'http'"),
        ("mqtt://:1883", "names no host"),
        ("mqtt://pi..local", r"broker 'mqtt://pi..local' has no host name \(.*\): see its dots"),
        ("192.168.1..5", "has no host name"),
        (f"mqtt://{'x' * 64}.local", "has no host name"),
    ],
)
def test_what_is_no_address_says_what_is_wrong(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        parse_address(url)
