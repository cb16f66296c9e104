"""What the decision node believes, from messages and through a whole mesh."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.errors import DecodeError
from edgemesh.protocol.activation import Timing
from edgemesh.protocol.assignment import Assignment, HopPrediction
from edgemesh.protocol.link import JobReport, LinkReport, RunReport, Transfer
from edgemesh.protocol.presence import Resources
from edgemesh.roles.decider import Decider
from edgemesh.roles.estimates import MeshEstimates
from edgemesh.simulation.links import Link
from edgemesh.simulation.machine import Speed
from edgemesh.simulation.mesh import Mesh
from edgemesh.simulation.models import made_up_model
from tests.roles.build import DIGEST, ROUTE, message, profile

FACE, CONTENT = made_up_model()
UNITS = FACE.unit_count
AMOUNT = st.floats(0.0, 86_400.0)  # the wire contract lets no more in


def run_seconds(
    estimates: MeshEstimates, device: str, now: float, start: int = 0, stop: int = UNITS
) -> float:
    times = estimates.unit_times(device, DIGEST, UNITS, now)
    assert times is not None
    return times.run_overhead + times.run_factor * float(times.seconds[start:stop].sum())


def ran(estimates: MeshEstimates, device: str, seconds: float, now: float, count: int = 1) -> None:
    runs = (RunReport(DIGEST, 0, UNITS, seconds),) * count
    estimates.learn(message("link", LinkReport("b-1", (), runs), requester=device), now)


def knowing(*devices: str) -> MeshEstimates:
    """Each unit takes 10 ms."""
    estimates = MeshEstimates()
    for device in devices:
        estimates.learn(profile(device), 0.0)
    return estimates


# --- conditions ------------------------------------------------------------------------------------------


def test_load_and_throttling_count_before_any_run_shows_them_and_no_longer_than_they_last() -> None:
    estimates = knowing("pi")
    seen = []
    for cpu, flags in ((0.1, ()), (1.0, ()), (1.0, ()), (0.1, ("under-voltage",)), (0.1, ())):
        estimates.observe_resources("pi", Resources(cpu, 1 << 30, 1 << 29, throttled=flags, own=0.0))
        seen.append(run_seconds(estimates, "pi", 10.0) / 0.04)

    assert seen == pytest.approx([1.0, 1.0, 2.0, 1.5, 1.0])


def test_what_runs_show_under_load_is_not_counted_twice_and_is_dropped_with_it() -> None:
    estimates = knowing("pi")
    for second in range(10):
        ran(estimates, "pi", 0.04, float(second))
    for _ in range(2):
        estimates.observe_resources("pi", Resources(1.0, 1 << 30, 1 << 29, own=0.0))
    for second in range(10, 20):
        ran(estimates, "pi", 0.08, float(second))
    loaded = run_seconds(estimates, "pi", 20.0)
    estimates.observe_resources("pi", Resources(0.1, 1 << 30, 1 << 29, own=0.0))

    assert loaded == pytest.approx(0.08)
    assert run_seconds(estimates, "pi", 20.0) == pytest.approx(0.04)


def test_load_that_runs_showed_before_the_device_told_of_it_is_not_counted_twice() -> None:
    estimates = knowing("pi")
    seen, now = [], 0.0
    for cpu, seconds in ((0.1, 0.04), (1.0, 0.2), (0.1, 0.04)):
        for number in range(20):
            now += 1.0
            ran(estimates, "pi", seconds, now)
            if number in (7, 12):  # long after the jobs, as readings come
                estimates.observe_resources("pi", Resources(cpu, 1 << 30, 1 << 29, own=0.0))
            if number >= 3:
                seen.append(run_seconds(estimates, "pi", now) / seconds)

    assert seen == pytest.approx([1.0] * len(seen))


def test_a_load_that_ends_takes_with_it_what_it_cost_more_than_was_expected_of_it() -> None:
    estimates = knowing("pi")
    for second in range(5):
        ran(estimates, "pi", 0.04, float(second))
    for second in range(5, 15):
        ran(estimates, "pi", 0.16, float(second))  # four times as long, where twice is expected at most
        estimates.observe_resources("pi", Resources(1.0, 1 << 30, 1 << 29, own=0.0))
    assert run_seconds(estimates, "pi", 15.0) == pytest.approx(0.16)

    estimates.observe_resources("pi", Resources(0.1, 1 << 30, 1 << 29, own=0.0))

    assert run_seconds(estimates, "pi", 15.0) == pytest.approx(0.04)


def test_a_told_load_is_a_step_and_drift_of_it_is_none() -> None:
    estimates = knowing("pi")
    steps = []
    for cpu in (0.1, 0.9, 0.9, 0.92, 0.94, 0.1):
        estimates.observe_resources("pi", Resources(cpu, 1 << 30, 1 << 29, own=0.0))
        steps.append(estimates.steps)

    assert steps == [0, 0, 1, 1, 1, 2]


def test_a_correction_that_nothing_confirms_heals_and_one_that_is_confirmed_stays() -> None:
    estimates = knowing("forgotten", "checked")
    for second in range(0, 1800, 10):
        if second < 60:
            ran(estimates, "forgotten", 0.12, float(second))
        ran(estimates, "checked", 0.12, float(second))

    assert run_seconds(estimates, "forgotten", 80.0) == pytest.approx(0.12)
    assert run_seconds(estimates, "forgotten", 1800.0) == pytest.approx(0.04, rel=0.1)
    assert run_seconds(estimates, "checked", 1800.0) == pytest.approx(0.12)


# --- lies and nonsense -----------------------------------------------------------------------------------


def test_a_profile_ten_times_too_fast_is_corrected_by_the_devices_own_timings() -> None:
    estimates = MeshEstimates()
    estimates.learn(profile("liar", *(0.001,) * UNITS), 0.0)

    for second in range(3):
        ran(estimates, "liar", 0.04, float(second))

    assert run_seconds(estimates, "liar", 3.0) == pytest.approx(0.04)


def test_a_device_whose_timings_lie_as_well_is_corrected_by_its_requesters_clock() -> None:
    estimates = MeshEstimates()
    estimates.learn(profile("liar", *(0.001,) * UNITS), 0.0)
    hop = HopPrediction("liar", 0, UNITS, 0.005, 0.0, 0.004, 1000)
    promised = Assignment(1, 1, "face", DIGEST, "app", "latency", ROUTE, (hop,), 0.002, 0.011, "test")
    estimates.outcomes.assigned(promised)

    for second in range(40):
        timings = (Timing("liar", 0, UNITS, 0.0, 0.004, 0.0),)
        job = JobReport("face", DIGEST, "app", 1, 1, 0.047, 1, timings, arrived=0.005)
        report = LinkReport("b-1", (), (), (job,))
        estimates.learn(message("link", report, requester="gateway-0"), float(second))

    assert run_seconds(estimates, "liar", 40.0) == pytest.approx(0.04, rel=0.25)
    outcome = estimates.outcomes.outcome("face", "app")
    assert outcome is not None and outcome.mape == pytest.approx(0.036 / 0.047)


def test_jobs_are_counted_whether_they_are_listed_or_not() -> None:
    estimates = MeshEstimates()
    for second in range(1, 61):
        listed = (JobReport("face", DIGEST, "app", 0, 0, 0.1), JobReport("other", DIGEST, "pi", 0, 0, 0.1))
        report = LinkReport("b-1", (), (), listed, more_jobs=18)
        estimates.learn(message("link", report, requester="gateway-0"), float(second))

    assert estimates.demand("face", "app", 60.0) == pytest.approx(10.0, rel=0.1)
    assert estimates.demand("other", "pi", 60.0) == pytest.approx(10.0, rel=0.1)
    assert estimates.demand("face", "pi", 60.0) == 0.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["acknowledged", "echoed", "tail", "received"]), AMOUNT), max_size=20),
    st.lists(st.tuples(st.integers(0, UNITS - 1), AMOUNT), max_size=20),
    st.lists(st.tuples(AMOUNT, AMOUNT, AMOUNT), max_size=20),
)
def test_whatever_devices_claim_the_estimates_stay_sane(transfers: list, runs: list, jobs: list) -> None:
    estimates = knowing("two")
    hop = HopPrediction("two", 0, UNITS, 0.005, 0.0, 0.04, 1000)
    estimates.outcomes.assigned(
        Assignment(1, 1, "face", DIGEST, "app", "latency", ROUTE, (hop,), 0.002, 0.05, "test")
    )
    report = LinkReport(
        "b-1",
        tuple(Transfer(kind, 50_000, seconds, "two") for kind, seconds in transfers),
        tuple(RunReport(DIGEST, start, UNITS, seconds) for start, seconds in runs),
        tuple(
            JobReport("face", DIGEST, "app", 1, 1, a, 1, (Timing("two", 0, UNITS, 0.0, b, 0.0),), c)
            for a, b, c in jobs
        ),
    )
    for second in range(0, 40, 4):
        estimates.learn(message("link", report, requester="two"), float(second))
        estimates.learn(message("link", report, requester="gateway-0"), float(second))

    link = estimates.link("two", 40.0).link
    assert 1e3 <= link.rate_up <= 1e10 and 1e3 <= link.rate_down <= 1e10
    assert 0.04 * 0.019 <= run_seconds(estimates, "two", 40.0) <= 0.04 * 51.0


# --- through a whole mesh --------------------------------------------------------------------------------


class Home:
    """A mesh whose decision node's estimates can be looked at, and an app that sends jobs at a rate."""

    def __init__(self, seed: int, *, jobs_per_second: float) -> None:
        self.mesh = Mesh(seed)
        self.mesh.add_device("pi-4b", Speed(0.040, jitter=0.1), Link(0.002, 4e6, 4e6))
        self.mesh.add_device("desktop", Speed(0.005, jitter=0.1), Link(0.001, 10e6, 10e6))
        decider = self.mesh.add_decider("laptop")
        self.mesh.add_gateway("laptop")
        self.mesh.run(1.0)
        self.mesh.add_model(FACE, CONTENT, "desktop")
        self.mesh.run_until(self.mesh.ready, within=30.0)
        assert isinstance(decider.held, Decider)
        self.estimates = decider.held.estimates
        self.app = self.mesh.add_app("edgemesh/v1/home/result/face")
        self.pause = 1.0 / jobs_per_second
        self.jobs = 0

    def run(self, seconds: float) -> None:
        ends = self.mesh.clock.now + seconds
        while self.mesh.clock.now < ends - 1e-9:
            self.jobs += 1
            self.app.submit(f"job-{self.jobs}")
            self.mesh.run(min(self.pause, ends - self.mesh.clock.now))

    def until(self, holds: Callable[[], bool], within: float) -> float:
        """Seconds until ``holds``."""
        began = self.mesh.clock.now
        while not holds():
            assert self.mesh.clock.now - began < within, f"not within {within} s"
            self.run(min(0.1, self.pause))
        return self.mesh.clock.now - began

    def run_seconds(self, device: str) -> float:
        return run_seconds(self.estimates, device, self.mesh.clock.now)

    def rate_down(self, device: str) -> float:
        return self.estimates.link(device, self.mesh.clock.now).link.rate_down


