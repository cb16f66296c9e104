"""Evaluation: ``docs/evaluation.md``, made from stored results alone; no figure in it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

from benchmarks.report import Claim, NotMeasurableError

from edgemesh.device.boards import load_board
from reproduction.results import CALM
from reproduction.stored import Stored
from reproduction.study import ADAPTIVE, Run, scenario_of
from reproduction.tables import head, markdown, rows

_PAPER = (("latency", "6-23 % less", "latency"), ("energy", "27-36 % less", "modelled energy"))
"""arXiv 2605.09623: VGG16, AlexNet and MobileNetV2 over a Pi, a laptop and a desktop, to a static split."""
_OUT = re.compile(r"--out \S+")
"""Where somebody keeps results is nobody else's business."""
_CHANGES_OF_SCENARIOS: tuple[str, ...] = (
    "All: `skips = true` makes the simulator skip late frames as the testbed's camera always did.",
    "leave: `killed = true` says what the testbed always did, the death of an agent that TCP tells of at "
    "once; the simulator pulled the plug.",
)
"""Changes of scenario files since the first full run, one sentence each."""


_EMULATED = (
    "## What is emulated\n\n"
    "Boards: the real units run on this machine, then the executor waits until the board's time has "
    "passed; "
    "other programs on a board are a longer wait. Watts are the boards' published figures, nothing is "
    "metered. Links: rate and delay are shaped, there is no loss and no contention for air between "
    "devices. Weights are random, which changes no operation. Everything else is the product: protocol, "
    "broker, agents, estimates, decisions, switching, retries."
)
_THREATS = (
    "## Threats to validity\n\n"
    "* One machine runs everything: what else it does makes jobs late, in whichever run it happens.\n"
    "* A board's time for a unit is its share of this machine's time; a board with slow memory differs.\n"
    "* Speed checks and profile runs of idle devices (at most 1 % of their time) are not in the joules; "
    "devices make them under every policy.\n"
    "* A run lasts seconds and a change is acted on within seconds, so the cost of reacting weighs "
    "more than "
    "it would over hours; `tools/bench decide` plays 20 to 40 minutes in the simulator.\n"
    "* A frame that comes while the one before is late is skipped, so a slow phase has fewer jobs in the "
    "mean: it flatters whoever is slow there.\n"
    "* Every run is made once; repeat with `--seed` for a spread."
)


def evaluation(stored: Stored, peers: Path | None) -> str:
    """The page; raises NotMeasurableError when the file of ``peers`` cannot be read."""
    parts = [
        "# Evaluation",
        "This page is written by `tools/reproduce --report`; figures come from one run of the experiment and "
        "from nowhere else.",
        _set_up(stored),
        _against_the_paper(stored),
        "## Claims",
        _claims(stored, peers),
        "![Cost of each policy as a share of the static plan's](evaluation-shares.png)",
        "![Latency of each job over time](evaluation-timelines.png)",
        "A claim that the oracle itself does not reach is marked `-`: the note has the oracle's share and "
        "ours.",
        "## Every run",
        markdown(head(), rows(stored)),
        "`J` is modelled: (busy - idle watts) of the board times the seconds that units ran for jobs, as if "
        "no other program had held them up, and radio watts times the airtime of all bytes, heartbeats and "
        "probes included. `J held` charges a run for as long as it lasted. Claims use `J`: what other "
        "programs draw they draw without the run.",
        _EMULATED,
        _threats(stored),
        _scenario_changes(),
    ]
    return "\n\n".join(parts) + "\n"


