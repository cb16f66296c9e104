"""``edgemesh plan``: the assignment in force and why, and what a person wants kept to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.output import json_option, print_json, table_text
from edgemesh.cli.settings import Settings
from edgemesh.errors import SettingsError
from edgemesh.observe.plan_table import route_text
from edgemesh.protocol.ids import APP_ORIGIN, checked_id
from edgemesh.protocol.requests import Pin

if TYPE_CHECKING:
    from edgemesh.node.policy_change import PolicyChange
    from edgemesh.protocol.assignment import Assignment, HopPrediction
    from edgemesh.protocol.requests import Policy

_HEADING = ("device", "units", "bytes in", "transfer", "queue", "run", "sends")


@click.command()
@click.argument("model", required=False)
@click.option(
    "--origin", metavar="DEVICE", help="Where inputs arise: a device, or app (default: all that are planned)."
)
@click.option(
    "--pin", "pins", multiple=True, metavar="A-B:DEVICE", help="Run units A to B (B not included) there only."
)
@click.option("--exclude", "excluded", multiple=True, metavar="DEVICE", help="Never use this device.")
@click.option("--codecs", metavar="C,C", help="How activations may be sent: raw, f16, q8, each also +zstd.")
@click.option("--keep-input", is_flag=True, help="The raw input never leaves the device it arises on.")
@click.option("--clear", is_flag=True, help="Forget all of this again.")
@json_option
@click.pass_obj
def plan(
    settings: Settings,
    model: str | None,
    origin: str | None,
    pins: tuple[str, ...],
    excluded: tuple[str, ...],
    codecs: str | None,
    keep_input: bool,
    clear: bool,
    as_json: bool,
) -> None:
    """Show which units run where, and why; with --pin and the like, change what the planner keeps to.

    What is given replaces what was given before of the same option; the rest stays.
    """
    from edgemesh.node.policy_change import PolicyChange

    change = PolicyChange(
        tuple(parsed_pin(text) for text in pins),
        tuple(checked_id(device, "--exclude") for text in excluded for device in text.split(",")),
        None if codecs is None else tuple(part.strip() for part in codecs.split(",")),
        keep_input,
        clear,
    )
    origin = None if origin is None else checked_id(origin, "--origin")
    if model is None and (origin is not None or not change.is_empty):
        raise SettingsError("name the model too:  edgemesh plan MODEL ...")
    assignments, policies = _read(settings, model, origin, change)
    if as_json:
        print_json({"assignments": assignments, "policies": policies})
    elif not assignments:
        click.echo(
            f"nothing is planned in mesh {settings.mesh}: see  edgemesh model list,  edgemesh devices",
            err=True,
        )
    else:
        click.echo("\n\n".join(assignment_text(assignment) for assignment in assignments))
        for name, policy in sorted(policies.items()):
            click.echo(f"{name} is kept to: {policy_text(policy)}")


def _read(
    settings: Settings, model: str | None, origin: str | None, change: PolicyChange
) -> tuple[Sequence[Assignment], dict[str, Policy]]:
    if model is None:
        from edgemesh.node.mesh_reader import read_mesh

        reading = read_mesh(settings.mesh, settings.address)
        return [assignment for _, assignment in sorted(reading.view.assignments.items())], reading.policies
    from edgemesh.node.policy_change import planned

    return planned(settings.mesh, settings.address, checked_id(model, "model name"), origin, change)


def parsed_pin(text: str) -> Pin:
    """``0-1:pi-4b`` is unit 0 on pi-4b; raises SettingsError."""
    span, _, device = text.partition(":")
    start, _, stop = span.partition("-")
    if not (start.isdecimal() and stop.isdecimal() and device) or int(start) >= int(stop):
        raise SettingsError(
            f"--pin {text!r} is no range of units on a device: write it as 0-1:pi-4b (unit 0)"
        )
    return Pin(int(start), int(stop), checked_id(device, "device of --pin"))


# --- text ----------------------------------------------------------------------------


def assignment_text(assignment: Assignment) -> str:
    """The plan as a table, then what else there was and why."""
    a = assignment
    where = "inputs published by apps" if a.origin == APP_ORIGIN else f"inputs of {a.origin}"
    joules = "" if a.joules is None else f", {a.joules:.2f} J"
    head = (
        f"{a.model} for {where}: {_ms(a.seconds)} predicted{joules} "
        f"(objective {a.objective}, epoch {a.term}.{a.sequence}, estimates {a.estimates_age:.0f} s old)"
    )
    rows = [_hop_row(a, hop, codec) for hop, codec in zip(a.hops, (hop.codec for hop in a.route))]
    rows.append(("result", "", "", _ms(a.return_seconds), "", "", ""))
    rows.append(("total", f"0-{a.route[-1].stop}", "", _ms(a.seconds), "", "", ""))
    lines = [head, table_text(_HEADING, rows), f"why: {a.reason}"]
    lines += [f"without {f.avoids}: {route_text(f.route)}, {_ms(f.seconds)}" for f in a.fallbacks]
    lines += [f"next best: {route_text(r.route)}, {_ms(r.seconds)}" for r in a.runners_up]
    lines += [f"idle: {idle.device}: {idle.reason}" for idle in a.idle]
    if a.emulated:
        lines.append(
            f"emulated: {', '.join(a.emulated)} (times and links are those of the boards they stand for)"
        )
    return "\n".join(lines)


def _hop_row(assignment: Assignment, hop: HopPrediction, codec: str) -> tuple[str, ...]:
    from edgemesh.observe.amounts import bytes_text

    mark = " (emulated)" if hop.device in assignment.emulated else ""
    local = hop.transfer == 0.0 and hop.start == 0
    return (
        f"{hop.device}{mark}",
        f"{hop.start}-{hop.stop}",
        "-" if local else bytes_text(hop.nbytes),
        "-" if local else _ms(hop.transfer),
        _ms(hop.queue),
        _ms(hop.run),
        codec,
    )


def policy_text(policy: Policy) -> str:
    """What is kept to, in words."""
    parts: list[Any] = [f"codecs {', '.join(policy.codecs)}"]
    parts += [f"units {pin.start}-{pin.stop} on {pin.device}" for pin in policy.pins]
    parts += [f"never {device}" for device in policy.exclude]
    if policy.keep_input:
        parts.append("the raw input stays on its device")
    return "; ".join(parts)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
