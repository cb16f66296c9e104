"""Larger instances against an integer program that knows nothing of labels, prices or sweeps."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import planning_instances as build
import pytest

from edgemesh.planning.costs import TICKS, bound_ticks
from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance, Link
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan

UNITS, DEVICES = 30, 6


def medium_instance(seed: int) -> Instance:
    """Uneven units, so that many different plans are good; inputs arise on device 0."""
    random = Random(seed)
    devices = []
    for d in range(DEVICES):
        speed = random.uniform(0.3, 3.0)
        rates = random.uniform(5e5, 5e6), random.uniform(5e5, 5e6)
        devices.append(
            build.device(
                f"d{d}",
                [0.001 * random.randint(1, 20) / speed for _ in range(UNITS)],
                link=Link(0.001 * random.randint(0, 3), rates[0], 0.001 * random.randint(0, 3), rates[1]),
                run_overhead=0.0005,
                queue_seconds=0.001 * random.randint(0, 2),
                encode=(0.0, 1e-8),
                decode=(0.0, 1e-8),
                busy_watts=random.uniform(1.0, 4.0) * speed**1.5,
                radio_watts=random.uniform(0.2, 1.0),
            )
        )
    sizes = [
        [float(size), float(size // 4)] for size in (random.randint(1, 40) * 400 for _ in range(UNITS + 1))
    ]
    return build.instance(devices, sizes, broker_seconds=0.0002)


def least_by_integer_program(instance: Instance, cost: str, most_seconds: float) -> float:
    """Ticks of ``cost`` of the best path within ``most_seconds`` ticks, as a flow of one unit (HiGHS).

    Nodes are "running over" and "at the broker"; arcs are a unit on a device, leaving and entering.
    """
    optimize = pytest.importorskip("scipy.optimize")
    sparse = pytest.importorskip("scipy.sparse")
    costs, units = instance.costs, instance.unit_count
    arcs: list[tuple[object, object, float, float]] = []

    def arc(tail: object, head: object, of: dict[str, float]) -> None:
        if all(math.isfinite(value) for value in of.values()):
            arcs.append((tail, head, of[cost], of["seconds"]))

    both = {"seconds": costs.seconds, "joules": costs.joules}
    for d in range(len(instance.devices)):
        for u in range(units):
            arc(
                ("run", d, u),
                ("run", d, u + 1),
                {n: s.before[u + 1, d] - s.before[u, d] for n, s in both.items()},
            )
            arc(("new", d, u), ("run", d, u), {n: s.fixed[d] for n, s in both.items()})
        for cut in range(1, units):
            for k in range(len(instance.codecs)):
                arc(("run", d, cut), ("broker", k, cut), {n: s.leave[cut, d, k] for n, s in both.items()})
                arc(("broker", k, cut), ("new", d, cut), {n: s.enter[cut, d, k] for n, s in both.items()})
        home = d == instance.origin
        arc(
            "input",
            ("new", d, 0),
            {n: 0.0 if home else s.leave[0, 0, 0] + s.enter[0, d, 0] for n, s in both.items()},
        )
        arc(
            ("run", d, units), "output",
            {n: 0.0 if home else s.leave[units, d, 0] + s.enter[units, 0, 0] for n, s in both.items()},
        )  # fmt: skip
    nodes = {node: i for i, node in enumerate(dict.fromkeys(end for arc in arcs for end in arc[:2]))}
    rows = [nodes[end] for arc in arcs for end in arc[:2]]
    columns = [i for i in range(len(arcs)) for _ in range(2)]
    flow = sparse.csr_matrix((np.tile([-1.0, 1.0], len(arcs)), (rows, columns)))
    wanted = np.zeros(len(nodes))
    wanted[nodes["input"]], wanted[nodes["output"]] = -1.0, 1.0
    scale = 1e-6
    constraints = [optimize.LinearConstraint(flow, wanted, wanted)]
    if math.isfinite(most_seconds):
        seconds = scale * np.array([[arc[3] for arc in arcs]])
        constraints.append(optimize.LinearConstraint(seconds, -np.inf, scale * most_seconds))
    answer = optimize.milp(
        scale * np.array([arc[2] for arc in arcs]), constraints=constraints, integrality=np.ones(len(arcs)),
        bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    assert answer.success, answer.message
    return float(answer.fun) / scale


@pytest.mark.parametrize("seed", range(20))
def test_there_is_no_regret_against_an_integer_program(seed: int) -> None:
    instance = medium_instance(seed)

    latency, energy, bounded = (
        solve(instance, Goal(name)) for name in ("latency", "energy", "bounded-energy")
    )

    assert isinstance(latency, Plan) and isinstance(energy, Plan) and isinstance(bounded, Plan)
    assert bounded.bound is not None and bounded.proven
    rounding = 1e-6
    within = bound_ticks(bounded.bound)
    assert latency.total * TICKS == pytest.approx(
        least_by_integer_program(instance, "seconds", math.inf), rel=rounding
    )
    assert energy.prediction.joules * TICKS == pytest.approx(
        least_by_integer_program(instance, "joules", math.inf), rel=rounding
    )
    assert bounded.prediction.joules * TICKS == pytest.approx(
        least_by_integer_program(instance, "joules", within), rel=rounding
    )
    assert bounded.total * TICKS <= within