def _set_up(stored: Stored) -> str:
    first = stored.results.all[0].run
    scenario = scenario_of(first)
    boards = [load_board(device.board) for device in scenario.devices]
    body = [
        (
            device.name,
            board.name,
            _figure(board.idle_watts, "W"),
            _figure(board.busy_watts, "W"),
            f"{board.link.up_bytes_per_second * 8e-6:.0f} Mbit/s" if board.link else "-",
            f"{board.link.delay_up * 1e3:.2f} ms" if board.link else "-",
        )
        for device, board in zip(scenario.devices, boards, strict=True)
    ]
    scenarios = [
        (name, scenario_of(Run(first.network, name, "latency", ADAPTIVE)).description)
        for name in stored.results.scenarios
    ]
    scales = ", ".join(f"{network} {scale:.2f}" for network, scale in stored.scales.items())
    return "\n\n".join(
        [
            "## Set-up",
            f"`{_OUT.sub('--out DIR', stored.command)}`, begun {stored.began}, "
            f"{stored.minutes:.0f} minutes of runs, seed {stored.seed}; {stored.machine}.",
            "Real processes (agents, executors, decision node, a camera program), a real Mosquitto, one "
            "network "
            "namespace per device; rates by tbf, delays by a relay. The camera is the first device.",
            markdown(("device", "board (emulated)", "idle", "busy", "link", "delay"), body),
            markdown(("scenario", "what happens"), scenarios),
            f"This machine is slower than the fastest board, so time is stretched: {scales} times; "
            f"latencies and "
            "joules are given as of the boards. Seconds of the scenarios, heartbeats and reaction times "
            "are not "
            "stretched, so a change lasts for fewer jobs than it would in truth.",
            "Policies: `adaptive`, the decision node, new and without memory at the start of each run "
            "(devices tell it the newest measurements of their links); `static`, the same planner's best "
            "plan at the start, then kept; `edge`, all on the camera; `cloud`, "
            "all on "
            "the fastest other device; `hindsight`, the best plan that never changes; `oracle`, the best "
            "plan of "
            "each phase. Fixed plans are made on the true figures. Policies with the same plans at the same "
            "times share one run. `edge`, `cloud` and `hindsight` are played at a third of the length.",
            "Do the emulated boards take as long as the boards would?",
            markdown(
                ("device", "model", "wanted", "measured", "ratio"),
                [
                    (
                        check.device,
                        check.model,
                        f"{check.board_seconds * 1e3:.1f} ms",
                        f"{check.measured_seconds * 1e3:.1f} ms",
                        f"{check.ratio:.3f}{'' if check.holds else ' (off by more than 10 %)'}",
                    )
                    for check in stored.checks
                ],
            ),
        ]
    )


def _against_the_paper(stored: Stored) -> str:
    results = stored.results
    changing = [scenario for scenario in results.scenarios if scenario != CALM]
    body = []
    for objective, paper, what in _PAPER:
        for network, ratios in results.ratios(objective, ADAPTIVE, "static", changing).items():
            oracle = results.ratios(objective, "oracle", "static", changing).get(network, [])
            body.append(
                (
                    what,
                    network,
                    paper,
                    _less(fmean(ratios)),
                    _less(min(ratios)),
                    _less(fmean(oracle)) if oracle else "-",
                )
            )
    return "\n\n".join(
        [
            "## Beside the paper",
            "arXiv 2605.09623 reports its figures against a static split on a Pi, a laptop and a desktop. "
            "Its "
            "links and loads are not ours, so the columns stand beside each other and are not a race.",
            markdown(
                (
                    "against static",
                    "network",
                    "paper",
                    "ours, mean of changing scenarios",
                    "ours, best scenario",
                    "oracle, mean",
                ),
                body,
            ),
        ]
    )


def _claims(stored: Stored, peers: Path | None) -> str:
    body = [_claim(claim, "tools/reproduce") for claim in stored.results.claims()]
    if peers is not None:
        body += [_claim(claim, command) for claim, command in _peers(peers)]
    return markdown(("claim", "value", "limit", "", "command"), body)


def _peers(file: Path) -> list[tuple[Claim, str]]:
    try:
        plain = json.loads(file.read_text("utf-8").splitlines()[-1])
        return [
            (
                Claim(each["claim"], each["value"], each["limit"], each["unit"], each["note"]),
                plain["command"],
            )
            for each in plain["claims"]
        ]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise NotMeasurableError(
            f"{file} cannot be read ({error}): make it with  tools/bench peers --json > {file}"
        ) from None


def _claim(claim: Claim, command: str) -> tuple[str, ...]:
    value = "-" if claim.value is None else f"{claim.value:.3f}{claim.unit}"
    verdict = "holds" if claim.holds else "**does not hold**"
    if claim.value is None:
        verdict = "not reachable"
    note = f" ({claim.note})" if claim.note else ""
    return f"{claim.claim}{note}", value, f"{claim.limit:.2f}{claim.unit}", verdict, f"`{command}`"


def _threats(stored: Stored) -> str:
    return f"{_THREATS}\n{_other_attempts(stored)}"


def _other_attempts(stored: Stored) -> str:
    text = (
        "* The joules of a job are those of the attempt that answered it: what was lost when a device left, "
        "and what another copy of the job took, is in none, under every policy"
    )
    experiments = stored.results.of_experiments()
    repeated = [figures.repeated for figures in experiments if figures.repeated is not None]
    # Results from before they were counted say nothing of them.
    if len(repeated) < len(experiments):
        return f"{text}."
    jobs = sum(figures.jobs for figures in experiments)
    return f"{text}; {sum(repeated)} of {jobs} jobs were sent more than once."


def _scenario_changes() -> str:
    listed = "\n".join(f"* {change}" for change in _CHANGES_OF_SCENARIOS) or "None."
    return f"## Changes to the scenarios since the first full run\n\n{listed}"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g} {unit}"


def _less(ratio: float) -> str:
    return f"{(1.0 - ratio) * 100:.1f} % less" if ratio <= 1.0 else f"{(ratio - 1.0) * 100:.1f} % more"
