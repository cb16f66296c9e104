"""The cost model applied to given plans."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import planning_instances as build
import pytest

from edgemesh.planning.instance import Instance, Link, Pin, Requester
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Infeasible, Plan, Prediction
from edgemesh.planning.prediction import predicted_latency


def hand_made() -> Instance:
    """A Pi with a camera, 1 MB/s up and 2 MB/s down, and a laptop; figures below are worked out by hand."""
    pi = build.device(
        "pi",
        [0.010, 0.020, 0.030],
        link=Link(0.002, 1e6, 0.003, 2e6),
        run_overhead=0.001,
        run_factor=0.5,
        encode=(0.0, 1e-7),
        decode=(0.0, 2e-7),
    )
    laptop = build.device(
        "laptop", [0.001, 0.002, 0.003], link=Link(0.0005, 10e6, 0.0005, 20e6), queue_seconds=0.004,
        encode=(0.0, 1e-8), decode=(0.0, 2e-8),
    )  # fmt: skip
    return build.instance(
        [pi, laptop],
        [[150_000.0, 40_000.0], [100_000.0, 25_000.0], [60_000.0, 15_000.0], [4_000.0, 1_000.0]],
        broker_seconds=0.0001,
    )


def test_a_prediction_equals_one_worked_out_by_hand() -> None:
    prediction = predicted_latency(hand_made(), build.forced((0, 1, "pi", "f16"), (1, 3, "laptop")))

    assert isinstance(prediction, Prediction)
    first, second = prediction.hops
    assert first.arrival is None
    assert first.run == pytest.approx(0.001 + 0.5 * 0.010)
    assert second.arrival is not None and second.arrival.nbytes == 25_000
    assert second.arrival.encode == pytest.approx(0.010)  # 100 KB raw at 0.1 us per byte
    assert second.arrival.up == pytest.approx(0.002 + 0.025)
    assert second.arrival.down == pytest.approx(0.00125 + 0.0005)
    assert second.arrival.decode == pytest.approx(0.002)
    assert (second.queue, second.run) == (pytest.approx(0.004), pytest.approx(0.005))
    assert prediction.result is not None
    assert prediction.result.seconds == pytest.approx(0.0005 + 0.0004 + 0.0001 + 0.002 + 0.003)
    assert prediction.total == pytest.approx(
        0.006 + (0.010 + 0.027 + 0.0001 + 0.00175 + 0.002) + 0.009 + 0.006
    )
    assert prediction.nbytes == 29_000


def test_nothing_is_sent_when_all_runs_on_the_origin() -> None:
    prediction = predicted_latency(hand_made(), build.forced((0, 3, "pi")))

    assert isinstance(prediction, Prediction)
    assert prediction.crossings == ()
    assert prediction.total == pytest.approx(0.031)


def test_input_and_result_of_an_app_pass_the_broker() -> None:
    gateway = Requester(Link(0.001, 1e6, 0.001, 1e6))
    instance = build.instance([build.device("a", [0.001])], [[1000.0], [500.0]], origin=gateway)

    prediction = predicted_latency(instance, build.forced((0, 1, "a")))

    assert isinstance(prediction, Prediction)
    assert [(c.sender, c.receiver) for c in prediction.crossings] == [("app", "a"), ("a", "app")]
    assert prediction.total == pytest.approx(0.001 + 0.001 + 0.001 + 0.001 + 0.0005)


def test_the_solver_and_the_prediction_share_one_cost_model() -> None:
    for seed in range(100):
        instance = build.random_instance(Random(seed))
        plan = solve_latency(instance)
        if isinstance(plan, Plan):
            again = predicted_latency(instance, plan.partitions, plan.input_codec)
            assert again == plan.prediction
            assert isinstance(again, Prediction)
            parts = sum(hop.seconds for hop in again.hops) + (again.result.seconds if again.result else 0.0)
            assert parts == pytest.approx(again.total, abs=1e-12)


def broken(**changes: object) -> Instance:
    fields: dict = {"seconds": [0.001, 0.001], "memory_limit": math.inf, "unavailable": "", **changes}
    pins = fields.pop("pins", ())
    excluded = fields.pop("excluded", frozenset())
    codec_allowed = np.array(fields.pop("codec_allowed", [[True]] * 3))
    return build.instance(
        [build.device("pi", [0.001, 0.001]), build.device("laptop", **fields)],
        weight_bytes=np.array([3.0, 4.0]),
        pins=pins,
        excluded=excluded,
        codec_allowed=codec_allowed,
    )


@pytest.mark.parametrize(
    ("instance", "kind", "named"),
    [
        (broken(unavailable="is offline"), "unavailable", "laptop is offline"),
        (broken(excluded=frozenset({1})), "excluded", "laptop"),
        (broken(seconds=[0.001, math.inf]), "incapable", "unit 1 'layer1'"),
        (broken(pins=(Pin(1, 2, frozenset({0})),)), "pinned", "unit 1 'layer1'"),
        (broken(memory_limit=3.0), "memory", "4 bytes"),
        (broken(codec_allowed=[[True], [False], [True]]), "unreachable", "cut 1"),
        (build.instance([build.device("pi", [0.001, 0.001])]), "unavailable", "laptop is gone"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_says_why(instance: Instance, kind: str, named: str) -> None:
    answer = predicted_latency(instance, build.forced((0, 1, "pi"), (1, 2, "laptop")))

    assert isinstance(answer, Infeasible)
    assert answer.kind == kind
    assert named in answer.reason


def test_a_plan_with_a_codec_out_of_use_says_so() -> None:
    answer = predicted_latency(hand_made(), build.forced((0, 1, "pi", "q8+zstd"), (1, 3, "laptop")))

    assert isinstance(answer, Infeasible)
    assert answer.kind == "unreachable" and "q8+zstd" in answer.reason
