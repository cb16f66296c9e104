"""What a device itself has run is told apart from what others do with its processor."""

from __future__ import annotations

import pytest

from edgemesh.protocol.requests import Policy
from edgemesh.roles.actions import MeasureUnits, RunUnits
from edgemesh.roles.events import ExecutorLost, RunFinished, RunMeasured
from edgemesh.roles.own_work import OwnWork
from edgemesh.simulation.compare import case_of
from edgemesh.simulation.play import play
from edgemesh.simulation.scenario import Scenario, SimulatedDevice, Stream
from tests.roles.build import DIGEST

MEASURE = MeasureUnits(DIGEST, 0, 1)
MEASURED = RunMeasured(DIGEST, 0, 1, 0.1, 0.0)


def run(name: str) -> RunUnits:
    return RunUnits(name, DIGEST, 0, 1, b"", "raw", "raw")


def test_the_share_is_that_of_the_time_since_the_last_reading_and_work_under_way_counts() -> None:
    own = OwnWork()
    assert own.take_share(0.0) is None

    own.asked([run("one")], 1.0)
    assert own.take_share(2.0) == pytest.approx(0.5)

    own.answered(RunFinished("one", b"", 1.5, 0.0), 2.5)
    assert own.take_share(4.0) == pytest.approx(0.25)
    assert own.take_share(6.0) == 0.0


def test_what_waits_for_the_executor_does_not_count_twice_and_a_lost_one_ends_all() -> None:
    own = OwnWork()
    own.take_share(0.0)
    own.asked([run("one"), MEASURE], 0.0)
    own.answered(RunFinished("one", b"", 1.0, 0.0), 1.0)
    own.answered(MEASURED, 2.0)
    assert own.take_share(4.0) == pytest.approx(0.5)

    own.asked([run("two"), MEASURE], 4.0)
    own.answered(ExecutorLost("killed"), 5.0)
    own.answered(MEASURED, 7.0)  # too late to be of anything that is open
    assert own.take_share(8.0) == pytest.approx(0.25)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.85])
def test_a_device_busy_with_jobs_alone_is_not_taken_for_one_that_others_load(busy: float) -> None:
    """In virtual time: runs of 1.7 s and readings every 2.5 s, so hardly any two windows are alike."""
    scenario = Scenario(
        "made-up",
        "a Pi 5 that works for itself",
        duration=300.0,
        devices=(SimulatedDevice("pi-5", "pi-5"),),
        streams=(Stream("jobs", "pi-5", busy=busy),),
        policy=Policy(objective="latency"),
    )
    outcome = play(case_of(scenario, "vgg16"), "decided", None)

    run = min(job.seconds for job in outcome.jobs)
    assert len(outcome.jobs) > 40
    # Whatever a job waits for those before it: nobody makes the device slower.
    assert all(job.predicted is not None and 0.8 < job.predicted / run < 1.3 for job in outcome.jobs)
