"""The plan of least latency: equal to trying everything, to a textbook shortest path, and stable."""

from __future__ import annotations

import dataclasses
import itertools
import math
from random import Random

import networkx
import numpy as np
import planning_instances as build
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgemesh.planning import memory
from edgemesh.planning.goal import OBJECTIVE_NAMES, Goal
from edgemesh.planning.instance import Instance, Pin
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Infeasible, Plan
from edgemesh.planning.prediction import crowded_devices

SEEDS = st.integers(0, 2**32)


def solved(instance: Instance) -> Plan:
    plan = solve_latency(instance)
    assert isinstance(plan, Plan), plan
    return plan


def refused(instance: Instance) -> Infeasible:
    answer = solve_latency(instance)
    assert isinstance(answer, Infeasible), answer
    return answer


def bouncing_instance(random: Random, units: int = 7, devices: int = 3) -> Instance:
    """Each device is fast at other units and too small for all of them: paths come back to it."""
    return build.instance(
        [
            build.device(
                f"d{d}",
                [0.001 * random.choice((1, 9)) for _ in range(units)],
                memory_limit=float(random.randint(6, 14)) if random.random() < 0.8 else math.inf,
                run_overhead=0.0005 * random.randint(0, 1),
            )
            for d in range(devices)
        ],
        [[0.0]] * (units + 1),
        weight_bytes=np.array([float(random.randint(1, 4)) for _ in range(units)]),
        peak_bytes=np.array([float(random.randint(0, 2)) for _ in range(units)]),
    )


@pytest.mark.parametrize("block", range(10))
def test_the_solver_equals_trying_every_plan(block: int) -> None:
    solvable = 0
    for seed in range(block * 100, block * 100 + 100):
        instance = build.random_instance(Random(seed))

        answer = solve_latency(instance)

        best = build.best_by_trying(instance)
        assert (build.figures(answer) if isinstance(answer, Plan) else None) == best, seed
        solvable += best is not None
    assert solvable > 20


def test_the_solver_equals_trying_every_plan_when_memory_binds_across_runs() -> None:
    searched = 0
    for seed in range(60):
        instance = bouncing_instance(Random(seed), units=5)
        unlimited = dataclasses.replace(
            instance,
            devices=tuple(dataclasses.replace(d, memory_limit=math.inf) for d in instance.devices),
        )
        runs = [(p.start, p.stop, instance.indices[p.device]) for p in solved(unlimited).partitions]
        searched += bool(crowded_devices(instance, runs))

        answer = solve_latency(instance)

        best = build.best_by_trying(instance)
        assert (build.figures(answer) if isinstance(answer, Plan) else None) == best, seed
        assert not isinstance(answer, Plan) or answer.proven
    assert searched > 20


def test_beyond_the_bound_on_labels_a_plan_fits_memory_but_is_not_proven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "LABELS", 60)
    unproven = 0
    for seed in range(30):
        instance = bouncing_instance(Random(seed), units=14, devices=4)

        answer = solve_latency(instance)

        if isinstance(answer, Plan) and not answer.proven:
            unproven += 1
            runs = [(p.start, p.stop, instance.indices[p.device]) for p in answer.partitions]
            assert crowded_devices(instance, runs) == []
    assert unproven > 0


