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


def test_a_device_is_named_with_both_versions_once_a_minute(others: OtherVersions) -> None:
    online = ForeignMessageReceived(STATE, b"online", retained=True)
    text = refusal("pi", MAJOR + 1)

    assert others.heard(online, 1.0) == [Log("warning", text, "pi")]
    assert others.heard(online, 60.0) == []
    assert others.heard(online, 61.0) != []
    assert others.online == {("pi", MAJOR + 1)}

    assert f"version {MAJOR + 1} " in text and f"version {MAJOR}:" in text


@pytest.mark.parametrize("gone", [b"offline", b"stopped", b""])
def test_a_device_that_comes_and_goes_fills_no_log(others: OtherVersions, gone: bytes) -> None:
    lines = []
    for second in range(60):
        lines += others.heard(ForeignMessageReceived(STATE, b"online"), float(second))
        lines += others.heard(ForeignMessageReceived(STATE, gone), second + 0.5)

    assert len(lines) == 1
    assert others.online == set()


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
    assert others.heard(ForeignMessageReceived(topic, payload), 1.0) == []
    assert others.online == set()


def test_a_flood_of_made_up_devices_is_bounded(others: OtherVersions) -> None:
    for number in range(1000):
        others.heard(ForeignMessageReceived(STATE.replace("/pi/", f"/pi-{number}/"), b"online"), 1.0)

    assert len(others.online) == len(others._named) == 256
