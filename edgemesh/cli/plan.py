"""``edgemesh plan``: the assignment in force and why, what else there could be, what is kept to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemesh.cli.output import json_option, print_json
from edgemesh.cli.policy_options import policy_options
from edgemesh.cli.settings import Settings
from edgemesh.cli.what_if import FORMS, parsed_question
from edgemesh.cli.writable import cannot_write
from edgemesh.errors import NoRouteError, SettingsError
from edgemesh.planning.wording import as_joules
from edgemesh.protocol.ids import checked_id

if TYPE_CHECKING:
    from edgemesh.node.plan_watch import PlanChange
    from edgemesh.node.policy_change import Plans, PolicyChange
    from edgemesh.protocol.what_if import FrontResponse, WhatIfResponse


@click.command()
@click.argument("arguments", nargs=-1, metavar="[MODEL]")
@click.option(
    "--origin", metavar="DEVICE", help="Where inputs arise: a device, or app (default: all that are planned)."
)
@click.option("--front", is_flag=True, help="Draw latency against energy of all plans worth a thought.")
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw the front as a picture too."
)
@click.option(
    "--what-if", "what_if", multiple=True, metavar="CHANGE...",
    help=f"The plan if something were different; nothing is changed. Some of {', '.join(FORMS)}.",
)  # fmt: skip
@click.option("--explain", is_flag=True, help="Say in one sentence which constraint binds.")
@click.option("--watch", is_flag=True, help="One line for each change, until Ctrl-C.")
@policy_options
@json_option
@click.pass_obj
def plan(
    settings: Settings,
    arguments: tuple[str, ...],
    origin: str | None,
    front: bool,
    png: Path | None,
    what_if: tuple[str, ...],
    explain: bool,
    watch: bool,
    change: PolicyChange,
    as_json: bool,
) -> int:
    """Show which units run where, and why; ask what would be; change what the planner keeps to.

    What is given replaces what was given before of the same option; the rest stays.
    """
    model, what_if = _sorted_out(arguments, what_if)
    asked = [name for name, given in _questions(front or png is not None, what_if, explain, watch) if given]
    if len(asked) > 1:
        raise SettingsError(f"{asked[0]} and {asked[1]} are different questions: ask one at a time")
    if asked and not change.is_empty:
        raise SettingsError(f"{asked[0]} only asks: change what is kept to in a command of its own")
    origin = None if origin is None else checked_id(origin, "--origin")
    if asked == ["--watch"]:
        _watch(settings, model, origin, as_json=as_json)
    elif asked == ["--front"]:
        _front(settings, model, origin, png, as_json=as_json)
    elif asked == ["--what-if"]:
        return _what_if(settings, model, origin, what_if, as_json=as_json)
    elif asked == ["--explain"]:
        _explain(settings, model, origin, as_json=as_json)
    elif model is None and (origin is not None or not change.is_empty):
        raise SettingsError("name the model too:  edgemesh plan MODEL ...")
    else:
        _show(settings, model, origin, change, as_json=as_json)
    return 0


def _sorted_out(arguments: tuple[str, ...], what_if: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The model, and all changes: ``--what-if A B C`` gives the option A only, but no model has a colon."""
    changes = tuple(text for text in arguments if what_if and ":" in text)
    models = [text for text in arguments if text not in changes]
    if len(models) > 1:
        raise SettingsError(f"one model at a time, not {' and '.join(models[:3])}: leave it out to see all")
    return (checked_id(models[0], "model name") if models else None), (*what_if, *changes)


def _questions(front: bool, what_if: Sequence[str], explain: bool, watch: bool) -> list[tuple[str, bool]]:
    return [("--front", front), ("--what-if", bool(what_if)), ("--explain", explain), ("--watch", watch)]


# --- what is in force ------------------------------------------------------------------------------------


def _show(
    settings: Settings, model: str | None, origin: str | None, change: PolicyChange, *, as_json: bool
) -> None:
    from edgemesh.node.policy_change import read_plans

    plans = read_plans(settings.mesh, settings.address, model, origin, change)
    if as_json:
        print_json(_plain(plans))
    elif not plans.plans:
        click.echo(
            f"nothing is planned in mesh {settings.mesh}: see  edgemesh model list,  edgemesh devices",
            err=True,
        )
    else:
        _print(plans)


def _print(plans: Plans) -> None:
    from edgemesh.cli.plan_text import planned_text, wrapped
    from edgemesh.roles.policy_words import policy_text

    click.echo("\n\n".join(planned_text(planned) for planned in plans.plans))
    for name, policy in sorted(plans.policies.items()):
        by = f" (set by {policy.changed_by})" if policy.changed_by else ""
        click.echo("\n".join(wrapped(f"{name} is kept to: {policy_text(policy)}{by}")))


