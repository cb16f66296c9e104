"""Why devices are idle, and why plans change, in sentences with figures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import planning_instances as build
import pytest

from edgemesh.planning.alternatives import alternatives
from edgemesh.planning.explanation import Change, Idle, why_changed, why_idle
from edgemesh.planning.instance import Instance, Pin
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Plan


def plan_of(instance: Instance) -> Plan:
    plan = solve_latency(instance)
    assert isinstance(plan, Plan), plan
    return plan


def idle_devices(instance: Instance) -> dict[str, Idle]:
    plan = plan_of(instance)
    reasons = why_idle(instance, plan, alternatives(instance, plan, runner_ups=0).using)
    return {reason.device: reason for reason in reasons}


def test_every_device_that_cannot_take_part_is_told_apart() -> None:
    fast, slow = [0.001, 0.001], [0.1, 0.1]
    instance = build.instance(
        [
            build.device("pi", fast),
            build.device("gone", fast, unavailable="is offline"),
            build.device("banned", fast),
            build.device("old", [math.inf, math.inf]),
            build.device("tiny", slow, memory_limit=2e6),
            build.device("barred", [0.1, math.inf]),
        ],
        weight_bytes=np.array([3.4e6, 5e6]),
        excluded=frozenset({2}),
        pins=(Pin(0, 1, frozenset({0, 1, 2, 3, 4})),),
    )

    idle = idle_devices(instance)

    kinds = {name: reason.kind for name, reason in idle.items()}
    assert kinds == {
        "gone": "unavailable",
        "banned": "excluded",
        "old": "incapable",
        "tiny": "memory",
        "barred": "pinned",
    }
    assert "2.0 MB" in idle["tiny"].text and "3.4 MB" in idle["tiny"].text
    assert idle["gone"].text == "gone is offline"


def test_a_slower_device_comes_with_the_figure_and_its_cause() -> None:
    pi = build.device("pi", [0.010, 0.010])
    desktop = build.device("desktop", [0.001, 0.001], link=build.link(latency_down=0.060))
    instance = build.instance([pi, desktop])

    reason = idle_devices(instance)["desktop"]

    # 60 ms there, then either unit or both on it: both is best, 62 ms against 20 ms.
    assert reason.kind == "slower"
    assert reason.extra == pytest.approx(0.042)
    assert "62.0 ms" in reason.text and "42.0 ms more" in reason.text and "transfer" in reason.text


def test_an_equally_fast_device_is_idle_because_it_gains_nothing() -> None:
    instance = build.instance([build.device("a", [0.001]), build.device("b", [0.001])])

    assert idle_devices(instance)["b"].kind == "no-gain"


def test_a_device_behind_a_closed_cut_is_unreachable() -> None:
    instance = build.instance(
        [build.device("a", [0.001, 0.001]), build.device("b", [math.inf, 0.001])],
        codec_allowed=np.array([[True], [False], [True]]),
    )

    assert idle_devices(instance)["b"].kind == "unreachable"


def mesh(
    *, pi: float = 0.050, desktop: float = 0.010, latency: float = 0.010, offline: bool = False
) -> Instance:
    return build.instance(
        [
            build.device("pi", [pi]),
            build.device(
                "desktop",
                [desktop],
                link=build.link(latency_down=latency),
                unavailable="is offline" if offline else "",
            ),
        ]
    )


def change(before: Instance, now: Instance) -> Change:
    return why_changed(plan_of(before), before, plan_of(now), now)


def test_a_lost_device_is_the_reason_for_a_change() -> None:
    reason = change(mesh(), mesh(offline=True))

    assert (reason.kind, reason.saved) == ("impossible", None)
    assert "desktop is offline" in reason.text


def test_a_device_that_vanished_from_the_instance_is_the_reason_for_a_change() -> None:
    now = dataclasses.replace(mesh(), devices=mesh().devices[:1])

    assert "desktop is gone" in change(mesh(), now).text


def test_a_device_that_came_back_is_the_reason_for_a_change() -> None:
    reason = change(mesh(offline=True), mesh())

    assert reason.kind == "possible"
    assert reason.saved == pytest.approx(0.030)
    assert "desktop is offline" in reason.text and "20.0 ms instead of 50.0 ms" in reason.text


@pytest.mark.parametrize(
    ("before", "now", "cause"),
    [
        (mesh(), mesh(latency=0.1), "the link of desktop takes more: 100.0 ms, 10.0 ms before"),
        (mesh(), mesh(desktop=0.2), "running on desktop takes more: 200.0 ms, 10.0 ms before"),
        (mesh(latency=0.1), mesh(), "the link of desktop takes less: 10.0 ms, 100.0 ms before"),
        (mesh(), mesh(pi=0.005), "running on pi takes less: 5.00 ms, 50.0 ms before"),
    ],
)
def test_the_term_that_moved_most_is_the_reason_for_a_change(
    before: Instance, now: Instance, cause: str
) -> None:
    reason = change(before, now)

    assert reason.kind == "faster"
    assert cause in reason.text
    assert reason.saved is not None and reason.saved > 0.0


def test_a_first_plan_and_an_unchanged_one_say_so() -> None:
    assert why_changed(None, mesh(), plan_of(mesh()), mesh()).kind == "first"
    assert change(mesh(), mesh()).kind == "equal"
