"""The ``edgemesh`` program: global options, and commands that are imported when they are used."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import edgemesh
from edgemesh.cli.near_commands import NearGroup, misplaced_option
from edgemesh.cli.option_names import command_defaults, name_variables, root_defaults
from edgemesh.cli.settings import Settings, config_defaults, default_config, settings_from
from edgemesh.errors import BrokerError, EdgemeshError, SettingsError
from edgemesh.observe.printable import printable, printable_lines

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("edgemesh.cli.demo:demo", "A mesh of emulated boards: one photograph in, one picture out."),
    "up": ("edgemesh.cli.up:up", "Broker, decision node, gateway and devices in one terminal."),
    "infer": ("edgemesh.cli.infer:infer", "Run a model on files, a folder or arrays."),
    "model": ("edgemesh.cli.model:model", "Add, list, show, check and remove models."),
    "plan": ("edgemesh.cli.plan:plan", "The assignment in force, and why; what would be if."),
    "history": ("edgemesh.cli.history:history", "What was decided, and what came of it."),
    "simulate": ("edgemesh.cli.simulate:simulate", "A mesh that changes, under a virtual clock."),
    "devices": ("edgemesh.cli.devices:devices", "Who is there, and what they hold and do."),
    "device": ("edgemesh.cli.run:device", "Run this machine as a device, set its meter, or forget one."),
    "decision": ("edgemesh.cli.run:decision", "Run a decision node."),
    "gateway": ("edgemesh.cli.run:gateway", "Run a gateway for apps."),
    "broker": ("edgemesh.cli.run:broker", "Run a broker for first steps."),
    "doctor": ("edgemesh.cli.doctor:doctor", "What is wrong, and how to mend it."),
}
"""Name to where it is and its line in ``--help``: importing all of them would take a second on a Pi."""

_CALLED = {
    **dict.fromkeys(("status", "ps", "list", "ls", "top", "nodes"), "edgemesh devices"),
    "run": "edgemesh infer  or  edgemesh device run",
    "start": "edgemesh up  or  edgemesh device run",
    "predict": "edgemesh infer",
    "add": "edgemesh model add",
    "show": "edgemesh model show  or  edgemesh plan",
    "check": "edgemesh doctor  or  edgemesh model check",
    **dict.fromkeys(("log", "logs"), "edgemesh history"),
    "help": "edgemesh --help",
    "version": "edgemesh --version",
}
"""Words that people of other programs try, to what does that here."""
_VARIABLES = "EDGEMESH"
"""What the variables of options begin with."""
_TAKES_NOTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a file or a disk says that takes no more."""
_EXIT_FAILED, _EXIT_USAGE, _EXIT_UNREACHABLE = 1, 2, 3


class LazyGroup(NearGroup):
    """A group whose commands are imported when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        name_variables(command, f"{_VARIABLES}_{cmd_name.upper()}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, called=_CALLED, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--mesh", metavar="NAME", help="Mesh to use (default: home).")
@click.option(
    "--broker",
    metavar="URL",
    help="mqtt://, mqtts://, ws:// or wss:// URL, or 'embedded' (default: mqtt://localhost:1883, or one that "
    "announces itself by mDNS).",
)
@click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path),
    help="Certificate of the CA behind mqtts:// or wss://.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="EDGEMESH_CONFIG",
    is_eager=True,
    help="TOML file with these options, and those of commands in tables of their names: [infer], "
    "[device.run] (default: ~/.config/edgemesh/config.toml).",
)
@click.option("-v", "--verbose", count=True, help="More to say on standard error; twice for everything.")
@click.version_option(edgemesh.__version__, prog_name="edgemesh")
@click.pass_context
def cli(
    ctx: click.Context,
    mesh: str | None,
    broker: str | None,
    ca_file: Path | None,
    config_file: Path | None,
    verbose: int,
) -> None:
    """One neural network across the devices you already have, over MQTT.

    Each option can also be set by an environment variable and in the configuration file, in that order:
    --mesh by EDGEMESH_MESH, --id of  edgemesh device run  by EDGEMESH_DEVICE_RUN_ID.
    """
    content = config_defaults(config_file)
    try:
        own = root_defaults(ctx.command, content, list(COMMANDS))
        ctx.default_map = {**_defaults_of_invoked(ctx, content), **(ctx.default_map or {})}
    except SettingsError as error:
        raise SettingsError(f"configuration file {config_file or default_config()}: {error}") from None
    ctx.obj = settings_from(content, mesh, broker, ca_file, verbose or own.get("verbose", 0))
    _set_up_logging(ctx.obj)


name_variables(cli, _VARIABLES)


def _defaults_of_invoked(ctx: click.Context, content: dict[str, Any]) -> dict[str, Any]:
    # Of this command only: to check the tables of others, they would have to be imported.
    name = ctx.invoked_subcommand or ""
    command, table = cli.get_command(ctx, name), content.get(name)
    # `broker = "mqtt://..."` is ours, though a command has that name too.
    if command is None or not isinstance(table, dict):
        return {}
    return {name: command_defaults(command, table, name)}


def _set_up_logging(settings: Settings) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(settings.verbose, 2)]
    name = os.environ.get("EDGEMESH_LOG_NAME", "")
    form = (
        f"%(asctime)s {name:<10} %(levelname)-7s %(message)s"
        if name
        else "%(asctime)s %(levelname)s %(message)s"
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter(form, "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])


class PrintableFormatter(logging.Formatter):
    """One line for a message, whatever another machine put into it; tracebacks keep theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without what steers a terminal or looks like a line of its own."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """A traceback, which may end in a text of another machine."""
        return printable_lines(super().formatException(ei))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: expected failures are one line on standard error, and exit codes mean something.

    0 done, 1 it failed (also when nobody in the mesh answers), 2 wrong usage, 3 the broker, or the agent of
    an origin, is not reachable.
    """
    # A name that the terminal cannot show must not end what is under way; JSON escapes it.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the program run with ``arguments``."""
    try:
        outcome: Any = cli.main(arguments, prog_name="edgemesh", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return _EXIT_FAILED
    except click.ClickException as error:
        (misplaced_option(error, cli) or error).show()
        return error.exit_code
    except OSError as error:
        # Files of ours are written where somebody says what the disk is needed for: this is standard output.
        if error.errno not in _TAKES_NOTHING:
            raise
        click.echo(f"edgemesh: cannot write what it has to say: {error.strerror}", err=True)
        return _EXIT_FAILED
    except EdgemeshError as error:
        click.echo(printable(f"edgemesh: {error}"), err=True)
        return _status(error)
    return outcome if isinstance(outcome, int) else 0


def _status(error: EdgemeshError) -> int:
    if isinstance(error, BrokerError):
        return _EXIT_UNREACHABLE
    return _EXIT_USAGE if isinstance(error, SettingsError) else _EXIT_FAILED


if __name__ == "__main__":
    main()
