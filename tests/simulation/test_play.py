"""What a simulation measures is what the cost model says of the same figures, and it is repeatable."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from edgemesh.protocol.activation import Timing
from edgemesh.protocol.requests import Policy
from edgemesh.roles.conditions import BATTERY_WEIGHT
from edgemesh.simulation.board_device import START_SECONDS
from edgemesh.simulation.board_machine import FIRST_LOAD_SECONDS
from edgemesh.simulation.compare import Summary, case_of, compare, played
from edgemesh.simulation.plans import BASELINES, oracle, static
from edgemesh.simulation.play import play
from edgemesh.simulation.scenario import Change, Scenario, SimulatedDevice, Stream, slowdowns
from edgemesh.simulation.scenario_file import load_scenario, scenario_names

PI, LAPTOP = SimulatedDevice("pi", "pi-4b"), SimulatedDevice("laptop", "laptop")
SLOW = Change(60.0, "laptop", load=0.9)


def scenario(*changes: Change, **fields: object) -> Scenario:
    made = Scenario(
        "made-up",
        "a Pi with a camera, and a laptop",
        duration=120.0,
        devices=(PI, LAPTOP),
        streams=(Stream("jobs", "pi", per_second=2.0),),
        changes=changes,
        policy=Policy(objective="latency"),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["static", "origin", "fastest", "middle"])
def test_latency_and_joules_of_a_fixed_plan_are_those_of_the_cost_model(name: str) -> None:
    case = case_of(scenario(run_jitter=0.0, link_jitter=0.0), "mobilenetv2")
    ((phase,),) = [BASELINES[name](case)]
    plan = phase.plans["mobilenetv2", "pi"].plan

    outcome = play(case, name, (phase,))

    assert len(outcome.jobs) in range(239, 242) and all(job.code is None for job in outcome.jobs)
    assert fmean(job.seconds for job in outcome.jobs) == pytest.approx(plan.total, rel=0.01)
    # Heartbeats and probes use the radio, and idle devices measure again: under 1 % of the time.
    probing = 0.01 * (46.7 - 2.7 + 5.0 - 1.6) * 120.0
    joules = plan.prediction.joules * len(outcome.jobs)
    assert joules * 0.99 < outcome.joules < joules * 1.02 + probing


def test_jobs_arise_when_they_are_told_to() -> None:
    case = case_of(scenario(run_jitter=0.0, link_jitter=0.0), "mobilenetv2")
    moments = [0.25, 1.0, 4.5, 60.0]

    outcome = play(case, "static", static(case), moments)

    assert [job.at for job in outcome.jobs] == pytest.approx(moments)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    first, again, other = (played(scenario(SLOW, seed=seed), "alexnet", "decided") for seed in (1, 1, 2))
    assert first == again
    assert first.mean != other.mean


def test_the_decision_node_leaves_a_laptop_that_gets_busy_and_the_static_plan_does_not() -> None:
    decided, kept, best = compare(scenario(SLOW), ["alexnet"], ("decided", "static", "oracle"))

    assert [run.lost for run in (decided, kept, best)] == [0, 0, 0]
    assert not kept.switches and len(best.switches) == 1 and decided.switches
    assert 60.0 < decided.switches[0].at < 75.0
    assert best.mean < 0.85 * kept.mean
    assert decided.mean < 1.06 * best.mean


def test_a_link_that_falls_to_a_fifth_changes_the_plan_within_two_heartbeats() -> None:
    shipped = load_scenario("wifi-swings")
    sooner = replace(shipped.changes[0], at=60.0)
    made = replace(shipped, changes=(sooner,), duration=80.0, policy=Policy(objective="latency"))

    decided, best = compare(made, ["mobilenetv2"], ("decided", "oracle"))

    assert len(best.switches) == 1  # there is something to change
    assert 60.0 < decided.switches[0].at < 64.0
    assert decided.switches[0].route == best.switches[0].route


def test_jobs_survive_a_device_that_leaves_and_one_that_returns() -> None:
    leaving = Change(40.0, "laptop", present=False), Change(80.0, "laptop", present=True)
    for name in ("decided", "static"):
        run: Summary = played(scenario(*leaving), "alexnet", name)
        assert run.jobs in range(239, 242) and run.lost == 0, name


def test_a_device_that_returns_serves_when_its_agent_has_started_and_loaded() -> None:
    changes = Change(20.0, "laptop", present=False, killed=True), Change(40.0, "laptop", present=True)
    case = case_of(scenario(*changes, duration=60.0, run_jitter=0.0, link_jitter=0.0), "alexnet")

    jobs = play(case, "static", static(case)).jobs

    usual = jobs[0].seconds
    back = min(job.at for job in jobs if job.at > 21.0 and job.seconds < 1.05 * usual)
    assert 40.0 + START_SECONDS + FIRST_LOAD_SECONDS < back < 43.0


def test_the_oracle_loads_only_where_it_is_told_to_as_real_devices_do() -> None:
    """Found beside the testbed: a large model that a device loads as it returns made jobs there late."""
    changes = Change(20.0, "laptop", present=False, killed=True), Change(40.0, "laptop", present=True)
    case = case_of(scenario(*changes, duration=60.0, run_jitter=0.0, link_jitter=0.0), "alexnet")

    def back(*, oracle_loads: bool) -> float:
        jobs = play(case, "oracle", oracle(case), oracle_loads=oracle_loads).jobs
        return min(job.at for job in jobs if job.at > 21.0 and job.seconds < 1.05 * jobs[0].seconds)

    assert back(oracle_loads=False) + FIRST_LOAD_SECONDS / 2.0 < back(oracle_loads=True)


def test_a_device_that_leaves_before_it_has_started_never_was_there() -> None:
    away = Change(20.0, "laptop", present=False), Change(40.0, "laptop", present=False)
    blink = away[0], Change(39.8, "laptop", present=True), away[1]

    gone, blinked = (
        played(scenario(*changes, duration=60.0), "alexnet", "static") for changes in (away, blink)
    )

    assert blinked.mean == gone.mean and blinked.joules == pytest.approx(gone.joules, rel=1e-3)


def test_a_run_costs_what_its_device_drew_while_it_lasted() -> None:
    """Found beside the testbed: a job that ended just after a slow phase cost three times as much."""
    slow = scenario(SLOW, replace(SLOW, at=70.0, load=0.0))
    hops = [
        Timing("laptop", 0, 1, queue=0.0, run=0.2, code=0.0),
        Timing("pi", 1, 2, queue=0.0, run=0.5, code=0.0),
        Timing("laptop", 2, 3, queue=0.2, run=0.3, code=0.0),
    ]

    assert slowdowns(slow, 59.9, hops) == pytest.approx([1.0, 1.0, 10.0])
    assert slowdowns(slow, 69.9, hops) == pytest.approx([10.0, 1.0, 1.0])


def test_an_agent_that_is_killed_is_missed_at_once_and_a_machine_that_falls_silent_later() -> None:
    def slowest(killed: bool) -> float:
        leaving = Change(40.0, "laptop", present=False, killed=killed)
        shipped = load_scenario("device-leaves")
        made = replace(shipped, changes=(leaving,), duration=80.0, policy=Policy(objective="latency"))
        case = case_of(made, "alexnet")
        return max(job.seconds for job in play(case, "static", static(case)).jobs)

    assert slowest(killed=True) < 0.8 * slowest(killed=False)


def test_an_origin_that_is_away_takes_no_pictures() -> None:
    run = played(scenario(Change(60.0, "pi", present=False)), "alexnet", "static")

    assert run.jobs in range(118, 122)


@pytest.mark.parametrize("name", scenario_names())
def test_no_plan_beats_the_oracle_in_any_phase_of_a_shipped_scenario(name: str) -> None:
    shipped = load_scenario(name)
    case = case_of(replace(shipped, policy=replace(shipped.policy, objective="latency")), "mobilenetv2")
    first = static(case)[0].plans

    for phase in oracle(case):
        assert phase.plans, name
        for key, chosen in phase.plans.items():
            alone = len(phase.plans) == 1
            unchanged = phase.at == 0.0 and key in first
            if alone and unchanged:
                assert chosen.plan.total == first[key].plan.total
            assert all(chosen.plan.total <= other.total * 1.0001 for other in chosen.fallbacks.values())


@pytest.mark.parametrize(("chosen", "weight"), [(None, BATTERY_WEIGHT), (3.0, 3.0)])
def test_who_knows_the_truth_counts_a_battery_as_the_decision_node_does(
    chosen: float | None, weight: float
) -> None:
    """Found by a reader: it counted a joule from a battery once where the decision node counts it twice."""
    policy = Policy(objective="energy", battery_weight=chosen)
    case = case_of(scenario(Change(60.0, "laptop", battery=0.8), policy=policy), "mobilenetv2")

    found = case.instance(90.0, ("mobilenetv2", "pi"), {})

    assert {device.id: device.energy_weight for device in found.devices} == {"pi": 1.0, "laptop": weight}