def _plain(plans: Plans) -> dict[str, Any]:
    return {
        "assignments": [p.assignment for p in plans.plans if p.assignment is not None],
        "outcomes": [p.outcome for p in plans.plans if p.outcome is not None],
        "failures": [p.failure for p in plans.plans if p.failure is not None],
        "policies": plans.policies,
    }


# --- questions -------------------------------------------------------------------------------------------


def _front(
    settings: Settings, model: str | None, origin: str | None, png: Path | None, *, as_json: bool
) -> None:
    from edgemesh.node.plan_questions import asked_front

    answers = asked_front(settings.mesh, settings.address, model, origin)
    good = _without_errors(answers)
    if png is not None:
        _draw(good, png)
    if as_json:
        print_json(good)
        return
    import shutil

    from edgemesh.observe.front_chart import front_text

    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    click.echo("\n\n".join(front_text(answer, width) for answer in good))


def _draw(answers: Sequence[FrontResponse], png: Path) -> None:
    from edgemesh.observe.front_chart import front_png

    if len(answers) > 1:
        origins = ", ".join(answer.origin for answer in answers)
        raise SettingsError(f"one picture shows one front: name the origin with --origin, one of {origins}")
    try:
        front_png(answers[0], png)
    except OSError as error:
        raise cannot_write(png, error) from None
    click.echo(f"drawn in {png}", err=True)


def _what_if(
    settings: Settings, model: str | None, origin: str | None, texts: Sequence[str], *, as_json: bool
) -> int:
    """Exit status: 1 where no answer is one, which JSON says of each."""
    from edgemesh.cli.plan_text import what_if_text
    from edgemesh.node.plan_questions import asked_what_if

    question = parsed_question(texts)
    answers = asked_what_if(
        settings.mesh,
        settings.address,
        model,
        origin,
        off=question.off,
        links=question.links,
        loads=question.loads,
        batteries=question.batteries,
        boards=[(board.board, board.device) for board in question.boards],
    )
    refused = all(_is_refused(answer) for answer in answers)
    if as_json:
        print_json(answers)
    elif refused:
        raise NoRouteError(answers[0].error or "no answer")
    else:
        click.echo("\n\n".join(what_if_text(answer) for answer in answers))
    return 1 if refused else 0


def _is_refused(answer: WhatIfResponse) -> bool:
    """Whether there is nothing to show but the error."""
    return answer.error is not None and answer.now is None and answer.then is None


def _explain(settings: Settings, model: str | None, origin: str | None, *, as_json: bool) -> None:
    from edgemesh.cli.plan_text import origin_text, wrapped
    from edgemesh.node.plan_questions import asked_explanation

    answers = _without_errors(asked_explanation(settings.mesh, settings.address, model, origin))
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        click.echo("\n".join(wrapped(f"{answer.model} for {origin_text(answer.origin)}: {answer.text}")))


def _without_errors(answers: Sequence[Any]) -> list[Any]:
    """Answers that are some; raises NoRouteError with the first error where there is none."""
    good = [answer for answer in answers if answer.error is None]
    if not good:
        raise NoRouteError(next(answer.error for answer in answers))
    return good


# --- watching --------------------------------------------------------------------------------------------


def _watch(settings: Settings, model: str | None, origin: str | None, *, as_json: bool) -> None:
    import asyncio

    from edgemesh.cli.foreground import stop_signal
    from edgemesh.node.plan_watch import plan_changes

    async def watched() -> None:
        over = stop_signal(asyncio.get_running_loop())
        async for change in plan_changes(settings.mesh, settings.address, model, origin, over):
            if as_json:
                print_json({"at": time.time(), "change": change})
            else:
                click.echo(change_text(change, time.strftime("%H:%M:%S")))

    asyncio.run(watched())


def change_text(change: PlanChange, at: str) -> str:
    """``17:45:10 face for app: pi-4b 0-3 > desktop 3-58, 41.2 ms, 610 mJ: why``."""
    from edgemesh.observe.printable import printable

    return printable(f"{at} {_change_text(change)}")


def _change_text(change: PlanChange) -> str:
    from edgemesh.observe.plan_table import route_text

    where = f"{change.model} for {change.origin}" if change.origin else change.model
    if change.kind == "plan":
        energy = f", {as_joules(change.joules)}" if change.joules is not None else ""
        what = f"{route_text(change.route)}, {(change.seconds or 0.0) * 1e3:.1f} ms{energy}"
        return f"{where}: {what}: {change.text}"
    if change.kind == "failure":
        kept = f" ({route_text(change.route)} stays)" if change.route else ""
        return f"{where}: no plan{kept}: {change.text}"
    return f"{where}: {'kept to: ' if change.kind == 'policy' else ''}{change.text}"
