"""Commands that run one role in the foreground: what a service unit starts."""

from __future__ import annotations

from pathlib import Path

import click

from edgemesh.cli.device_power import power
from edgemesh.cli.finite_range import FiniteRange
from edgemesh.cli.near_commands import NearGroup
from edgemesh.cli.settings import Settings
from edgemesh.device.emulated_load import TIMES_RANGE
from edgemesh.errors import SettingsError
from edgemesh.runtime.registry import RUNTIMES

_CALLED = {
    **dict.fromkeys(("list", "ls", "show", "status", "ps"), "edgemesh devices"),
    **dict.fromkeys(("add", "start"), "edgemesh device run"),
    "remove": "edgemesh device forget",
}


@click.group(cls=NearGroup, called=_CALLED)
def device() -> None:
    """Run this machine as a device, see to its power meter, or forget one that left."""


device.add_command(power)


@click.group(cls=NearGroup)
def decision() -> None:
    """Run a decision node."""


@click.group(cls=NearGroup)
def gateway() -> None:
    """Run a gateway for apps."""


@device.command("run")
@click.option(
    "--id",
    "name",
    metavar="NAME",
    help="Name in the mesh (default: the board's with --emulate, else from the host name).",
)
@click.option("--emulate", metavar="BOARD", help="Behave as this board of firmware_profiles.")
@click.option(
    "--slower",
    type=FiniteRange(1.0, 1000.0),
    default=1.0,
    show_default=True,
    help="With --emulate: all its times this many times as long.",
)
@click.option(
    "--link/--no-link",
    "link_emulated",
    default=True,
    help="With --emulate: slow the link down, too (default), or leave that to something outside.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    help="Threads of the executor (default: all cores; 1 with --emulate).",
)
@click.option(
    "--memory",
    metavar="MB",
    type=click.IntRange(16),
    help="Memory that models may use (default: 60 % of the board's).",
)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(list(RUNTIMES)),
    help="Offer only this, repeatable (default: all that are installed).",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where models and profiles are kept (default: in the cache folder of this user).",
)
@click.option("--ina", metavar="BUS:ADDR:OHMS", help="Power meter chip INA219 or INA226, such as 1:0x40:0.1.")
@click.pass_obj
def run_device(
    settings: Settings,
    name: str | None,
    emulate: str | None,
    slower: float,
    link_emulated: bool,
    threads: int | None,
    memory: int | None,
    runtimes: tuple[str, ...],
    directory: Path | None,
    ina: str | None,
) -> None:
    """Publish this machine's resources and run units for the mesh, until Ctrl-C or SIGTERM."""
    from edgemesh.cli.foreground import run_forever
    from edgemesh.device.power.ina_address import parsed_ina
    from edgemesh.node.device_agent import DeviceAgent, agent_settings

    chosen = agent_settings(
        settings.mesh,
        name,
        emulate=emulate,
        threads=threads,
        memory_bytes=memory * 1_000_000 if memory else None,
        runtimes=runtimes or None,
        directory=directory,
        ina=parsed_ina(ina) if ina else None,
        slower=slower,
        link_emulated=link_emulated,
    )
    broker = settings.whereabouts
    shaped = chosen.emulated and chosen.link_emulated
    run_forever(settings, lambda loop: DeviceAgent(chosen, broker, loop), fine_timers=shaped)


@device.command("forget")
@click.argument("name")
@click.pass_obj
def forget(settings: Settings, name: str) -> None:
    """Clear what a device that left for good has retained on the broker.

    One that never said that it left must be silent: that takes some seconds.
    """
    from edgemesh.node.device_forgetter import forget_device

    profiles = forget_device(settings.mesh, settings.address, name)
    also = f" and its profiles of {', '.join(profiles)}" if profiles else ""
    click.echo(f"forgot {name}{also}")


@device.command("load")
@click.argument("name")
@click.argument("times", type=FiniteRange(*TIMES_RANGE))
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The --directory that its agent was started with (default: as that has).",
)
@click.pass_obj
def load(settings: Settings, name: str, times: float, directory: Path | None) -> None:
    """Make an emulated board of this machine TIMES (1 to 100) slower, as if other programs used it.

    1 takes that back. It lasts as long as the board's agent runs. The decision node is not told: it has to
    notice. See  edgemesh plan --watch.
    """
    from edgemesh.device.emulated_load import is_emulated, set_emulated_load
    from edgemesh.node.device_agent import device_directory
    from edgemesh.node.local_lane import is_served, lane_path
    from edgemesh.protocol.ids import checked_id

    checked_id(name, "device")
    directory = directory or device_directory(settings.mesh, name)
    if not directory.is_dir():
        raise SettingsError(
            f"mesh {settings.mesh} has no emulated board {name} on this machine: no {directory}"
        )
    if not is_emulated(directory):
        raise SettingsError(
            f"{name} is not emulated here, so it takes no made-up load: start it with  edgemesh device run "
            "--emulate BOARD"
        )
    if not is_served(lane_path(directory)):  # an agent begins without a load, whatever is in the file
        raise SettingsError(f"no agent of {name} runs on this machine: start it, and then give it a load")
    try:
        set_emulated_load(directory, times)
    except OSError as error:
        raise SettingsError(f"cannot write to {directory}: {error.strerror or error}") from None


@decision.command("run")
@click.option("--id", "name", metavar="NAME", help="Name in the mesh (default: from the host name).")
@click.pass_obj
def run_decision(settings: Settings, name: str | None) -> None:
    """Keep every model assigned, or stand by for the node that does, until Ctrl-C or SIGTERM."""
    from edgemesh.cli.foreground import node_name, run_forever
    from edgemesh.node.decision_node import DecisionNode

    chosen, broker = node_name(name), settings.whereabouts
    run_forever(settings, lambda loop: DecisionNode(settings.mesh, chosen, broker, loop))


@gateway.command("run")
@click.option("--id", "name", metavar="NAME", help="Name in the mesh (default: from the host name).")
@click.option(
    "--slot",
    default="0",
    show_default=True,
    help="Slot to hold, or to stand by for; plans for app use the link of slot 0.",
)
@click.pass_obj
def run_gateway(settings: Settings, name: str | None, slot: str) -> None:
    """Serve what apps publish on submit/MODEL, or stand by for the gateway that does."""
    from edgemesh.cli.foreground import node_name, run_forever
    from edgemesh.node.gateway_node import GatewayNode

    chosen, broker = node_name(name), settings.whereabouts
    run_forever(settings, lambda loop: GatewayNode(settings.mesh, chosen, slot, broker, loop))


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=1883, show_default=True, help="Port to listen on."
)
@click.pass_obj
def broker(settings: Settings, port: int) -> None:
    """Run Mosquitto with our settings where it is installed, else the embedded broker, until Ctrl-C: open to
    the local network, without passwords.
    """
    from edgemesh.cli.foreground import run_broker

    run_broker(port)
