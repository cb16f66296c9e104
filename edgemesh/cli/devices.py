"""``edgemesh devices``: who is there, and what they hold and do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.output import json_option, print_json, table_text
from edgemesh.cli.settings import Settings
from edgemesh.protocol.topics import MAJOR

if TYPE_CHECKING:
    from edgemesh.node.mesh_reading import MeshReading

_LISTEN_SECONDS = 2.5
"""Longer than the two seconds between heartbeats."""
_HEADING = (
    "device", "state", "board", "runtimes", "memory", "models", "queue", "busy", "cpu", "temp", "watts",
    "battery", "up/down", "heard",
)  # fmt: skip

_FIGURES = (
    "board", "software", "threads", "memory_bytes", "queue", "busy", "cpu", "temperature", "watts",
    "watts_source", "power", "battery", "on_battery", "rate_up", "rate_down", "heard",
)  # fmt: skip
"""What may be unknown of a device."""


@click.command()
@click.option("--quick", is_flag=True, help="Do not wait for heartbeats (queue and busy stay unknown).")
@json_option
@click.pass_obj
def devices(settings: Settings, quick: bool, as_json: bool) -> None:
    """List the devices of the mesh."""
    from edgemesh.node.mesh_reader import read_mesh

    reading = read_mesh(settings.mesh, settings.address, 0.0 if quick else _LISTEN_SECONDS)
    found = [described(reading, device) for device in sorted(reading.view.devices)]
    found += [refused(device, major) for device, major in sorted(reading.others.online)]
    if as_json:
        print_json(found)
    elif found:
        click.echo(table_text(_HEADING, [_row(device) for device in found]))
    else:
        click.echo(f"no devices in mesh {settings.mesh}: start one with  edgemesh device run", err=True)


def described(reading: MeshReading, device: str) -> dict[str, Any]:
    """One device as plain values; what is not known is None.

    ``state`` is ``silent`` for one that says online but was not heard for three heartbeats; ``heard`` are
    seconds since its last heartbeat.
    """
    view = reading.view.devices[device]
    online = reading.view.online(device, reading.now)
    about, heartbeat = view.about, view.heartbeat
    resources = reading.resources.get(device) if online else None
    link = reading.estimates.link(device, reading.now)
    measured = online and link.age != float("inf")
    heard = None if heartbeat is None or view.heard_at is None else reading.now - view.heard_at
    return {
        "device": device,
        "state": view.state if online or view.state != "online" else "silent",
        "version": f"{MAJOR}.{0 if about is None else about.minor}",
        "board": None if about is None else about.board,
        "emulated": about is not None and about.emulated,
        "software": None if about is None else about.software,
        "runtimes": {} if about is None else about.runtimes,
        "threads": None if about is None else about.threads,
        "memory_bytes": None if about is None else about.memory_bytes,
        "models": [] if about is None else [held.name for held in about.models],
        "queue": None if heartbeat is None or not online else heartbeat.queue,
        "busy": None if heartbeat is None or not online else heartbeat.busy,
        "cpu": None if resources is None else resources.cpu,
        "temperature": None if resources is None else resources.temperature,
        "throttled": [] if resources is None else list(resources.throttled),
        "watts": None if resources is None else resources.watts,
        "watts_source": None if resources is None else resources.watts_source,
        "power": None if resources is None else resources.power,
        "battery": None if resources is None else resources.battery,
        "on_battery": None if resources is None else resources.on_battery,
        "rate_up": link.link.rate_up if measured else None,
        "rate_down": link.link.rate_down if measured else None,
        "heard": heard,
    }


def refused(device: str, major: int) -> dict[str, Any]:
    """As ``described``, one that speaks another major version of the wire contract; nothing else is known."""
    unknown = dict.fromkeys(_FIGURES)
    lists: dict[str, Any] = {"runtimes": {}, "models": [], "throttled": []}
    known = {"device": device, "state": "refused", "version": str(major), "emulated": False}
    return {**known, **unknown, **lists}


def _row(d: dict[str, Any]) -> tuple[str, ...]:
    from edgemesh.observe.amounts import bytes_text

    rates = "-" if d["rate_up"] is None else f"{bytes_text(d['rate_up'])}/s {bytes_text(d['rate_down'])}/s"
    throttled = " throttled" if d["throttled"] else ""
    return (
        d["device"],
        d["state"] + (f": version {d['version']}" if d["state"] == "refused" else ""),
        (d["board"] or "-") + (" (emulated)" if d["emulated"] else ""),
        ", ".join(d["runtimes"]) or "-",
        "-" if d["memory_bytes"] is None else bytes_text(d["memory_bytes"]),
        ", ".join(d["models"]) or "-",
        _figure(d["queue"], "{}"),
        _figure(d["busy"], "{:.0%}"),
        _figure(d["cpu"], "{:.0%}"),
        _figure(d["temperature"], "{:.0f} C") + throttled,
        _figure(d["watts"], "{:.1f} W") + ("" if d["watts"] is None else f" ({d['watts_source']})"),
        _figure(d["battery"], "{:.0%}") + (" in use" if d["on_battery"] else ""),
        rates,
        _figure(d["heard"], "{:.1f} s"),
    )


def _figure(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)
