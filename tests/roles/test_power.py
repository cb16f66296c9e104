"""Rules of a device's watts: whose figure counts, what a plug may do, and when resources are news."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.meter import MeterSetting
from edgemesh.protocol.presence import PowerFigures, Resources
from edgemesh.roles.actions import Action, Log, Publish, ReadResources, Subscribe, Unsubscribe
from edgemesh.roles.device import Device, DeviceSettings
from edgemesh.roles.events import Connected, Disconnected, ForeignMessageReceived, ResourcesRead
from edgemesh.roles.plug import STALE_SECONDS
from tests.roles.build import TOPICS, message
from tests.roles.driven import Driven, only, sent

BOARD = PowerFigures(2.0, 6.0, 0.5, source="board pi-4b")
SETTINGS = DeviceSettings(
    "one", "b-1", "edgemesh test", "pi-4b", {"tflite": "2.14"}, 4, 1 << 30, power=BOARD, throttle_celsius=80.0
)
ZIGBEE = MeterSetting("zigbee2mqtt/desk")
SHELLY = MeterSetting("desk/status/switch:0")


class Metered(Driven):
    """A device whose machine is read whenever it wants to; change ``machine`` at any time."""

    def __init__(self, settings: DeviceSettings = SETTINGS) -> None:
        super().__init__(Device(settings, TOPICS))
        self.machine = Resources(0.25, 1 << 30, 1 << 29)
        self.take(Connected(), at=0.0)

    def _note(self, actions: list[Action]) -> None:
        super()._note(actions)
        for action in actions:
            if isinstance(action, ReadResources):
                self.take(ResourcesRead(self.machine))

    def hangs_on(self, setting: MeterSetting | None, *, retained: bool = False) -> list[Action]:
        return self.take(
            message("meter", b"" if setting is None else setting, device="one", retained=retained)
        )

    def says(self, topic: str, payload: Any, *, retained: bool = False) -> list[Action]:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.take(ForeignMessageReceived(topic, raw, retained))

    @property
    def published(self) -> list[Resources]:
        topic = TOPICS.build("resources", device="one")
        return [decode_json(Resources, a.payload) for a in only(Publish, self.done) if a.topic == topic]

    @property
    def mesh(self) -> list[Action]:
        """What it said in the mesh, and not to its plug."""
        return [a for a in only(Publish, self.done) if a.topic.startswith(TOPICS.root)]

    @property
    def last(self) -> Resources:
        return self.published[-1]


@pytest.fixture
def device() -> Metered:
    return Metered()


def filters(kind: type[Subscribe] | type[Unsubscribe], actions: list[Action]) -> list[str]:
    return [action.filter for action in only(kind, actions) if not action.filter.startswith(TOPICS.root)]


# --- the model and meters of the machine -----------------------------------------------------------------


def test_without_a_meter_the_board_and_the_load_tell(device: Metered) -> None:
    assert (device.last.watts, device.last.watts_source) == (3.0, "board pi-4b")
    assert device.last.power == BOARD and device.last.plug is None


def test_a_board_that_nobody_knows_has_no_watts() -> None:
    device = Metered(replace(SETTINGS, power=None))

    assert (device.last.watts, device.last.watts_source, device.last.power) == (None, None, None)


def test_a_meter_in_the_machine_goes_before_all_else(device: Metered) -> None:
    device.machine = replace(device.machine, watts=4.25, watts_source="ina219")
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 5.5})
    device.pass_until(5.0)

    assert (device.last.watts, device.last.watts_source) == (4.25, "ina219")
    assert device.last.plug is not None and device.last.plug.watts == 5.5


def load_swings(device: Metered, seconds: float, idle: float, busy: float, source: str | None = None) -> None:
    """Loads from idle to busy, a minute each, on a machine that draws ``idle`` to ``busy`` watts.

    A battery's and a plug's figure follows 25 s later.
    """
    end = device.now + seconds
    loads = (0.0, 0.5, 1.0, 0.2)
    lag = 0.0 if source == "rapl" else 25.0
    while device.now < end:
        load, metered = (loads[int(at // 60) % len(loads)] for at in (device.now, device.now - lag))
        watts = idle + (busy - idle) * metered
        device.machine = replace(
            device.machine, cpu=load, watts=watts if source else None, watts_source=source
        )
        if source is None:
            device.says("desk/status/switch:0", {"apower": watts})
        device.pass_until(device.now + 10.0)


@pytest.mark.parametrize("source", ["rapl", "battery", None], ids=["rapl", "battery", "plug"])
def test_metered_samples_take_the_place_of_the_boards_figures(device: Metered, source: str | None) -> None:
    device.hangs_on(SHELLY)

    load_swings(device, 900.0, 3.0, 9.0, source)

    power = device.last.power
    assert power is not None and power.learned and power.source == (source or "plug shelly")
    assert (power.idle_watts, power.busy_watts) == (
        pytest.approx(3.0, rel=0.05),
        pytest.approx(9.0, rel=0.05),
    )
    assert power.radio_watts == 0.5 and power.error is not None and power.error < 0.25


def test_what_was_learned_serves_while_the_meter_is_silent(device: Metered) -> None:
    load_swings(device, 900.0, 3.0, 9.0, "battery")

    device.machine = replace(device.machine, cpu=0.5, watts=None, watts_source=None)  # on the mains again
    device.pass_until(device.now + 10.0)

    assert device.last.watts == pytest.approx(6.0, rel=0.05)
    assert device.last.watts_source == "learned from battery"


def test_what_one_plug_taught_goes_with_it(device: Metered) -> None:
    device.hangs_on(SHELLY)
    load_swings(device, 900.0, 3.0, 9.0)
    assert device.last.power is not None and device.last.power.learned

    device.hangs_on(replace(SHELLY, topic="shelf/status/switch:0"))

    assert device.last.power == BOARD


def test_an_emulated_board_draws_what_its_profile_says_whatever_the_plug_says() -> None:
    device = Metered(replace(SETTINGS, emulated=True))
    device.hangs_on(SHELLY)

    load_swings(device, 900.0, 3.0, 9.0)

    assert device.last.power == BOARD
    assert device.last.watts_source == "board pi-4b"
    assert device.last.plug is not None


# --- the plug --------------------------------------------------------------------------------------------


def test_a_device_listens_to_the_plug_it_is_told_of_and_says_so_at_once(device: Metered) -> None:
    actions = device.hangs_on(ZIGBEE)

    assert filters(Subscribe, actions) == ["zigbee2mqtt/desk", "zigbee2mqtt/desk/availability"]
    assert Publish("zigbee2mqtt/desk/get", b'{"power":""}') in actions
    plug = device.last.plug
    assert plug is not None and (plug.kind, plug.state) == ("zigbee2mqtt", "waiting")


def test_another_plug_takes_the_place_of_the_first(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 5.5})

    actions = device.hangs_on(SHELLY)

    assert filters(Unsubscribe, actions) == ["zigbee2mqtt/desk", "zigbee2mqtt/desk/availability"]
    assert "desk/events/rpc" in filters(Subscribe, actions)
    assert device.last.plug is not None and device.last.plug.watts is None
    assert not device.says("zigbee2mqtt/desk", {"power": 7.5})  # still under way when we left


def test_a_plug_that_was_taken_away_is_left_and_forgotten(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 5.5})

    actions = device.hangs_on(None)

    assert len(filters(Unsubscribe, actions)) == 2
    assert device.last.plug is None and device.last.watts_source == "board pi-4b"


def test_a_plug_that_reports_on_a_change_only_stays_at_its_last_value(device: Metered) -> None:
    device.hangs_on(SHELLY)
    device.says("desk/status/switch:0", {"apower": 4.5})
    device.pass_until(device.now + STALE_SECONDS - 10.0)
    held = device.last
    device.pass_until(device.now + 20.0)
    stale = device.last

    assert (held.watts, held.watts_source) == (4.5, "plug shelly")
    assert held.plug is not None and held.plug.age == pytest.approx(STALE_SECONDS, abs=20.0)
    assert stale.watts_source == "board pi-4b" and stale.plug is not None and stale.plug.state == "silent"
    assert "silent" in stale.power_notes[0]


def test_a_silent_plug_is_asked_once_a_minute_where_it_can_be(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5})

    device.pass_until(600.0)

    asked = [a for a in only(Publish, device.done) if a.topic == "zigbee2mqtt/desk/get"]
    assert 9 <= len(asked) <= 11


def test_a_plug_that_leaves_the_network_counts_no_more_until_it_is_back(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5})
    device.says("zigbee2mqtt/desk/availability", b"offline")
    device.pass_until(5.0)
    gone = device.last
    device.says("zigbee2mqtt/desk", {"power": 4.75})
    device.pass_until(10.0)

    assert gone.plug is not None and gone.plug.state == "offline"
    assert gone.watts_source == "board pi-4b" and "offline" in gone.power_notes[0]
    assert (device.last.watts, device.last.watts_source) == (4.75, "plug zigbee2mqtt")


def test_a_retained_report_is_shown_but_does_not_count(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5}, retained=True)
    device.pass_until(5.0)

    assert device.last.plug is not None
    assert (device.last.plug.watts, device.last.plug.state) == (4.5, "waiting")
    assert device.last.watts_source == "board pi-4b"


@pytest.mark.parametrize("watts", [10_000, 200], ids=["no plug", "not this board"])
def test_a_nonsensical_report_is_ignored_with_one_log_line_in_ten_seconds(
    device: Metered, watts: float
) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5})
    before = len(only(Log, device.done))
    for _ in range(50):
        device.says("zigbee2mqtt/desk", {"power": watts})
        device.pass_until(device.now + 0.15)

    lines = only(Log, device.done)[before:]
    assert len(lines) == 1 and f"{watts:g} W" in lines[0].text and "zigbee2mqtt/desk" in lines[0].text
    assert device.last.watts == 4.5
    assert device.last.plug is not None and device.last.plug.problem is not None
    device.says("zigbee2mqtt/desk", {"power": 4.5})
    device.pass_until(device.now + 5.0)
    assert device.last.plug.problem is None


def test_a_setting_that_is_none_leaves_the_device_as_it_is(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    for bad in (
        b"{",
        b'{"topic":"#"}',
        b'{"topic":"edgemesh/v1/home/submit/face"}',
        b'{"topic":"a","kind":"x"}',
    ):
        actions = device.take(message("meter", bad, device="one"))
        assert not only(Subscribe, actions) and not only(Unsubscribe, actions)

    assert device.role.power.plug.setting == ZIGBEE
    assert any("meter" in line.text for line in only(Log, device.done))


# --- connections -----------------------------------------------------------------------------------------


def test_a_new_connection_listens_again_and_keeps_what_it_knew(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5})
    device.take(Disconnected(), at=3.0)
    device.take(Connected(), at=4.0)

    actions = device.hangs_on(ZIGBEE, retained=True)
    device.pass_until(10.0)

    assert filters(Subscribe, actions) == ["zigbee2mqtt/desk", "zigbee2mqtt/desk/availability"]
    assert device.last.watts == 4.5


def test_a_setting_changed_while_it_was_away_is_followed(device: Metered) -> None:
    device.hangs_on(SHELLY)
    device.take(Disconnected(), at=3.0)
    device.take(Connected(), at=4.0)

    actions = device.hangs_on(replace(SHELLY, topic="desk/status/switch:1"), retained=True)

    # Also those that both settings have: this connection knows none of them.
    assert filters(Subscribe, actions) == ["desk/status/switch:1", "desk/events/rpc", "desk/online"]


def comes_back(device: Metered, *, forgot: bool, answers: bool = True) -> list[Action]:
    """The device is connected again: what it does when its own state comes behind all that is retained."""
    device.take(Disconnected(), at=device.now + 1.0)
    actions = device.take(Connected(), at=device.now + 1.0)
    if not answers:
        return actions
    if not forgot:
        device.take(message("state", b"offline", device="one", retained=True))
    return device.take(message("state", b"online", device="one"), at=device.now + 0.1)


def test_a_setting_cleared_while_it_was_away_is_dropped(device: Metered) -> None:
    device.hangs_on(ZIGBEE)

    comes_back(device, forgot=False)
    device.pass_until(20.0)

    assert device.last.plug is None
    assert not sent("meter", device.mesh)


def test_a_setting_that_the_broker_has_lost_is_said_again_and_followed(device: Metered) -> None:
    device.hangs_on(ZIGBEE)

    actions = comes_back(device, forgot=True)
    echo = device.hangs_on(ZIGBEE)
    device.says("zigbee2mqtt/desk", {"power": 4.5})
    device.pass_until(30.0)

    (said,) = sent("meter", device.mesh)
    assert decode_json(MeterSetting, said.payload) == ZIGBEE and said.retain and said.qos == 1
    assert said in actions and said.topic == TOPICS.build("meter", device="one")
    # This connection knows no subscription of the one before; what it says itself comes back to it.
    assert filters(Subscribe, actions) == ["zigbee2mqtt/desk", "zigbee2mqtt/desk/availability"]
    assert not filters(Subscribe, echo)
    assert device.last.watts == 4.5


def test_the_setting_is_asked_for_before_the_device_can_tell_that_the_broker_forgot(device: Metered) -> None:
    asked = Subscribe(TOPICS.filter("meter", device="one"), 1)

    actions = comes_back(device, forgot=True, answers=False)

    assert actions.index(asked) < actions.index(sent("state", actions)[0])


def test_a_setting_that_was_made_since_the_broker_forgot_is_the_one(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    comes_back(device, forgot=True, answers=False)
    device.hangs_on(SHELLY, retained=True)

    device.take(message("state", b"online", device="one"))

    assert not sent("meter", device.mesh)
    assert device.role.power.plug.setting == SHELLY


def test_a_device_without_a_plug_says_none_to_a_broker_that_forgot(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    device.hangs_on(None)

    comes_back(device, forgot=True)

    assert not sent("meter", device.mesh)


def test_a_setting_outlives_a_broker_that_is_long_in_saying_what_it_retains(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    comes_back(device, forgot=True, answers=False)
    device.pass_until(60.0)

    assert sent("meter", device.take(message("state", b"online", device="one")))


def test_connections_that_ended_too_soon_do_not_cover_up_a_lost_setting(device: Metered) -> None:
    """What is retained of the device itself is of those connections then."""
    device.hangs_on(ZIGBEE)
    for _ in range(2):
        comes_back(device, forgot=True, answers=False)
        assert not sent("meter", device.mesh)  # somebody may have set another one since

    assert sent("meter", comes_back(device, forgot=False))
    device.hangs_on(None)  # by the operator, and then the device is away
    assert not sent("meter", comes_back(device, forgot=False))


def test_a_setting_that_was_said_again_can_be_cleared_while_the_device_is_away(device: Metered) -> None:
    device.hangs_on(ZIGBEE)
    comes_back(device, forgot=True)
    said = len(sent("meter", device.mesh))

    comes_back(device, forgot=False)
    device.pass_until(device.now + 15.0)

    assert said == 1 and len(sent("meter", device.mesh)) == 1
    assert device.last.plug is None


# --- the plug checks the model -----------------------------------------------------------------------------


def test_a_steady_check_scales_the_boards_figures(device: Metered) -> None:
    device.hangs_on(SHELLY)
    total = 1000.0
    for _ in range(120):  # an hour at one load, where nothing can be learned
        device.says("desk/status/switch:0", {"aenergy": {"total": total}})
        total += 3.0 * 1.25 * 30.0 / 3600.0
        device.pass_until(device.now + 30.0)

    power = device.last.power
    assert power is not None and power.check == pytest.approx(1.25, rel=0.02) and not power.learned
    assert (power.idle_watts, power.busy_watts) == (
        pytest.approx(2.5, rel=0.02),
        pytest.approx(7.5, rel=0.02),
    )
    assert "pi-4b" in power.source and "plug" in power.source
    assert device.last.watts == pytest.approx(3.75, rel=0.02)


def test_what_was_learned_from_a_meter_in_the_machine_is_checked_but_not_scaled(device: Metered) -> None:
    load_swings(device, 900.0, 3.0, 9.0, "rapl")
    device.hangs_on(SHELLY)
    for _ in range(300):  # what the processor's own counter does not see
        device.says("desk/status/switch:0", {"apower": (device.machine.watts or 0.0) * 1.5})
        device.pass_until(device.now + 10.0)

    power = device.last.power
    assert power is not None and power.check == pytest.approx(1.5, rel=0.05)
    assert power.busy_watts == pytest.approx(9.0, rel=0.05) and power.source == "rapl"


# --- steps -------------------------------------------------------------------------------------------------


def published_between(device: Metered, seconds: float) -> int:
    before = len(device.published)
    device.pass_until(device.now + seconds)
    return len(device.published) - before


def test_resources_are_published_every_five_seconds_when_nothing_happens(device: Metered) -> None:
    device.machine = replace(device.machine, temperature=50.0, battery=0.8, on_battery=True)
    device.pass_until(5.0)

    assert published_between(device, 60.0) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"on_battery": False},
        {"battery": 0.74},
        {"throttled": ("under-voltage",)},
        {"temperature": 56.0},
        {"temperature": 80.5},
        {"temperature": None},
    ],
    ids=str,
)
def test_a_step_is_published_at_the_next_look(device: Metered, change: dict[str, Any]) -> None:
    warm = 79.5 if change.get("temperature") == 80.5 else 50.0
    device.machine = replace(device.machine, temperature=warm, battery=0.8, on_battery=True)
    device.pass_until(10.0)

    device.machine = replace(device.machine, **change)

    assert published_between(device, 1.0) == 1
    for name, value in change.items():
        assert getattr(device.last, name) == value


def test_a_step_of_the_load_is_published_at_the_next_look_and_confirmed_at_the_one_after(
    device: Metered,
) -> None:
    device.machine = replace(device.machine, cpu=0.1)
    device.pass_until(10.0)

    device.machine = replace(device.machine, cpu=0.6)

    # Whoever hears it believes what two readings show; a loaded machine is looked at twice as often.
    assert published_between(device, 1.0) == 1
    assert published_between(device, 0.5) == 1
    assert published_between(device, 4.0) == 0


def test_steps_without_end_are_bounded_in_rate(device: Metered) -> None:
    for number in range(600):
        device.machine = replace(device.machine, on_battery=number % 2 == 0)
        device.pass_until(device.now + 0.1)

    assert len(device.published) <= 60.0 / 0.5 + 2


def test_a_new_connection_is_told_at_once(device: Metered) -> None:
    device.pass_until(6.0)
    device.take(Disconnected())
    before = len(device.published)
    device.take(Connected())

    assert len(device.published) == before + 1