def test_a_medium_instance_equals_a_textbook_shortest_path() -> None:
    random = Random(7)
    units, names = 24, [f"d{i}" for i in range(5)]
    instance = build.instance(
        [
            build.device(
                name,
                [0.001 * random.choice((1, 20)) for _ in range(units)],
                link=build.random_link(random),
                run_overhead=0.0003,
                queue_seconds=0.0001 * random.randint(0, 5),
            )
            for name in names
        ],
        [[float(random.randint(1, 60) * 100), float(random.randint(1, 20) * 100)] for _ in range(units + 1)],
        origin=2,
        broker_seconds=0.0002,
    )
    graph = networkx.DiGraph()
    for d, cut in itertools.product(range(5), range(units)):
        spec = instance.devices[d]
        for stop in range(cut + 1, units + 1):
            took = spec.queue_seconds + spec.run_overhead + float(spec.seconds[cut:stop].sum())
            graph.add_edge(("in", d, cut), ("out", d, stop), weight=took)
    for a, e, cut in itertools.product(range(5), range(5), range(1, units)):
        if a != e:
            graph.add_edge(("out", a, cut), ("in", e, cut), weight=_hop(instance, a, e, cut, codecs=2))
    for d in range(5):
        at_origin = d == 2
        graph.add_edge("input", ("in", d, 0), weight=0.0 if at_origin else _hop(instance, 2, d, 0, codecs=1))
        graph.add_edge(
            ("out", d, units), "output", weight=0.0 if at_origin else _hop(instance, d, 2, units, codecs=1)
        )

    plan = solved(instance)

    assert plan.total == pytest.approx(networkx.dijkstra_path_length(graph, "input", "output"), abs=1e-7)
    assert len(plan.partitions) > 2


def _hop(instance: Instance, a: int, e: int, cut: int, *, codecs: int) -> float:
    up, down = instance.devices[a].link, instance.devices[e].link
    return min(
        up.latency_up + n / up.rate_up + instance.broker_seconds + n / down.rate_down + down.latency_down
        for n in instance.cut_bytes[cut, :codecs]
    )


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_one_more_device_never_makes_the_optimum_worse(seed: int) -> None:
    random = Random(seed)
    instance = build.random_instance(random, devices=3)
    extra = build.random_instance(random, devices=1).devices[0]
    extra = dataclasses.replace(
        extra, id="extra", seconds=np.full(instance.unit_count, 0.002), runs=None, encode=(), decode=()
    )
    pins = tuple(Pin(p.start, p.stop, p.devices | {len(instance.devices)}) for p in instance.pins)

    with_it = solve_latency(dataclasses.replace(instance, devices=(*instance.devices, extra), pins=pins))

    without = solve_latency(instance)
    if isinstance(without, Plan):
        assert isinstance(with_it, Plan) and with_it.total <= without.total


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_order_of_devices_changes_no_figure(seed: int) -> None:
    instance = build.random_instance(Random(seed))
    count = len(instance.devices)
    turned = dataclasses.replace(
        instance,
        devices=instance.devices[::-1],
        origin=count - 1 - instance.origin if isinstance(instance.origin, int) else instance.origin,
        pins=tuple(Pin(p.start, p.stop, frozenset(count - 1 - d for d in p.devices)) for p in instance.pins),
        excluded=frozenset(count - 1 - d for d in instance.excluded),
    )

    one, other = solve_latency(instance), solve_latency(turned)

    assert isinstance(one, Plan) == isinstance(other, Plan)
    if isinstance(one, Plan) and isinstance(other, Plan):
        assert build.figures(one) == build.figures(other)


def test_equal_instances_get_equal_plans() -> None:
    for seed in range(40):
        assert solve_latency(build.random_instance(Random(seed))) == solve_latency(
            build.random_instance(Random(seed))
        )


def test_a_tie_goes_to_fewer_partitions() -> None:
    instance = build.instance([build.device("a", [0.001, 0.001]), build.device("b", [0.001, 0.001])])

    plan = solved(instance)

    assert plan.partitions == tuple(build.forced((0, 2, "a")))


def test_a_tie_in_partitions_goes_to_fewer_bytes() -> None:
    slow, fast = [0.005, 0.001, 0.005], [0.001, 0.001, 0.009]
    instance = build.instance(
        [build.device("a", [0.009, 0.009, 0.001]), build.device("b", fast), build.device("c", slow)],
        [[10.0], [900.0], [20.0], [10.0]],
    )

    plan = solved(instance)

    assert plan.partitions == tuple(build.forced((0, 2, "b"), (2, 3, "a")))
    assert plan.prediction.nbytes == 30


def test_a_device_may_come_up_twice() -> None:
    pi = build.device("pi", [0.001, 0.009, 0.001])
    laptop = build.device("laptop", [math.inf, 0.001, math.inf])

    plan = solved(build.instance([pi, laptop]))

    assert plan.partitions == tuple(build.forced((0, 1, "pi"), (1, 2, "laptop"), (2, 3, "pi")))


