"""Predicted against measured, per assignment."""

from __future__ import annotations

from typing import Any

import pytest

from edgemesh.protocol.activation import Hop, Timing
from edgemesh.protocol.assignment import Assignment, HopPrediction
from edgemesh.protocol.link import JobReport
from edgemesh.protocol.outcome import HopOutcome
from edgemesh.roles.prediction_error import COMPARED_JOBS, PredictionErrors
from tests.roles.build import DIGEST

HOPS = (
    HopPrediction("one", 0, 2, 0.01, 0.0, 0.02, 1000),
    HopPrediction("two", 2, 4, 0.03, 0.005, 0.03, 2000),
)
ROUTE = (Hop("one", 2), Hop("two", 4))


def assignment(sequence: int = 1, seconds: float = 0.1) -> Assignment:
    return Assignment(1, sequence, "face", DIGEST, "app", "latency", ROUTE, HOPS, 0.005, seconds, "test")


def job(seconds: float = 0.1, sequence: int = 1, **fields: Any) -> JobReport:
    timings = (Timing("one", 0, 2, 0.0, 0.02, 0.001), Timing("two", 2, 4, 0.01, 0.04, 0.001))
    known: dict[str, Any] = {"timings": timings, **fields}
    return JobReport("face", DIGEST, "app", 1, sequence, seconds, **known)


def errors(*assignments: Assignment) -> PredictionErrors:
    known = PredictionErrors()
    for each in assignments:
        known.assigned(each)
    return known


def test_the_outcome_sets_each_hop_against_its_prediction() -> None:
    known = errors(assignment())
    for seconds in (0.08, 0.125, 0.2):
        known.observe(job(seconds))

    outcome = known.outcome("face", "app")

    assert outcome is not None and outcome.epoch == (1, 1)
    assert (outcome.jobs, outcome.failed, outcome.retried, outcome.compared) == (3, 0, 0, 3)
    assert (outcome.predicted, outcome.seconds) == (0.1, 0.125)
    assert outcome.mape == pytest.approx((0.02 / 0.08 + 0.025 / 0.125 + 0.1 / 0.2) / 3)
    assert outcome.hops == (
        HopOutcome("one", 0, 2, 0.02, 0.02, 0.0, 0.0),
        HopOutcome("two", 2, 4, 0.03, 0.04, 0.005, 0.01),
    )
    assert outcome.predicted_transfer == pytest.approx(0.045)
    assert outcome.transfer == pytest.approx(0.125 - 0.07)


def test_jobs_on_a_fallback_failed_or_sent_twice_are_counted_and_not_compared() -> None:
    known = errors(assignment())
    known.observe(job(code="deadline", timings=()))
    known.observe(job(attempts=2))
    known.observe(job(timings=(Timing("one", 0, 4, 0.0, 0.1, 0.0),)))

    outcome = known.outcome("face", "app")

    assert outcome is not None
    assert (outcome.jobs, outcome.failed, outcome.retried) == (3, 1, 1)
    assert (outcome.compared, outcome.mape, outcome.seconds, outcome.hops) == (0, None, None, ())


def test_each_job_is_compared_with_the_assignment_it_ran_under() -> None:
    known = errors(assignment(1, seconds=0.1), assignment(2, seconds=0.2))
    known.observe(job(0.1, sequence=1))
    known.observe(job(0.2, sequence=2))

    outcome = known.outcome("face", "app")

    assert outcome is not None and outcome.epoch == (1, 2)
    assert (outcome.jobs, outcome.seconds, outcome.mape, outcome.compared) == (1, 0.2, 0.0, 2)


def test_the_error_is_that_of_the_last_hundred_jobs() -> None:
    known = errors(assignment())
    for _ in range(50):
        known.observe(job(0.2))
    for _ in range(COMPARED_JOBS):
        known.observe(job(0.1))

    outcome = known.outcome("face", "app")

    assert outcome is not None and (outcome.mape, outcome.compared, outcome.jobs) == (0.0, 100, 150)


def test_reports_of_assignments_that_nobody_made_are_passed_over() -> None:
    known = errors(assignment())
    known.observe(job(sequence=9))
    known.observe(JobReport("other", DIGEST, "app", 1, 1, 0.1))

    outcome = known.outcome("face", "app")

    assert outcome is not None and outcome.jobs == 0
    assert known.outcome("other", "app") is None


def test_many_epochs_and_origins_do_not_pile_up() -> None:
    known = PredictionErrors()
    for sequence in range(1000):
        known.assigned(assignment(sequence))

    (history,) = known._histories.values()
    assert len(history.assignments) == len(history.counts) <= 8
