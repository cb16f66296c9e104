"""Devices of another major version: named once, and forgotten when they leave."""

from __future__ import annotations

import pytest

from edgemesh.protocol.topics import MAJOR, Topics
from edgemesh.roles.actions import Log, Subscribe
from edgemesh.roles.events import ForeignMessageReceived
from edgemesh.roles.other_versions import OtherVersions, refusal

STATE = f"edgemesh/v{MAJOR + 1}/home/device/pi/state"


@pytest.fixture
def others() -> OtherVersions:
    made = OtherVersions(Topics("home"))
    made.subscriptions()
    return made


def test_listens_to_the_states_of_both_neighbouring_versions() -> None:
    assert OtherVersions(Topics("home")).subscriptions() == [
        Subscribe(f"edgemesh/v{major}/home/device/+/state", 1) for major in (MAJOR - 1, MAJOR + 1)
    ]


def test_a_device_is_named_with_both_versions_once(others: OtherVersions) -> None:
    online = ForeignMessageReceived(STATE, b"online", retained=True)

    assert others.heard(online) == [Log("warning", refusal("pi", MAJOR + 1), "pi")]
    assert others.heard(online) == []

    assert others.online == {"pi": MAJOR + 1}
    assert f"version {MAJOR + 1} " in refusal("pi", MAJOR + 1) and f"version {MAJOR}:" in refusal(
        "pi", MAJOR + 1
    )


@pytest.mark.parametrize("gone", [b"offline", b"stopped", b""])
def test_a_device_that_left_is_named_again_when_it_comes_back(others: OtherVersions, gone: bytes) -> None:
    others.heard(ForeignMessageReceived(STATE, b"online"))

    others.heard(ForeignMessageReceived(STATE, gone))

    assert others.online == {}
    assert others.heard(ForeignMessageReceived(STATE, b"online"))


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (STATE, b"\xff\x00 garbage"),
        (STATE.replace("/state", "/work"), b"online"),
        (STATE.replace("/home/", "/other/"), b"online"),
        ("zigbee2mqtt/desk", b"online"),
        (f"edgemesh/v{MAJOR + 1}/home/gateway/0/state", b"online"),
    ],
)
def test_nothing_else_is_taken_for_a_device(others: OtherVersions, topic: str, payload: bytes) -> None:
    assert others.heard(ForeignMessageReceived(topic, payload)) == []
    assert others.online == {}


def test_a_flood_of_made_up_devices_is_bounded(others: OtherVersions) -> None:
    for number in range(1000):
        others.heard(ForeignMessageReceived(STATE.replace("/pi/", f"/pi-{number}/"), b"online"))

    assert len(others.online) == 256