def near(value: float, truth: float, share: float = 0.2) -> bool:
    return abs(math.log(value / truth)) < math.log(1.0 + share)


@pytest.mark.parametrize("jobs_per_second", [10.0, 1.0])
def test_a_device_that_gets_three_times_slower_is_known_within_two_heartbeats_and_so_is_the_way_back(
    jobs_per_second: float,
) -> None:
    home = Home(3, jobs_per_second=jobs_per_second)
    home.run(30.0)
    assert near(home.run_seconds("desktop"), 0.020)

    home.mesh.devices["desktop"].speed.unit_seconds = 0.015
    slower = home.until(lambda: near(home.run_seconds("desktop"), 0.060), within=4.0)
    home.run(20.0)
    home.mesh.devices["desktop"].speed.unit_seconds = 0.005
    back = home.until(lambda: near(home.run_seconds("desktop"), 0.020), within=4.0)

    assert max(slower, back) <= max(5.0 / jobs_per_second, 1.0)


@pytest.mark.parametrize("jobs_per_second", [10.0, 1.0])
def test_a_link_that_falls_to_a_fifth_is_known_within_two_heartbeats(jobs_per_second: float) -> None:
    home = Home(4, jobs_per_second=jobs_per_second)
    home.run(40.0)
    assert near(home.rate_down("desktop"), 10e6)

    link = home.mesh.devices["desktop"].link
    link.rate_up = link.rate_down = 2e6
    home.until(lambda: near(home.rate_down("desktop"), 2e6), within=4.0)


