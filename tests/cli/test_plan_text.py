"""A plan as text: what is shown where, in 100 columns, also of what others made up."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from edgemesh.cli.history import history_lines
from edgemesh.cli.plan_text import moment_text, planned_text, what_if_text
from edgemesh.node.policy_change import Planned
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import PlanFailure
from edgemesh.protocol.history import HistoryEntry, HistoryRecord, HistoryResponse
from edgemesh.protocol.outcome import HopOutcome, Outcome
from edgemesh.protocol.what_if import WhatIfResponse
from tests.protocol.messages import JSON_MESSAGES
from tests.protocol.strategies import messages

ASSIGNMENT = JSON_MESSAGES["assignment"]
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(**others: Any) -> Outcome:
    hops = tuple(
        HopOutcome(hop.device, hop.start, hop.stop, hop.run, 2 * hop.run, hop.queue, 0.25)
        for hop in ASSIGNMENT.hops
    )
    return Outcome("face", "pi-zero", 3, 14, 50, 1, 2, 0.29, 0.31, 0.07, 48, hops, 0.1, 0.125, **others)


def test_predicted_and_measured_stand_side_by_side() -> None:
    text = planned_text(Planned(ASSIGNMENT, outcome()))

    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "290.0 ms predicted, 310.0 ms measured" in text
    assert "50 jobs, 1 failed, 2 retried; predictions are off by 7.0% on average over the last 48" in text
    assert "125.0 ms" in rows["pi-zero"] and "500.0 ms" in rows["pi-zero"]  # run; twice that and the queue
    assert rows["total"].split()[1:] == ["0-9", "290.0", "ms", "310.0", "ms", "750", "mJ"]
    assert "why: pi-4b answers 12 % faster than before" in text


def test_without_jobs_nothing_is_said_to_be_measured() -> None:
    text = planned_text(Planned(ASSIGNMENT))

    assert "ms measured" not in text
    assert "predictions are off" not in text


def test_what_a_mesh_says_cannot_steer_the_terminal() -> None:
    hostile = dataclasses.replace(ASSIGNMENT, reason="fine\x1b[2Jdone\r\nroot# ", binding="\x07")

    text = planned_text(Planned(hostile))

    assert "why: fine [2Jdone  root#" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_a_failure_says_what_stays() -> None:
    failure = PlanFailure(
        "face", "app", "pinned", "units 0-1 are pinned to x, which is offline", (Hop("pi", 9),)
    )

    text = planned_text(Planned(ASSIGNMENT, None, failure))

    assert text.startswith(
        "face for inputs published by apps: no plan: units 0-1 are pinned to x, which is offline"
    )
    assert "the last good plan stays in force: pi 0-9" in text
    assert "nothing is in force" in planned_text(Planned(None, None, dataclasses.replace(failure, kept=())))


def test_moments_are_told_with_their_date_when_they_are_old() -> None:
    assert len(moment_text(1e9, now=1e9 + 60)) == len("17:45:10")
    assert len(moment_text(1e9, now=1e9 + 90_000)) == len("2001-09-09 01:46")


@pytest.mark.parametrize("moment", [1e300, 1e18, 0.0])
def test_an_impossible_moment_is_no_traceback(moment: float) -> None:
    text = planned_text(Planned(dataclasses.replace(ASSIGNMENT, since=moment)))

    assert "in force since" in text


@SLOW
@given(messages(type(ASSIGNMENT)), messages(Outcome), messages(PlanFailure))
def test_whatever_a_mesh_says_of_a_plan_can_be_shown(
    assignment: Any, made: Outcome, failure: PlanFailure
) -> None:
    assert planned_text(Planned(assignment, made, failure))


@SLOW
@given(messages(WhatIfResponse))
def test_whatever_is_answered_can_be_shown(answer: WhatIfResponse) -> None:
    assert what_if_text(answer)


@SLOW
@given(messages(HistoryResponse))
def test_whatever_is_remembered_can_be_shown(answer: HistoryResponse) -> None:
    assert len(history_lines(answer.entries, 1.8e9)) >= len(answer.entries)


def test_history_is_told_oldest_first_with_what_was_before() -> None:
    entries = [
        HistoryEntry(1.0, HistoryRecord("policy", "face", "never b", who="eva@desk", before="never a")),
        HistoryEntry(2.0, HistoryRecord("failure", "face", "no device", origin="app", route=(Hop("pi", 9),))),
    ]

    lines = history_lines(entries, 1.8e9)

    assert lines[0].endswith("face for apps: no plan; pi 0-9 stays")
    assert lines[2].endswith("face: policy changed by eva@desk")
    assert lines[3] == "    never b (before: never a)"