def test_waiting_counts_once_per_run() -> None:
    pi = build.device("pi", [0.001, 0.009, 0.001], queue_seconds=0.003)
    laptop = build.device("laptop", [math.inf, 0.001, math.inf], queue_seconds=0.001)

    plan = solved(build.instance([pi, laptop]))

    assert plan.total == pytest.approx(0.003 + 0.003 + 0.001 + 0.003)


def test_the_raw_input_never_leaves_an_origin_that_is_pinned() -> None:
    camera = build.device("camera", [0.050, 0.050])
    desktop = build.device("desktop", [0.001, 0.001])
    instance = build.instance([camera, desktop], pins=(Pin(0, 1, frozenset({0})),))

    plan = solved(instance)

    assert plan.partitions == tuple(build.forced((0, 1, "camera"), (1, 2, "desktop")))


def test_a_measured_run_may_cost_less_than_the_sum_of_its_units() -> None:
    fused = np.array([[0.0, 0.004, 0.005], [0.0, 0.0, 0.004], [0.0, 0.0, 0.0]])
    a = build.device("a", [0.004, 0.004], runs=fused)
    b = build.device("b", [0.001, 0.004], link=build.link(latency_up=0.002))

    plan = solved(build.instance([a, b]))

    assert plan.devices == ("a",) and plan.total == pytest.approx(0.005)


def test_costs_compare_by_ticks_then_by_partitions_and_bytes() -> None:
    # The solver leans on NumPy ordering complex numbers by real and then imaginary part.
    costs = np.array([2 + 0j, 1 + 5j, 1 + 4j, complex(math.inf, 0.0)])

    assert costs.argmin() == 2
    assert costs.argsort(kind="stable").tolist() == [2, 1, 0, 3]


def test_every_objective_solves_an_instance() -> None:
    for name in OBJECTIVE_NAMES:
        assert isinstance(solve(build.instance([build.device("a", [0.001])]), Goal(name)), Plan)


NEVER = [math.inf, math.inf]
BOTH = [[0.1, 0.1], [0.1, 0.1]]
REFUSALS = [
    ("incapable", "layer1", {"seconds": [[0.1, math.inf], [0.1, math.inf]]}),
    ("unavailable", "d1 is offline", {"seconds": [[math.inf, 0.1], [0.1, 0.1]], "away": ["", "is offline"]}),
    ("pinned", "layer1", {"seconds": [[0.1, 0.1], [0.1, math.inf]], "pins": (Pin(1, 2, frozenset({1})),)}),
    ("excluded", "d0, d1", {"seconds": BOTH, "excluded": frozenset({0, 1})}),
    ("memory", "8 bytes", {"seconds": BOTH, "memory": [4.0, 7.0], "weights": [1.0, 8.0]}),
    ("memory", "13 bytes", {"seconds": [[0.1, 0.1], NEVER], "memory": [9.0, 9.0], "weights": [5.0, 8.0]}),
    ("unreachable", "no codec", {"seconds": [[0.1, math.inf], [math.inf, 0.1]], "open": [True, False, True]}),
]


@pytest.mark.parametrize(("kind", "named", "case"), REFUSALS)
def test_a_refusal_names_the_binding_constraint(kind: str, named: str, case: dict) -> None:
    devices = [
        build.device(
            f"d{d}",
            seconds,
            memory_limit=case.get("memory", [math.inf] * 2)[d],
            unavailable=case.get("away", [""] * 2)[d],
        )
        for d, seconds in enumerate(case["seconds"])
    ]
    instance = build.instance(
        devices,
        weight_bytes=np.array(case.get("weights", [0.0, 0.0])),
        pins=case.get("pins", ()),
        excluded=case.get("excluded", frozenset()),
        codec_allowed=np.array([[a] for a in case.get("open", [True] * 3)]),
    )

    answer = refused(instance)

    assert answer.kind == kind
    assert named in answer.reason
