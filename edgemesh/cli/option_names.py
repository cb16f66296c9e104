"""Options without flags: one name each, in variables and in the tables of the configuration file.

``--in-flight`` of ``edgemesh plan`` is the variable EDGEMESH_PLAN_IN_FLIGHT, and ``in-flight`` in the table
``[plan]``. Click would take the names of the functions' parameters, which no person has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edgemesh.errors import SettingsError
from edgemesh.protocol.unknown_keys import unknown_key


def name_variables(command: click.Command, prefix: str) -> None:
    """Let the options of ``command``, and of the commands in it, be set by variables that begin so."""
    for key, option in _options(command).items():
        option.envvar = f"{prefix}_{key.upper()}"
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            name_variables(each, f"{prefix}_{name.upper()}")


def root_defaults(root: click.Command, tables: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """What a file says of the program's own options; ``names`` are those of the commands' tables.

    By parameter, as click takes it. Raises SettingsError naming a key that is not known, or its wrong value.
    """
    own = {key: value for key, value in tables.items() if not (key in names and isinstance(value, dict))}
    return _defaults(own, "", _options(root), {}, names)


def command_defaults(command: click.Command, table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The same of the options of ``command``, of which the table at ``place`` is."""
    commands = command.commands if isinstance(command, click.Group) else {}
    return _defaults(table, place, _options(command), commands, list(commands))


def _defaults(
    table: Mapping[str, Any],
    place: str,
    options: Mapping[str, click.Option],
    commands: Mapping[str, click.Command],
    names: list[str],
) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        at = f"{place}.{key}" if place else key
        option = options.get(key.replace("-", "_"))
        if option is not None:
            assert option.name is not None, "click names every option"
            defaults[option.name] = _value(option, value, at)
        elif key not in names:
            raise SettingsError(unknown_key(place, key, [*map(_as_written, options), *names]))
        elif not isinstance(value, dict):
            raise SettingsError(f"{at} must be a table [{at}] of options, not {value!r}")
        else:
            defaults[key] = command_defaults(commands[key], value, at)
    return defaults


def _options(command: click.Command) -> dict[str, click.Option]:
    """Options by key; those that click sees to first (``--version``, ``--config``) are for flags."""
    found = (param for param in command.params if isinstance(param, click.Option) and not param.is_eager)
    return {
        next(o for o in option.opts if o.startswith("--"))[2:].replace("-", "_"): option for option in found
    }


def _as_written(key: str) -> str:
    return key.replace("_", "-")


def _value(option: click.Option, value: object, at: str) -> object:
    if option.multiple:
        return [_single(option, each, at) for each in (value if isinstance(value, list) else [value])]
    return _single(option, value, at)


def _single(option: click.Option, value: object, at: str) -> object:
    # Click converts texts, and fails without a sentence on what is none and not of the type either.
    wanted, kinds = _WANTED_TEXT
    if option.is_flag:
        wanted, kinds = "true or false", (bool,)
    elif isinstance(option.type, click.types.IntParamType):
        wanted, kinds = "a whole number", (int,)
    elif isinstance(option.type, click.types.FloatParamType):
        wanted, kinds = "a number", (int, float)
    if type(value) not in kinds:
        raise SettingsError(f"{at} must be {wanted}, not {value!r}")
    return value


_WANTED_TEXT: tuple[str, tuple[type, ...]] = ("a text", (str,))
