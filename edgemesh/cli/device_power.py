"""``edgemesh device power``: a device's watts, where they come from, and its smart plug."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from edgemesh.cli.output import json_option, print_json
from edgemesh.cli.settings import Settings
from edgemesh.errors import SettingsError
from edgemesh.observe.printable import printable
from edgemesh.protocol.ids import checked_id
from edgemesh.protocol.meter import MeterSetting, PlugKind, PlugStatus

if TYPE_CHECKING:
    from edgemesh.node.power_setting import DevicePower
    from edgemesh.protocol.presence import PowerFigures

_JOULES_PER_KILOWATT_HOUR = 3.6e6


@click.command()
@click.argument("device")
@click.option("--plug", metavar="TOPIC", help="The device hangs on the smart plug that reports there.")
@click.option(
    "--kind",
    type=click.Choice(get_args(PlugKind)),
    default="auto",
    show_default=True,
    help="How the plug writes its reports.",
)
@click.option("--none", "no_plug", is_flag=True, help="It hangs on no plug any more.")
@json_option
@click.pass_obj
def power(
    settings: Settings, device: str, plug: str | None, kind: PlugKind, no_plug: bool, as_json: bool
) -> None:
    """Show a device's watts and what they rest on; with --plug, name the smart plug it hangs on.

    TOPIC lies on the same broker: tele/NAME/SENSOR (Tasmota), shellies/ID/relay/0/power (Shelly, first
    generation), PREFIX/status/switch:0 or PREFIX/events/rpc (later ones), zigbee2mqtt/NAME.
    """
    from edgemesh.node.power_setting import PlugChange, device_power

    if no_plug and plug is not None:
        raise SettingsError("--plug names a plug and --none takes it away: give one of the two")
    if plug is None and kind != "auto":
        raise SettingsError("--kind says how a plug writes: name the plug too, with --plug TOPIC")
    asked = plug is not None or no_plug
    change = PlugChange(None if plug is None else MeterSetting(plug, kind)) if asked else None
    told = device_power(settings.mesh, settings.address, checked_id(device, "device"), change)
    if as_json:
        print_json(told)
    else:
        click.echo(power_text(told))


def power_text(told: DevicePower) -> str:
    """What is known, in some lines; those of the device itself bring no further ones."""
    return "\n".join(map(printable, _power_lines(told)))


def _power_lines(told: DevicePower) -> list[str]:
    if not told.online:
        lines = [f"{told.device} is not online: nothing is known of its watts now"]
        if told.setting is not None:
            lines.append(f"plug {told.setting.topic} ({told.setting.kind}): it will listen when it is back")
        return lines
    watts = "watts unknown" if told.watts is None else f"{told.watts:.1f} W now ({told.watts_source})"
    lines = [f"{told.device}: {watts}", _figures_text(told.power)]
    if told.battery is not None:
        lines.append(f"battery {told.battery:.0%}{', in use' if told.on_battery else ''}")
    if told.plug is not None:
        lines.append(_plug_text(told.plug))
    elif told.setting is not None:
        lines.append(
            f"plug {told.setting.topic}: the device does not listen to it yet; its software may be too old"
        )
    if told.power is not None and told.power.check is not None:
        lines.append(f"the plug measured {told.power.check:.2f} times what the model says")
    return [*lines, *(f"note: {note}" for note in told.notes)]


def _figures_text(figures: PowerFigures | None) -> str:
    if figures is None:
        return "idle and busy watts unknown: its board has no profile, and no meter has told them yet"
    origin = figures.source
    if figures.learned:
        error = "" if figures.error is None else f", {figures.error:.0%} uncertain"
        origin = f"learned from {figures.source}{error}"
    return (
        f"idle {figures.idle_watts:.1f} W, all cores busy {figures.busy_watts:.1f} W, "
        f"radio {figures.radio_watts:.1f} W more ({origin})"
    )


def _plug_text(plug: PlugStatus) -> str:
    told = [] if plug.watts is None else [f"{plug.watts:.1f} W"]
    if plug.energy is not None:
        told.append(f"{plug.energy / _JOULES_PER_KILOWATT_HOUR:.3f} kWh counted")
    if plug.age is not None:
        told.append(f"{plug.age:.0f} s ago")
    said = f": {', '.join(told)}" if told else ""
    problem = "" if plug.problem is None else f"; its last report is not used: {plug.problem}"
    return f"plug {plug.topic} ({plug.kind}, {plug.state}){said}{problem}"
