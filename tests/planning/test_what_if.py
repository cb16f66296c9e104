"""The instance of a mesh that is not, made from one that is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.planning.instance import Instance, Link, PlanningDevice, Requester
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.plan import Plan
from edgemesh.planning.what_if import ContradictionError, changed
from edgemesh.protocol.what_if import (
    AddedBoard,
    BatteryChange,
    LinkChange,
    LoadChange,
    SpeedRatio,
    WhatIfRequest,
)
from tests.planning.planning_instances import device, instance, link

MACS = [6_000_000, 0, 2_000_000]


def mesh(**others: Any) -> Instance:
    """A slow origin and a fast helper behind a link of 1 MB/s, three units, 10 KB at each cut."""
    devices = [
        device("pi", [0.060, 0.010, 0.020], link=link(up=1e6, down=1e6), busy_watts=3.0),
        device("laptop", [0.006, 0.001, 0.002], link=link(up=1e6, down=1e6), run_overhead=0.001),
    ]
    return instance(devices, [[10_000.0]] * 4, **others)


def asked(inst: Instance, **changes: Any) -> Instance:
    return changed(inst, WhatIfRequest("r", "m", inst.origin_name, **changes), MACS).instance


def board(name: str = "pi-5", **others: Any) -> AddedBoard:
    figures: dict[str, Any] = {
        "memory_bytes": 5_000,
        "macs_per_second": 1e9,
        "idle_watts": 2.0,
        "busy_watts": 9.0,
        "radio_watts": 0.5,
        "up_bytes_per_second": 2e6,
        "down_bytes_per_second": 4e6,
        "delay": 0.002,
    }
    return AddedBoard(device=name, board="pi-5", **{**figures, **others})


def whole(spec: PlanningDevice) -> float:
    return spec.run_overhead + spec.run_factor * float(spec.seconds.sum())


def total(inst: Instance) -> float:
    plan = solve_latency(inst)
    assert isinstance(plan, Plan)
    return plan.total


def test_only_the_named_direction_and_figure_of_a_link_changes() -> None:
    before = mesh().devices[0].link

    after = asked(
        mesh(), links=(LinkChange("pi", "up", 5e5), LinkChange("laptop", "both", delay=0.02))
    ).devices

    assert after[0].link == Link(before.latency_up, 5e5, before.latency_down, before.rate_down)
    assert after[1].link == Link(0.02, 1e6, 0.02, 1e6)


def test_the_link_of_app_is_that_of_the_gateway() -> None:
    inst = mesh(origin=Requester(link(up=1e6, down=1e6)))

    after = asked(inst, links=(LinkChange("app", "both", 5e5),))

    assert isinstance(after.origin, Requester)
    assert (after.origin.link.rate_up, after.devices[0].link.rate_up) == (5e5, 1e6)


def test_a_load_multiplies_every_run_of_the_device() -> None:
    before, after = mesh().devices[1], asked(mesh(), loads=(LoadChange("laptop", 0.8),)).devices[1]

    assert whole(after) == pytest.approx(5.0 * whole(before))


def test_a_device_that_is_off_runs_nothing_and_a_new_best_plan_is_found() -> None:
    inst = mesh()
    assert total(inst) < 0.06

    after = asked(inst, off=("laptop",))

    assert not after.may_run[1].any()
    assert total(after) == pytest.approx(0.09)


def test_a_battery_has_the_effect_that_the_policy_gives_it() -> None:
    request = WhatIfRequest("r", "m", "pi", batteries=(BatteryChange("laptop", 0.1),))

    after = changed(mesh(), request, MACS, lambda charge: (f"is at {charge:.0%}", 3.0)).instance

    assert (after.devices[1].unavailable, after.devices[1].energy_weight) == ("is at 10%", 3.0)


def test_an_added_board_takes_the_times_of_the_device_whose_board_is_nearest() -> None:
    ratios = (SpeedRatio("pi", 3.0), SpeedRatio("laptop", 0.5), SpeedRatio("gone", 1.0))
    request = WhatIfRequest("r", "m", "pi", added=(board(faster_than=ratios),))

    answer = changed(mesh(), request, MACS)

    added = answer.instance.devices[2]
    laptop = mesh().devices[1]
    assert added.id == "pi-5"
    assert whole(added) == pytest.approx(whole(laptop) / 0.5)
    assert added.link == Link(0.002, 2e6, 0.002, 4e6)
    assert (added.busy_watts, added.radio_watts, added.memory_limit) == (7.0, 0.5, 5_000.0)
    assert "times measured on laptop, whose board is 2 times faster" in answer.notes[0]


def test_without_a_known_board_the_speed_counts_and_the_shares_are_those_measured() -> None:
    request = WhatIfRequest("r", "m", "pi", added=(board(),))

    answer = changed(mesh(), request, MACS)

    added = answer.instance.devices[2]
    assert whole(added) == pytest.approx(sum(MACS) / 1e9)
    assert added.run_factor * added.seconds[1] > 0.0  # no multiply-accumulates, but a time
    assert "multiply-accumulates over the board's speed" in answer.notes[0]


def test_where_nothing_is_measured_the_speed_alone_counts() -> None:
    inst = instance([device("pi", [math.inf] * 3)], [[10_000.0]] * 4)

    added = asked(inst, added=(board(),)).devices[1]

    assert added.seconds.tolist() == [0.006, 0.0, 0.002]


def test_an_added_board_may_be_taken_and_pins_keep_it_out() -> None:
    fast = board(
        faster_than=(SpeedRatio("pi", 1000.0),), up_bytes_per_second=1e9, delay=0.0, memory_bytes=10**9
    )

    plan = solve_latency(asked(mesh(), added=(fast,)))

    assert isinstance(plan, Plan)
    assert "pi-5" in plan.devices


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"off": ("nobody",)}, "no device nobody in this mesh (known: laptop, pi)"),
        ({"links": (LinkChange("app", "up", 1.0),)}, "no device app"),
        ({"loads": (LoadChange("x", 0.5),)}, "no device x"),
        ({"off": ("pi",)}, "the inputs arise on pi"),
        ({"added": (board("laptop"),)}, "there is a device laptop already"),
        ({"added": (board("new"), board("new"))}, "there is a device new already"),
    ],
)
def test_a_question_that_contradicts_the_mesh_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ContradictionError) as refused:
        asked(mesh(), **changes)

    assert words in str(refused.value)


@given(busy=st.floats(0.0, 1.0), rate=st.floats(1e-3, 1e18), delay=st.floats(0.0, 1e6))
def test_worse_is_never_better(busy: float, rate: float, delay: float) -> None:
    """A load, a slower link or a missing device can only lengthen the best plan."""
    inst = mesh()
    slower = LinkChange("laptop", "both", min(rate, 1e6), delay)

    after = asked(inst, loads=(LoadChange("laptop", busy),), links=(slower,))

    assert total(after) >= total(inst) - 1e-9
    assert total(asked(inst, off=("laptop",))) >= total(after) - 1e-9


def test_what_is_asked_leaves_the_mesh_as_it_was() -> None:
    inst = mesh()
    before = [(d.link, d.run_factor, d.unavailable, d.seconds.copy()) for d in inst.devices]

    asked(inst, off=("laptop",), loads=(LoadChange("pi", 0.5),), added=(board(),))

    for spec, (link_, factor, unavailable, seconds) in zip(inst.devices, before, strict=True):
        assert (spec.link, spec.run_factor, spec.unavailable) == (link_, factor, unavailable)
        assert np.array_equal(spec.seconds, seconds)