def test_a_device_that_nobody_uses_is_known_to_be_slow_and_to_be_fast_again() -> None:
    home = Home(5, jobs_per_second=5.0)
    home.run(60.0)
    assert near(home.run_seconds("pi-4b"), 0.160)

    home.mesh.devices["pi-4b"].speed.unit_seconds = 0.120
    home.until(lambda: near(home.run_seconds("pi-4b"), 0.480), within=150.0)
    home.mesh.devices["pi-4b"].speed.unit_seconds = 0.040
    home.until(lambda: near(home.run_seconds("pi-4b"), 0.160), within=150.0)


def test_a_noisy_mesh_is_predicted_well_and_takes_no_step() -> None:
    home = Home(6, jobs_per_second=10.0)
    home.run(60.0)
    before = home.estimates.steps
    home.run(120.0)

    outcome: Any = home.estimates.outcomes.outcome("face", "app")
    assert outcome.mape < 0.15 and outcome.compared == 100
    assert home.estimates.steps - before <= 1


# --- lies ------------------------------------------------------------------------------------------------


def told(estimates: MeshEstimates, sender: str, now: float, *transfers: Transfer, **more: Any) -> None:
    estimates.learn(message("link", LinkReport("b-1", transfers, **more), requester=sender), now)


def test_one_report_cannot_make_up_a_demand_that_no_mesh_has() -> None:
    estimates = MeshEstimates()
    job = JobReport("face", DIGEST, "app", 0, 0, 0.1)
    told(estimates, "liar", 1.0, jobs=(job,), more_jobs=10_000)
    assert estimates.demand("face", "app", 1.0) <= 1000.0
    assert estimates.demand("face", "app", 60.0) < 2.0
    for number in range(1000):
        told(estimates, f"liar-{number}", 60.0, jobs=(job,), more_jobs=10_000)
    assert estimates.demand("face", "app", 60.0) <= 1000.0
    assert estimates.demand("face", "app", 180.0) < 1.0

    with pytest.raises(DecodeError, match="more_jobs must be 0 to 10,000"):
        told(estimates, "liar", 60.0, jobs=(job,), more_jobs=(1 << 53) - 1)


