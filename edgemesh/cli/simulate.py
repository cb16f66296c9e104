"""``edgemesh simulate``: a scenario under a virtual clock, with the decision node and with baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemesh.cli.finite_range import FiniteRange
from edgemesh.cli.output import json_option, print_json, table_text
from edgemesh.cli.writable import cannot_write, check_writable
from edgemesh.errors import SettingsError
from edgemesh.node.worker_processes import worker_processes

if TYPE_CHECKING:
    from edgemesh.simulation.compare import Summary
    from edgemesh.simulation.scenario import Scenario

_HEADING = (
    "plan", "mean", "p50", "p95", "J/job", "KB/job", "jobs", "lost", "switches", "error", "cost",
)  # fmt: skip
_TEXTS = {
    "decided": "decision node",
    "static": "static",
    "middle": "cut in the middle",
    "origin": "all on origin",
    "fastest": "all on the fastest",
    "hindsight": "best fixed plan",
    "oracle": "oracle per phase",
}
_DRAWN = ("decided", "static", "oracle")


@click.command()
@click.argument("scenario")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Only this model of the scenario, repeatable (default: all).",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Another chance for noise and times of jobs (default: the scenario's).",
)
@click.option("--hours", type=FiniteRange(0.01, 1000.0), help="Run so long (default: as the scenario says).")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="At once.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Draw latency over time.")
@json_option
def simulate(
    scenario: str,
    models: tuple[str, ...],
    seed: int | None,
    hours: float | None,
    processes: int,
    png: Path | None,
    as_json: bool,
) -> None:
    """Play SCENARIO (a TOML file, or a shipped one) with the decision node and with plans to compare it with.

    Devices, broker and links are modelled and the clock is virtual; what decides, works and asks are the same
    objects as in a real mesh.

    Shipped: battery-drains, calm, camera-streams, cloud-latency, device-leaves, laptop-bursts, pi-throttles,
    wifi-swings.
    """
    from edgemesh.simulation.compare import changed, compare
    from edgemesh.simulation.scenario_file import load_scenario

    wanted = changed(load_scenario(scenario), seed=seed, hours=hours)
    unknown = sorted(set(models) - set(wanted.models))
    if unknown:
        raise SettingsError(
            f"--model {unknown[0]} is not in scenario {wanted.name}; it has {', '.join(wanted.models)}"
        )
    chosen = models or wanted.models
    if png is not None:
        check_writable(png)
    with worker_processes(processes) as pool:
        summaries = compare(wanted, chosen, pool=pool)
    if png is not None:
        _draw(wanted, summaries, png)
    if as_json:
        print_json({"modelled": True, "scenario": wanted.name, "seed": wanted.seed, "runs": summaries})
        return
    click.echo(f"{wanted.name}: {wanted.description}")
    click.echo(f"all figures are modelled: {wanted.duration:g} s of virtual time, seed {wanted.seed}")
    for model in chosen:
        click.echo(f"\n{_of_model(model, [s for s in summaries if s.model == model])}")


def _of_model(model: str, summaries: Sequence[Summary]) -> str:
    best = next((s.cost for s in summaries if s.name == "oracle"), None)
    rows = [_row(summary, best) for summary in summaries]
    objective = summaries[0].objective
    lines = [f"{model}, objective {objective}; cost is what it minimises, against the oracle's"]
    lines.append(table_text(_HEADING, rows))
    decided = next((s for s in summaries if s.name == "decided"), None)
    lines += [
        f"{switch.at:7.1f} s  {switch.model} for {switch.origin}: {switch.route}; {switch.reason}"
        for switch in (decided.switches if decided is not None else ())
    ]
    return "\n".join(lines)


def _row(s: Summary, best: float | None) -> tuple[str, ...]:
    return (
        _TEXTS[s.name],
        f"{s.mean * 1e3:.1f} ms",
        f"{s.p50 * 1e3:.1f} ms",
        f"{s.p95 * 1e3:.1f} ms",
        f"{s.joules:.4g}",
        f"{s.nbytes / 1e3:.0f}",
        str(s.jobs),
        str(s.lost),
        str(len(s.switches)),
        "-" if s.error is None else f"{s.error:.1%}",
        "-" if not best else f"{s.cost / best - 1.0:+.1%}",
    )


def _draw(scenario: Scenario, summaries: Sequence[Summary], path: Path) -> None:
    from edgemesh.observe.amounts import seconds_text
    from edgemesh.observe.timeline_chart import Line, Panel, timeline_png

    panels = []
    for model in dict.fromkeys(s.model for s in summaries):
        lines = [
            Line(
                f"{_TEXTS[s.name]} {s.mean * 1e3:.0f} ms, {s.joules:.3g} J",
                [math.nan if value is None else value for value in s.timeline],
                [switch.at / scenario.duration for switch in s.switches],
            )
            for s in summaries
            if s.model == model and s.name in _DRAWN
        ]
        panels.append(Panel(f"{model}, latency:", lines))
    title = f"{scenario.name} (modelled)"
    try:
        timeline_png(title, panels, scenario.duration, seconds_text, path)
    except OSError as error:
        raise cannot_write(path, error) from None
