"""Pictures of results: what each policy took, and what happened over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import NotMeasurableError

from reproduction.results import CALM
from reproduction.stored import Stored
from reproduction.study import scenario_of

_POLICIES = ("adaptive", "static", "oracle")
_COLOURS = {
    "adaptive": "#0072b2",
    "static": "#d55e00",
    "oracle": "#009e73",
    "hindsight": "#cc79a7",
    "edge": "#b0b6be",
    "cloud": "#56b4e9",
}
_PAPER = {"latency": (0.77, 0.94), "energy": (0.64, 0.73)}
"""Shares of a static split that arXiv 2605.09623 reports: 6-23 % less latency, 27-36 % less energy."""


def draw(stored: Stored, folder: Path) -> list[Path]:
    """Write all pictures as PNG; raises NotMeasurableError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise NotMeasurableError("the pictures need matplotlib: pip install 'edgemesh[report]'") from None
    matplotlib.use("Agg")
    return [_shares(stored, folder / "shares.png"), _timelines(stored, folder / "timelines.png")]


def _shares(stored: Stored, file: Path) -> Path:
    """Bars: every policy's cost as a share of the static plan's, beside what the paper reports."""
    import matplotlib.pyplot as plt

    results = stored.results
    changing = [scenario for scenario in results.scenarios if scenario != CALM]
    figure, axes = plt.subplots(
        len(results.objectives), 1, figsize=(14, 4.5 * len(results.objectives)), squeeze=False
    )
    for axis, objective in zip(axes[:, 0], results.objectives, strict=True):
        low, high = _PAPER[objective]
        axis.axhspan(low, high, color="#f0e442", alpha=0.35, label="the paper's range against static")
        axis.axhline(1.0, color=_COLOURS["static"], linewidth=1, label="static")
        groups = [(network, scenario) for network in results.networks for scenario in changing]
        for number, policy in enumerate(("adaptive", "oracle", "hindsight")):
            heights = []
            for network, scenario in groups:
                ours = results.cost(network, scenario, objective, policy)
                theirs = results.cost(network, scenario, objective, "static")
                heights.append(ours / theirs if ours is not None and theirs else 0.0)
            places = [place + 0.27 * (number - 1) for place in range(len(groups))]
            axis.bar(places, heights, 0.25, color=_COLOURS[policy], label=policy)
        axis.set_xticks(
            range(len(groups)), [f"{network}\n{scenario}" for network, scenario in groups], fontsize=8
        )
        axis.set_ylabel(f"{objective}, share of the static plan's")
        axis.legend(fontsize=8, ncols=5, loc="lower right")
    figure.suptitle("Emulated boards, shaped links; energy is modelled")
    return _saved(figure, file)


def _timelines(stored: Stored, file: Path) -> Path:
    """Latency of each job over time, where something changes."""
    import matplotlib.pyplot as plt

    results = stored.results
    changing = [scenario for scenario in results.scenarios if scenario != CALM]
    rows, columns = max(len(results.networks), 1), max(len(changing), 1)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 3.0 * rows), squeeze=False)
    for line, network in zip(axes, results.networks, strict=True):
        for axis, scenario in zip(line, changing, strict=True):
            for policy in _POLICIES:
                _timeline(stored, axis, network, scenario, policy)
            axis.set_title(f"{network}, {scenario}", fontsize=9)
            axis.set_ylim(bottom=0)
    axes[-1][0].set_xlabel("seconds")
    axes[0][0].set_ylabel("ms per job")
    axes[0][0].legend(fontsize=8)
    figure.suptitle("Planned for latency; grey: when something changes")
    return _saved(figure, file)


def _timeline(stored: Stored, axis: Any, network: str, scenario: str, policy: str) -> None:
    result = stored.results.find(network, scenario, "latency", policy)
    if result is None:
        return
    slower = stored.scales[network]
    jobs = stored.record(result)["jobs"]
    axis.plot(
        [job["at"] for job in jobs],
        [job["seconds"] * 1e3 / slower for job in jobs],
        color=_COLOURS[policy],
        linewidth=1.2,
        label=policy,
    )
    for at in scenario_of(result.run, share=stored.share).phases[1:]:
        axis.axvline(at, color="#b0b6be", linewidth=0.7)


def _saved(figure: Any, file: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file