def test_made_up_peers_and_clients_take_no_place_from_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgemesh.roles.estimates._PARTICIPANTS", 4)
    estimates = MeshEstimates()
    slow = Transfer("acknowledged", 1 << 20, 10.0)
    for device in ("pi", "laptop"):
        estimates.observe_queue(device, 0.0)
        told(estimates, device, 1.0, slow)
    for number in range(20):
        told(estimates, f"client-{number}", 2.0, Transfer("received", 1 << 20, 1.0, f"nobody-{number}"), slow)
    estimates.observe_queue("new", 0.0)
    told(estimates, "new", 3.0, slow)

    measured = [d for d in ("pi", "laptop", "new", "client-19") if math.isfinite(estimates.link(d, 4.0).age)]
    assert measured == ["pi", "laptop", "new", "client-19"]
    strangers = [f"nobody-{number}" for number in range(20)]
    assert not any(math.isfinite(estimates.link(stranger, 4.0).age) for stranger in strangers)


def test_a_profile_is_forgotten_with_its_topic_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemesh.roles.estimates._PARTICIPANTS", 2)
    estimates = knowing("one", "two")
    for digest in ("e" * 64, "f" * 64):  # contents that follow each other under one name take one place
        later = bytes(profile("one").payload).replace(DIGEST.encode(), digest.encode())
        estimates.learn(message("profile", later, device="one", model="face"), 1.0)
    assert [estimates.has_profile("one", digest) for digest in (DIGEST, "e" * 64, "f" * 64)] == [0, 1, 1]
    with pytest.raises(DecodeError, match="more than 2 profiles"):
        estimates.learn(profile("three"), 2.0)

    estimates.learn(message("profile", b"", device="one", model="face"), 3.0)
    estimates.learn(profile("three"), 4.0)

    assert not estimates.has_profile("one", "f" * 64) and estimates.has_profile("two", DIGEST)
    assert estimates.has_profile("three", DIGEST)
