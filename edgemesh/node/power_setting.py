"""Shows what is known of a device's watts, after naming or taking away its smart plug where that is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edgemesh.errors import SettingsError
from edgemesh.node.mesh_reader import MeshReader
from edgemesh.protocol.jsontext import encode_json
from edgemesh.protocol.meter import MeterSetting, PlugStatus, is_plug_topic
from edgemesh.protocol.presence import PowerFigures, Resources
from edgemesh.transport.address import BrokerAddress

_TAKEN_UP_SECONDS = 6.0
"""A device answers a new setting at once; one that is busy loading a model a little later."""
_FIRST_REPORT_SECONDS = 6.0
"""A plug that can be asked answers in less; resources follow within 2.5 s."""


@dataclass(frozen=True)
class DevicePower:
    """One device's watts; None where it does not tell, or is not online."""

    device: str
    online: bool
    watts: float | None
    watts_source: str | None
    power: PowerFigures | None
    setting: MeterSetting | None
    """The plug that was named for it."""
    plug: PlugStatus | None
    """What it hears of that plug."""
    battery: float | None
    on_battery: bool | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlugChange:
    """The plug from now on; None takes it away."""

    setting: MeterSetting | None


def checked_setting(setting: MeterSetting) -> MeterSetting:
    """``setting``; raises SettingsError for a topic that no plug can have."""
    if not is_plug_topic(setting.topic):
        raise SettingsError(
            f"{setting.topic[:80]!r} is no topic of a plug: name the one it reports on, without + and # and "
            "outside of edgemesh/, such as tele/desk/SENSOR, shellies/ID/relay/0/power, "
            "PREFIX/status/switch:0 or zigbee2mqtt/NAME"
        )
    return setting


def device_power(
    mesh: str, address: BrokerAddress, device: str, change: PlugChange | None = None
) -> DevicePower:
    """The device's watts, after the change.

    Raises SettingsError for a device that is not known or a topic that no plug has, OperatorError where the
    broker refuses the change, BrokerError.
    """
    if change is not None and change.setting is not None:
        checked_setting(change.setting)
    return asyncio.run(_device_power(mesh, address, device, change))


async def _device_power(
    mesh: str, address: BrokerAddress, device: str, change: PlugChange | None
) -> DevicePower:
    async with MeshReader(mesh, address) as reader:
        reading = reader.reading
        if device not in reading.view.devices:
            known = ", ".join(sorted(reading.view.devices)) or "none"
            raise SettingsError(f"no device {device} in mesh {mesh} (known: {known}): see  edgemesh devices")
        online = device in reading.online()
        if change is not None:
            payload = b"" if change.setting is None else encode_json(change.setting)
            await reader.publish_retained("meter", payload, device=device)
            if online:
                await _taken_up(reader, device, change.setting)
        told = reading.resources.get(device) if online else None
        setting = reading.meters.get(device) if change is None else change.setting
        return _described(device, online, told, setting)


async def _taken_up(reader: MeshReader, device: str, setting: MeterSetting | None) -> None:
    def plug() -> PlugStatus | None:
        told = reader.reading.resources.get(device)
        return None if told is None else told.plug

    def taken_up() -> bool:
        found = plug()
        if setting is None or found is None:
            return found is None and setting is None
        return found.topic == setting.topic and setting.kind in ("auto", found.kind)

    def reported() -> bool:
        found = plug()
        return found is not None and found.state != "waiting"

    if await reader.until(taken_up, _TAKEN_UP_SECONDS) and setting is not None:
        await reader.until(reported, _FIRST_REPORT_SECONDS)


def _described(
    device: str, online: bool, told: Resources | None, setting: MeterSetting | None
) -> DevicePower:
    if told is None:
        return DevicePower(device, online, None, None, None, setting, None, None, None, ())
    return DevicePower(
        device,
        online,
        told.watts,
        told.watts_source,
        told.power,
        setting,
        told.plug,
        told.battery,
        told.on_battery,
        told.power_notes,
    )
