"""Options by variables and by the configuration file, under the names that ``--help`` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from edgemesh.cli.main import COMMANDS, run
from edgemesh.cli.main import cli as program
from edgemesh.cli.option_names import command_defaults

VALUES: dict[str, str] = {
    "--price": "a=1/h",
    "--zone": "home=a",
    "--pin": "0-1:a",
    "--keep-off": "0-1:a",
    "--emulate": "pi-4b",
    "--image": "8x8",
    "--mean": "1",
    "--scale": "1",
}


def options() -> Iterator[tuple[tuple[str, ...], click.Command, click.Option]]:
    for name in COMMANDS:
        command = program.get_command(click.Context(program), name)
        assert command is not None
        commands = command.commands if isinstance(command, click.Group) else {}
        for path, each in [((name,), command), *(((name, sub), c) for sub, c in commands.items())]:
            yield from ((path, each, param) for param in each.params if isinstance(param, click.Option))


def given(command: click.Command, defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """Parameters of a command that nothing is said to on the command line."""
    arguments = ["7"] * sum(isinstance(param, click.Argument) for param in command.params)
    return command.make_context("it", arguments, default_map=defaults).params


def sample(option: click.Option) -> Any:
    """A value that is not the default."""
    if option.is_flag:
        return option.default is not True
    if isinstance(option.type, click.Choice):
        return list(option.type.choices)[-1]
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
        return 17
    return VALUES.get(option.opts[0], "other")


@pytest.mark.parametrize(
    ("path", "command", "option"),
    [pytest.param(*row, id=" ".join((*row[0], row[2].opts[0]))) for row in options()],
)
def test_every_option_counts_under_its_own_name(
    path: tuple[str, ...], command: click.Command, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a reader: those whose parameter has another name (--id, --json, --pin) were ignored."""
    value, long = sample(option), option.opts[0][2:]
    for variable in [name for name in os.environ if name.startswith("EDGEMESH_")]:
        monkeypatch.delenv(variable)
    before = given(command)

    by_table = given(command, command_defaults(command, {long: value}, "it"))
    monkeypatch.setenv("_".join(("EDGEMESH", *path, *long.split("-"))).upper(), str(value))
    by_variable = given(command)

    assert by_table != before
    assert by_table == by_variable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("broker2 = 1", "broker2 is not known; it has broker, ca, "),
        ("[nosuch]\nx = 1", "nosuch is not known; it has "),
        ('config = "other.toml"', "config is not known"),
        ("[devices]\nnosuch = 1", "devices.nosuch is not known; devices has json, quick"),
        ("[devices]\nas_json = true", "devices.as_json is not known; devices has json, quick"),
        ("ca = 5", "ca must be a text, not 5"),
        ("broker = 5", "broker must be a text, not 5"),
        ("mesh = true", "mesh must be a text, not True"),
        ("verbose = 'yes'", "verbose must be a whole number, not 'yes'"),
        ("devices = 5", "devices must be a table [devices] of options, not 5"),
        ("[devices]\njson = 1", "devices.json must be true or false, not 1"),
    ],
)
def test_what_a_configuration_file_cannot_say_is_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by a reader: keys were ignored without a word, and values of another type gave tracebacks."""
    file = tmp_path / "config.toml"
    file.write_text(text)

    assert run(["--config", str(file), "devices"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"edgemesh: configuration file {file}: {said}") and err.count("\n") == 1


def test_the_file_that_nobody_named_is_named_where_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by a reader: of a file from long ago it was said that one is wrong, and not which."""
    monkeypatch.setenv("EDGEMESH_HOME", str(tmp_path))
    file = tmp_path / "config" / "config.toml"
    file.parent.mkdir()
    file.write_text("brokr = 5")

    assert run(["devices"]) == 2
    assert capsys.readouterr().err.startswith(f"edgemesh: configuration file {file}: brokr is not known")


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("[infer]\ntimeout = [5]", "infer m x", "infer.timeout must be a number, not [5]"),
        ("[infer]\nsave = 5", "infer m x", "infer.save must be a text, not 5"),
        ("[model]\nadd = 5", "model list", "model.add must be a table [model.add] of options, not 5"),
        ("[model.add]\nnosuch = 5", "model list", "model.add.nosuch is not known; model.add has all, fit"),
        ("[up]\nmodel = [5]", "up", "up.model must be a text, not 5"),
    ],
)
def test_the_tables_of_a_command_are_checked_with_it(
    text: str, arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)

    assert run(["--config", str(file), *arguments.split()]) == 2
    assert said in capsys.readouterr().err


def test_one_text_is_enough_where_an_option_may_be_given_again() -> None:
    (up,) = [
        command for path, command, option in options() if path == ("up",) and option.opts[0] == "--model"
    ]

    assert command_defaults(up, {"model": "zoo:face", "no-model": True}, "up") == {
        "models": ["zoo:face"],
        "no_model": True,
    }
