"""Groups that answer a command which is not there with the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import click


class NearGroup(click.Group):
    """A group that says which command was meant, by its spelling or by what people call it elsewhere."""

    def __init__(self, *args: Any, called: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """``called`` maps a word to what does that here, such as ``ps`` to ``edgemesh devices``."""
        super().__init__(*args, **kwargs)
        self._called = dict(called or {})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but the error names what was meant; not every version of click has a guess."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = [f"{ctx.command_path} {each}" for each in difflib.get_close_matches(name, known)]
            meant = self._called.get(name) or "  or  ".join(near)
            question = f" Did you mean  {meant}?" if meant else ""
            ctx.fail(f"No such command '{name}'.{question}")
        return super().resolve_command(ctx, args)


def misplaced_option(error: click.ClickException, root: click.Command) -> click.UsageError | None:
    """What to say in place of ``error`` where an option of the program itself stands behind a command."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None or error.ctx.command is root:
        return None
    name = error.option_name
    if not any(name in param.opts for param in root.params):
        return None
    command = error.ctx.command_path.removeprefix("edgemesh ")
    return click.UsageError(f"{name} goes before the command:  edgemesh {name} ... {command}", error.ctx)
