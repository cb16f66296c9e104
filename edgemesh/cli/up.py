"""``edgemesh up``: everything that a mesh needs, in one terminal."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from edgemesh.cli.broker_choice import broker_for, broker_url
from edgemesh.cli.settings import Settings
from edgemesh.errors import BrokerError, SettingsError, TransientError
from edgemesh.node.restarts import Restarts

if TYPE_CHECKING:
    from edgemesh.node.fleet import Fleet
    from edgemesh.transport.address import BrokerAddress
    from edgemesh.transport.local_broker import LocalBroker

_LOOK_SECONDS = 1.0


def board_list(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names of boards from ``a,b,c``, none of nothing; raises SettingsError naming those there are."""
    from edgemesh.device.boards import load_board

    if value is None:
        return ()
    # A list without a name (a variable that is not set) is refused as a board that is not there.
    names = tuple(name.strip() for name in value.split(",") if name.strip()) or ("",)
    for name in names:
        load_board(name)
    return names


@click.command()
@click.option(
    "--emulate",
    "boards",
    metavar="BOARDS",
    callback=board_list,
    help="Devices that behave as these boards (pi-4b,laptop,desktop); without it, this machine is one.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="SOURCE",
    help="Model to add, repeatable (default: zoo:face).",
)
@click.option("--no-model", is_flag=True, help="Add no model.")
@click.pass_obj
def up(settings: Settings, boards: tuple[str, ...], models: tuple[str, ...], no_model: bool) -> None:
    """Run broker, decision node, gateway and devices until Ctrl-C.

    Uses the broker that --broker names or that answers on localhost:1883; else starts one there.
    """
    from edgemesh.node.fleet import Fleet
    from edgemesh.node.parent_death import end_with_parent

    if no_model and models:
        raise SettingsError("--no-model and --model contradict each other: give one of them")
    sources = () if no_model else models or ("zoo:face",)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    end_with_parent()
    with broker_for(settings, private=False) as running:
        _say(f"{running.kind} broker at {running.address}")
        with Fleet(settings.mesh, broker_url(settings, running), running.address.ca_file) as fleet:
            fleet.start_mesh(boards)
            if not boards:
                fleet.start("device", "device", "run")
            for source in sources:
                fleet.start(f"add {source}", "model", "add", source)
            _explain(settings.mesh, running.address, sources)
            restarts = Restarts(time.monotonic())
            while not over.wait(_LOOK_SECONDS):
                _look_after_broker(running, restarts, over)
                _look_after(fleet, over)
            _say("stopping")


def _look_after_broker(running: LocalBroker, restarts: Restarts, over: threading.Event) -> None:
    """Start a broker of ours again that died; raises TransientError where that is in vain."""
    why = running.ended()
    while why is not None:
        wait = restarts.wait(time.monotonic())
        if wait is None:
            raise TransientError(f"{why}; that was {restarts.in_a_row + 1} times in a row")
        _say(f"{why}; starting it again")
        if over.wait(wait):
            return
        try:
            running.start_again()
            why = None
        except BrokerError as error:
            why = str(error)
        restarts.begun(time.monotonic())


def _look_after(fleet: Fleet, over: threading.Event) -> None:
    for member in fleet.ended():
        code = member.process.returncode
        if member.arguments[:2] == ("model", "add"):
            fleet.members.remove(member)
            source = member.arguments[2]
            again = f"is not in the mesh; what is said above mended, add it with  edgemesh model add {source}"
            _say(f"{source} {'is in the mesh' if code == 0 else again}")
            continue
        wait = member.restarts.wait(time.monotonic())
        if wait is None:
            fleet.members.remove(member)
            times = member.restarts.in_a_row + 1
            _say(f"{member.name} ended {times} times in a row and is given up; see its log above")
            continue
        _say(f"{member.name} ended with status {code}; starting it again")
        if over.wait(wait):
            return  # Ctrl-C: nothing is started any more
        try:
            fleet.restart(member)
        except OSError as error:  # short of processes or memory now: the next look tries again
            _say(f"{member.name} cannot be started: {error.strerror or error}")


def _explain(mesh: str, address: BrokerAddress, sources: tuple[str, ...]) -> None:
    from edgemesh.cli.model_source import name_of

    where = _as_options(address)
    name = name_of(sources[0]) if sources else "MODEL"
    _say(
        "from another terminal:\n"
        f"  mosquitto_sub{where} -t edgemesh/v1/{mesh}/result/{name}\n"
        f"  mosquitto_pub{where} -q 1 -t edgemesh/v1/{mesh}/submit/{name} -f photo.jpg\n"
        "Ctrl-C ends everything"
    )


def _as_options(address: BrokerAddress) -> str:
    """The broker, as Mosquitto's programs take it; a password is never shown."""
    options = []
    if address.host not in ("127.0.0.1", "localhost"):
        options.append(f"-h {address.host}")
    if address.port != 1883:
        options.append(f"-p {address.port}")
    if address.username:
        options.append(f"-u {shlex.quote(address.username)}")
    if address.password:
        options.append("-P PASSWORD")
    if address.tls:
        known = address.ca_file and f"--cafile {shlex.quote(address.ca_file)}"
        options.append(known or "--tls-use-os-certs")
    return "".join(f" {option}" for option in options)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
