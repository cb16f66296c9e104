"""Plans as text of at most 100 columns."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from edgemesh.cli.output import table_text
from edgemesh.observe.plan_table import route_text
from edgemesh.observe.printable import printable
from edgemesh.planning.wording import as_joules, as_money
from edgemesh.protocol.ids import APP_ORIGIN

if TYPE_CHECKING:
    from edgemesh.node.policy_change import Planned
    from edgemesh.protocol.assignment import Assignment, HopPrediction, PlanFailure
    from edgemesh.protocol.outcome import Outcome
    from edgemesh.protocol.what_if import PlannedRoute, WhatIfResponse

WIDTH: Final = 100
_HEADING: Final = ("device", "units", "bytes in", "transfer", "queue", "run", "measured", "energy", "sends")
_RUNNERS_UP: Final = 4
_DAY: Final = 86_400.0


def planned_text(planned: Planned) -> str:
    """The plan as a table beside what was measured, what else there was, and why."""
    lines = []
    if planned.failure is not None:
        lines += _failure_lines(planned.failure, planned.assignment)
    if planned.assignment is not None:
        lines += _assignment_lines(planned.assignment, planned.outcome)
    return "\n".join(lines)


def _failure_lines(failure: PlanFailure, assignment: Assignment | None) -> list[str]:
    """Why there is no newer plan, and what stays: requesters go on with the retained assignment."""
    f = failure
    route = f.kept or (assignment.route if assignment is not None else ())
    since = f" since {moment_text(f.since)}" if f.since is not None else ""
    lines = wrapped(f"{f.model} for {origin_text(f.origin)}: no plan{since}: {f.reason}")
    kept = f"the last good plan stays in force: {route_text(route)}" if route else "nothing is in force"
    return [*lines, *wrapped(kept, "  ")]


def _assignment_lines(assignment: Assignment, outcome: Outcome | None) -> list[str]:
    a = assignment
    rows = [_hop_row(a, hop, codec, outcome, at) for at, (hop, codec) in enumerate(_with_codecs(a))]
    rows.append(("result", "", "", ms(a.return_seconds), "", "", "", "", ""))
    if outcome is not None and outcome.transfer is not None:
        rows.append(
            ("all transfers", "", "", ms(outcome.predicted_transfer), "", "", ms(outcome.transfer), "", "")
        )
    measured = outcome.seconds if outcome is not None else None
    rows.append(
        (
            "total",
            f"0-{a.route[-1].stop}",
            "",
            ms(a.seconds),
            "",
            "",
            _or_dash(measured),
            _joules(a.joules),
            "",
        )
    )
    lines = [*_head(a, outcome), table_text(_HEADING, rows), *wrapped(f"why: {a.reason}")]
    if a.binding:
        lines += wrapped(f"constraint: {a.binding}")
    lines += [f"without {f.avoids}: {route_text(f.route)}, {ms(f.seconds)}" for f in a.fallbacks]
    for runner in a.runners_up[:_RUNNERS_UP]:
        energy = f", {_joules(runner.joules)}" if runner.joules is not None else ""
        lines += wrapped(f"next best: {route_text(runner.route)}, {ms(runner.seconds)}{energy}")
    if len(a.runners_up) > _RUNNERS_UP:
        lines.append(f"and {len(a.runners_up) - _RUNNERS_UP} more (--json lists them)")
    for idle in a.idle:
        lines += wrapped(f"idle: {idle.device}: {idle.reason}")
    if a.watts:
        used = (f"{w.device} {w.busy:.3g} W busy above idle ({w.source})" for w in a.watts)
        lines += wrapped(f"watts: {'; '.join(used)}")
    for note in a.notes:
        lines += wrapped(f"note: {note}")
    if a.emulated:
        lines += wrapped(
            f"emulated: {', '.join(a.emulated)} (times and links are those of the boards they stand for)"
        )
    return lines


def _head(a: Assignment, outcome: Outcome | None) -> list[str]:
    figures = [f"{ms(a.seconds)} predicted"]
    if outcome is not None and outcome.seconds is not None:
        figures.append(f"{ms(outcome.seconds)} measured")
    if a.joules is not None:
        figures.append(f"{_joules(a.joules)} per job")
    if a.money:
        figures.append(f"money {as_money(a.money)}")
    lines = wrapped(f"{a.model} for {origin_text(a.origin)}: {', '.join(figures)}")
    facts = [f"objective {a.objective}" + (f" within {ms(a.bound)}" if a.bound is not None else "")]
    facts.append(f"epoch {a.term}.{a.sequence}")
    if a.since is not None:
        changes = f", {a.changes} change{'s' * (a.changes != 1)} before it" if a.changes else ""
        facts.append(f"in force since {moment_text(a.since)}{changes}")
    facts.append(f"estimates {a.estimates_age:.0f} s old")
    if a.uncertainty:
        facts.append(f"uncertain by {a.uncertainty:.0%}")
    if not a.proven:
        facts.append("not proven to be the best")
    lines += wrapped("; ".join(facts), "  ")
    if outcome is not None:
        lines += wrapped(outcome_text(outcome), "  ")
    return lines


def outcome_text(outcome: Outcome) -> str:
    """How many jobs there were, and how far off the predictions are."""
    o = outcome
    text = f"{o.jobs} jobs, {o.failed} failed, {o.retried} retried"
    if o.mape is not None:
        text += f"; predictions are off by {o.mape:.1%} on average over the last {o.compared}"
    return text


def _with_codecs(a: Assignment) -> Iterable[tuple[HopPrediction, str]]:
    return zip(a.hops, (hop.codec for hop in a.route), strict=False)


def _hop_row(
    a: Assignment, hop: HopPrediction, codec: str, outcome: Outcome | None, at: int
) -> tuple[str, ...]:
    from edgemesh.observe.amounts import bytes_text

    mark = " (emulated)" if hop.device in a.emulated else ""
    local = hop.transfer == 0.0 and hop.start == 0
    measured = None
    if outcome is not None and at < len(outcome.hops):
        measured = outcome.hops[at].run + outcome.hops[at].queue
    return (
        f"{hop.device}{mark}",
        f"{hop.start}-{hop.stop}",
        "-" if local else bytes_text(hop.nbytes),
        "-" if local else ms(hop.transfer),
        ms(hop.queue),
        ms(hop.run),
        _or_dash(measured),
        _joules(hop.joules if a.joules is not None else None),
        codec,
    )


# --- what if ---------------------------------------------------------------------------------------------


def what_if_text(answer: WhatIfResponse) -> str:
    """The plan now, the plan then, the difference and why."""
    lines = [f"{answer.model} for {origin_text(answer.origin)}, if that were so (nothing is changed):"]
    rows = [
        (label, route_text(route.route), ms(route.seconds), _joules(route.joules or None))
        for label, route in (("now", answer.now), ("then", answer.then), ("now, kept then", _kept(answer)))
        if route is not None
    ]
    if rows:
        lines.append(table_text(("", "units", "latency", "energy"), rows))
    if answer.error is not None:
        lines += wrapped(answer.error)
    if answer.text:
        lines += wrapped(answer.text)
    if answer.then is not None and answer.then.hops:
        lines.append(table_text(_THEN_HEADING, _then_rows(answer.then)))
    for note in answer.notes:
        lines += wrapped(f"note: {note}")
    return "\n".join(lines)


def _kept(answer: WhatIfResponse) -> PlannedRoute | None:
    """The plan of now in the mesh of the question, where it would not be the best one anyway."""
    same = answer.then is not None and answer.kept is not None and answer.then.route == answer.kept.route
    return None if same else answer.kept


_THEN_HEADING: Final = ("then", "units", "bytes in", "transfer", "queue", "run", "energy", "sends")


def _then_rows(then: PlannedRoute) -> list[tuple[str, ...]]:
    from edgemesh.observe.amounts import bytes_text

    rows: list[tuple[str, ...]] = []
    for hop, step in zip(then.hops, then.route, strict=False):
        local = hop.transfer == 0.0 and hop.start == 0
        rows.append(
            (
                hop.device,
                f"{hop.start}-{hop.stop}",
                "-" if local else bytes_text(hop.nbytes),
                "-" if local else ms(hop.transfer),
                ms(hop.queue),
                ms(hop.run),
                _joules(hop.joules or None),
                step.codec,
            )
        )
    rows.append(("result", "", "", ms(then.return_seconds), "", "", "", ""))
    return rows


# --- words -----------------------------------------------------------------------------------------------


def origin_text(origin: str) -> str:
    """``inputs of pi-4b``."""
    return "inputs published by apps" if origin == APP_ORIGIN else f"inputs of {origin}"


def moment_text(unix_seconds: float, now: float | None = None) -> str:
    """A time of day here, with its date where it is not of the last 24 hours."""
    near = abs((time.time() if now is None else now) - unix_seconds) < _DAY
    try:
        moment = time.localtime(unix_seconds)
    except (OverflowError, ValueError, OSError):
        return "an impossible time"  # received: no clock shows it
    return time.strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M", moment)


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of at most 100 characters; later ones stand in."""
    text = printable(text)
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return lines or [""]


def ms(seconds: float) -> str:
    """``41.2 ms``."""
    return f"{seconds * 1e3:.1f} ms"


def _joules(joules: float | None) -> str:
    return "-" if joules is None else as_joules(joules)


def _or_dash(seconds: float | None) -> str:
    return "-" if seconds is None else ms(seconds)
