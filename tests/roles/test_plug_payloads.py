"""What smart plugs say: recorded shapes of each kind, and garbage on every topic."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.errors import DecodeError
from edgemesh.protocol.meter import PlugKind
from edgemesh.roles.plug_payloads import PLUG_WATTS, PlugReport, plug_kind, plug_report, plug_topics

KILOWATT_HOUR = 3.6e6
TASMOTA: dict[str, Any] = {
    "Time": "2026-03-01T10:00:00",
    "ENERGY": {
        "TotalStartTime": "2025-11-01T08:00:00", "Total": 3.185, "Yesterday": 0.1, "Today": 0.05, "Period": 0,
        "Power": 12, "ApparentPower": 20, "ReactivePower": 16, "Factor": 0.6, "Voltage": 221, "Current": 0.09,
    },
}  # fmt: skip
SHELLY: dict[str, Any] = {
    "id": 0, "source": "init", "output": True, "apower": 5.3, "voltage": 230.4, "freq": 50.0, "current": 0.05,
    "aenergy": {"total": 2265.7, "by_minute": [0.0, 0.0, 0.0], "minute_ts": 1700000000},
    "temperature": {"tC": 41.2, "tF": 106.2},
}  # fmt: skip
ZIGBEE = {"state": "ON", "power": 5, "current": 0.04, "voltage": 230, "energy": 1.23}


def notify(*parts: tuple[str, Any], method: str = "NotifyStatus") -> dict[str, Any]:
    params = {"ts": 1700000000.5, **dict(parts)}
    return {"src": "shellyplus-1", "dst": "desk/events", "method": method, "params": params}


REPORTS: list[tuple[str, str, Any, PlugReport]] = [
    ("tele/desk/SENSOR", "tele/desk/SENSOR", TASMOTA, PlugReport(12.0, 3.185 * KILOWATT_HOUR)),
    (
        "tele/desk/SENSOR", "stat/desk/STATUS10",
        {"StatusSNS": TASMOTA}, PlugReport(12.0, 3.185 * KILOWATT_HOUR),
    ),
    ("tele/desk/SENSOR", "tele/desk/SENSOR", {"Time": "x", "AM2301": {"Temperature": 20.5}}, PlugReport()),
    ("tele/desk/SENSOR", "tele/desk/LWT", b"Offline", PlugReport(online=False)),
    ("desk/status/switch:0", "desk/status/switch:0", SHELLY, PlugReport(5.3, 2265.7 * 3600.0)),
    ("desk/events/rpc", "desk/events/rpc", notify(("switch:0", {"id": 0, "apower": 6.1})), PlugReport(6.1)),
    (
        "desk/events/rpc", "desk/events/rpc",
        notify(("switch:0", SHELLY), ("sys", {"uptime": 5}), method="NotifyFullStatus"),
        PlugReport(5.3, 2265.7 * 3600.0),
    ),
    ("desk/events/rpc", "desk/events/rpc", notify(("sys", {"uptime": 5})), PlugReport()),
    ("desk/events/rpc", "desk/events/rpc", notify(("switch:0", {"output": True})), PlugReport()),
    ("desk/events/rpc", "desk/events/rpc", notify(method="NotifyEvent"), PlugReport()),
    (
        "desk/status/switch:1", "desk/events/rpc",
        notify(("switch:0", {"apower": 99.0}), ("switch:1", {"apower": 7.0})), PlugReport(7.0),
    ),
    ("desk/status/switch:0", "desk/online", b"false", PlugReport(online=False)),
    ("shellies/plug-1/relay/0/power", "shellies/plug-1/relay/0/power", b"8.42", PlugReport(8.42)),
    (
        "shellies/plug-1/relay/0/power", "shellies/plug-1/relay/0/energy",
        b"60000", PlugReport(None, KILOWATT_HOUR),
    ),
    ("shellies/plug-1/relay/0/power", "shellies/plug-1/online", b"true", PlugReport(online=True)),
    ("zigbee2mqtt/desk", "zigbee2mqtt/desk", ZIGBEE, PlugReport(5.0, 1.23 * KILOWATT_HOUR)),
    ("zigbee2mqtt/desk", "zigbee2mqtt/desk", {"linkquality": 80, "power": None}, PlugReport()),
    ("zigbee2mqtt/desk", "zigbee2mqtt/desk/availability", {"state": "offline"}, PlugReport(online=False)),
    ("zigbee2mqtt/desk", "zigbee2mqtt/desk/availability", b"online", PlugReport(online=True)),
    # Topics that tell nothing: the payload does.
    ("own/place", "own/place", b"3.5", PlugReport(3.5)),
    ("own/place", "own/place", ZIGBEE, PlugReport(5.0, 1.23 * KILOWATT_HOUR)),
    ("own/place", "own/place", SHELLY, PlugReport(5.3, 2265.7 * 3600.0)),
    ("own/place", "own/place", TASMOTA, PlugReport(12.0, 3.185 * KILOWATT_HOUR)),
]  # fmt: skip


def raw(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


@pytest.mark.parametrize(("given_topic", "topic", "payload", "report"), REPORTS)
def test_each_kind_of_report_is_understood(
    given_topic: str, topic: str, payload: Any, report: PlugReport
) -> None:
    kind = plug_kind("auto", given_topic)

    assert topic in plug_topics(kind, given_topic).listen
    found = plug_report(kind, given_topic, topic, raw(payload))

    assert (found.watts, found.online) == (report.watts, report.online)
    assert found.joules == (None if report.joules is None else pytest.approx(report.joules))


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("tele/desk/SENSOR", "tasmota"),
        ("home/desk/tele/SENSOR", "tasmota"),
        ("stat/desk/STATUS10", "tasmota"),
        ("shellies/shellyplug-s-1/relay/0/power", "shelly-gen1"),
        ("shellyplusplugs-1/status/switch:0", "shelly"),
        ("home/plug/events/rpc", "shelly"),
        ("zigbee2mqtt/desk plug", "zigbee2mqtt"),
        ("own/place", "auto"),
    ],
)
def test_a_kind_is_known_by_its_topic(topic: str, kind: str) -> None:
    assert plug_kind("auto", topic) == kind
    assert plug_kind("tasmota", topic) == "tasmota"


def test_a_tasmota_is_asked_where_it_listens_wherever_its_prefix_stands() -> None:
    by_default = plug_topics("tasmota", "tele/desk/SENSOR")
    assert by_default.ask == ("cmnd/desk/Status", b"10")
    assert plug_topics("tasmota", "stat/desk/STATUS10") == by_default == plug_topics("tasmota", "desk")
    assert plug_topics("tasmota", "home/desk/tele/SENSOR").ask == ("home/desk/cmnd/Status", b"10")


def test_a_shelly_may_be_named_by_its_prefix_alone() -> None:
    assert plug_topics("shelly", "desk").listen == ("desk/status/switch:0", "desk/events/rpc", "desk/online")


@pytest.mark.parametrize(
    ("topic", "payload", "problem"),
    [
        ("zigbee2mqtt/desk", {"power": 10_000}, "more than any plug"),
        ("zigbee2mqtt/desk", {"power": -5}, "0 or more"),
        ("zigbee2mqtt/desk", b'{"power":NaN}', "NaN"),
        ("zigbee2mqtt/desk", b'{"power":1e999}', "0 or more"),
        ("zigbee2mqtt/desk", {"power": "5 W"}, "must be a number"),
        ("zigbee2mqtt/desk", {"power": True}, "must be a number"),
        ("zigbee2mqtt/desk", [5], "must be a map"),
        ("zigbee2mqtt/desk", {"energy": 10**400}, "0 or more"),
        ("tele/desk/SENSOR", {"ENERGY": {"Power": [5, 6]}}, "2 channels"),
        ("desk/events/rpc", notify(("switch:0", SHELLY), ("switch:1", SHELLY)), "several switches"),
        ("shellies/p/relay/0/power", b"nan", "0 or more"),
        ("shellies/p/relay/0/power", b"overpower", "no number"),
        ("own/place", {"temperature": 20}, "no power"),
        ("own/place", b"{" * 20_000, "more than"),
    ],
)
def test_nonsense_is_refused_in_words(topic: str, payload: Any, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        plug_report(plug_kind("auto", topic), topic, topic, raw(payload))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["ENERGY", "StatusSNS", "Power", "Total", "method", "params", "switch:0", "apower", "aenergy",
             "total", "power", "energy", "state"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(get_args(PlugKind)),
    topic=st.sampled_from([*(topic for _, topic, _, _ in REPORTS), "x"]),
    payload=st.binary(max_size=60)
    | _VALUES.map(lambda value: json.dumps(value).encode())
    | st.just("NotifyStatus").flatmap(
        lambda method: _VALUES.map(lambda value: json.dumps({"method": method, "params": value}).encode())
    ),
)
def test_any_bytes_are_a_report_within_limits_or_the_one_error(
    kind: PlugKind, topic: str, payload: bytes
) -> None:
    try:
        report = plug_report(kind, topic, topic, payload)
    except DecodeError:
        return
    assert report.watts is None or 0.0 <= report.watts <= PLUG_WATTS
    assert report.joules is None or 0.0 <= report.joules <= 1e15


@pytest.mark.parametrize(
    "payload",
    [
        b'{"\\ud800": 1}',
        b'{"state": "\\ud800"}',
        json.dumps({"\x1b[2J" + "k" * 9000 + str(number): 1 for number in range(1)}).encode(),
        json.dumps({"\u202e\x1b[31m": 1}, ensure_ascii=True).encode(),
    ],
)
@pytest.mark.parametrize("topic", ["desk/power", "zigbee2mqtt/desk/availability", "tele/desk/SENSOR"])
def test_what_errors_say_of_foreign_text_is_short_and_harmless(payload: bytes, topic: str) -> None:
    kind = plug_kind("auto", topic)
    try:
        plug_report(kind, topic, topic, payload)
    except DecodeError as error:
        assert str(error).isascii() and str(error).isprintable() and len(str(error)) < 500
    else:
        assert kind == "tasmota"  # other sensors of the same plug
