"""What jobs of other plans make a job wait."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.instance import Instance, Link, PlanningDevice, raw_at_both_ends
from edgemesh.planning.joint import Load
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Partition, Plan
from edgemesh.planning.queueing import FULL, MOST_SECONDS, OVERLOAD_SECONDS
from edgemesh.roles.shared_load import other_work, waiting_seconds
from edgemesh.roles.switching import InForce


def alone(seconds: float) -> Plan:
    """All on one device, where the input is."""
    device = PlanningDevice("pi", Link(0.001, 1e7, 0.001, 1e7), np.array([seconds]))
    allowed = raw_at_both_ends(1, 1)
    instance = Instance(("all",), np.ones(1), np.ones(1), ("raw",), np.ones((2, 1)), allowed, (device,), 0)
    plan = solve_latency(instance)
    assert isinstance(plan, Plan)
    return plan


def test_below_saturation_it_is_the_mean_wait_of_an_m_g_1_queue() -> None:
    # Service of constant 0.2 s at 2.5 per second: 0.5 busy, 0.2 / 2 * 0.5 / (1 - 0.5).
    assert waiting_seconds([(alone(0.2), 2.5)])["pi"] == pytest.approx(0.1)


@given(st.floats(0.001, 5.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_it_grows_with_the_load_without_a_jump_and_a_little_overload_is_no_catastrophe(
    seconds: float, one: float, other: float
) -> None:
    less, more = sorted((one, other))
    low, high = (waiting_seconds([(alone(seconds), busy / seconds)])["pi"] for busy in (less, more))
    assert 0.0 <= low <= high * 1.0001
    most = seconds / 2.0 * more / (1.0 - FULL) + max(0.0, more - FULL) * OVERLOAD_SECONDS
    assert high <= most * 1.0001
    edge = [waiting_seconds([(alone(seconds), busy / seconds)])["pi"] for busy in (FULL - 1e-6, FULL + 1e-6)]
    assert edge[1] - edge[0] <= 1e-3 * (1.0 + seconds)


def test_no_wait_is_endless_and_joint_plans_reckon_with_the_same() -> None:
    assert waiting_seconds([(alone(5.0), 1e9)]) == {"pi": MOST_SECONDS}
    load = Load(busy=1.2, squares=4.0 * 0.3**2)
    assert waiting_seconds([(alone(0.3), 4.0)])["pi"] == pytest.approx(load.wait)


def in_force(digest: str, cut: int) -> InForce:
    """Units up to ``cut`` on ``pi``, the rest on ``hub``, 100 bytes each."""
    plan = alone(0.1)
    first, second = Partition(0, cut, "pi", "raw"), Partition(cut, 4, "hub", "raw")
    memory = {"pi": 100.0 * cut, "hub": 100.0 * (4 - cut)}
    manifest = SimpleNamespace(digest=digest)
    plan = replace(plan, partitions=(first, second))
    return cast("InForce", SimpleNamespace(plan=plan, manifest=manifest, memory=memory))


def test_a_range_that_serves_two_origins_takes_memory_once_and_two_cuts_take_both() -> None:
    """Found by a reader: a third model saw what a hub holds once as often as it had origins."""
    plans = {
        ("face", "one"): in_force("a", 1),
        ("face", "two"): in_force("a", 1),
        ("face", "three"): in_force("a", 2),
        ("hands", "one"): in_force("b", 1),
        ("pose", "one"): in_force("c", 3),
    }

    taken = other_work(("pose", "one"), "c", plans, {}).memory_bytes

    assert taken == {"pi": 100.0 + 200.0 + 100.0, "hub": 300.0 + 200.0 + 300.0}
    assert other_work(("face", "four"), "a", plans, {}).memory_bytes == {"pi": 400.0, "hub": 400.0}
