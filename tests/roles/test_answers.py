"""Answers to questions about plans, from one instance."""

from __future__ import annotations

from typing import Any

import pytest

from edgemesh.planning.goal import Goal
from edgemesh.planning.instance import Instance
from edgemesh.planning.latency import solve_latency
from edgemesh.planning.objectives import solve
from edgemesh.planning.plan import Plan
from edgemesh.protocol import limits
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.manifest import Manifest, TensorSpec, Unit
from edgemesh.protocol.requests import Policy
from edgemesh.protocol.what_if import (
    AddedBoard,
    BatteryChange,
    FrontRequest,
    FrontResponse,
    LinkChange,
    LoadChange,
    SpeedRatio,
    WhatIfRequest,
    WhatIfResponse,
)
from edgemesh.roles.answers import front_response, what_if_response
from tests.planning.planning_instances import device, instance, link

GOAL = Goal("bounded-energy")
MANIFEST = Manifest(
    "net", "0" * 64, "tflite", 1, tuple(Unit(f"u{i}", 1, 1_000_000, 1, 1) for i in range(3)),
    tuple((TensorSpec("t", "float32", (250,)),) for _ in range(4)), 1, ("0" * 64,),
)  # fmt: skip


def mesh(**others: Any) -> Instance:
    """A slow and thrifty origin, a fast helper that takes twenty times its watts."""
    near = link(up=1e6, down=1e6)
    return instance(
        [
            device("pi", [0.030, 0.020, 0.030], link=near, busy_watts=2.0),
            device("laptop", [0.003, 0.002, 0.003], link=near, busy_watts=40.0),
        ],
        [[1000.0]] * 4,
        **others,
    )


def planned(inst: Instance, goal: Goal = GOAL) -> Plan:
    plan = solve(inst, goal)
    assert isinstance(plan, Plan)
    return plan


def asked(inst: Instance | None = None, policy: Policy = Policy(), **changes: Any) -> WhatIfResponse:
    inst = inst if inst is not None else mesh()
    request = WhatIfRequest("r", "net", "pi", **changes)
    answer = what_if_response(request, MANIFEST, inst, GOAL, policy, planned(inst))
    assert decode_json(WhatIfResponse, encode_json(answer)) == answer
    return answer


def route(plan: Any) -> list[tuple[str, int]]:
    return [(hop.device, hop.stop) for hop in plan.route]


def test_the_plan_of_now_stands_beside_the_plan_then_and_the_one_kept() -> None:
    answer = asked(links=(LinkChange("laptop", "both", 1e4),))

    assert answer.error is None and answer.now is not None and answer.then is not None
    assert route(answer.now) == [("laptop", 3)]
    assert route(answer.then) == [("pi", 3)]
    assert answer.kept is not None
    assert answer.kept.seconds > answer.then.seconds > answer.now.seconds
    assert answer.text == (
        "units would move: 80.0 ms, 160 mJ instead of 12.0 ms, 320 mJ now; the plan in force would take "
        "210.0 ms, 320 mJ, beyond the bound of 100.0 ms"
    )


def test_a_plan_that_could_not_be_kept_is_left_out() -> None:
    answer = asked(off=("laptop",))

    assert answer.kept is None
    assert answer.text.endswith("could not be carried out: laptop is off in this question")


def test_a_dearer_plan_is_told_what_makes_it_so() -> None:
    """Within the bound, the plan moves because of the joules."""
    inst = mesh()
    request = WhatIfRequest("r", "net", "pi", loads=(LoadChange("laptop", 0.5),))

    answer = what_if_response(
        request, MANIFEST, inst, Goal("energy"), Policy(), planned(inst, Goal("latency"))
    )

    assert "the plan in force would take 20.0 ms, 640 mJ: 160 mJ instead of 640 mJ, because " in answer.text


def test_what_changes_nothing_is_said_to() -> None:
    answer = asked(links=(LinkChange("laptop", "both", 1e6),))

    assert answer.text == "nothing would change: 12.0 ms, 320 mJ"


def test_a_board_that_would_not_be_used_is_told_why() -> None:
    slow = AddedBoard("pi-5", "pi-5", 10**9, 1e9, 2.0, 9.0, 0.5, 1e6, 1e6, 0.5, (SpeedRatio("pi", 2.0),))

    answer = asked(added=(slow,))

    assert answer.text.startswith("nothing would change")
    assert any(note.startswith("pi-5 would be idle: ") for note in answer.notes)


def test_a_battery_below_the_floor_of_the_policy_takes_the_device_out() -> None:
    answer = asked(policy=Policy(battery_floor=0.2), batteries=(BatteryChange("laptop", 0.1),))

    assert answer.then is not None
    assert route(answer.then) == [("pi", 3)]
    assert "below the floor of 20%" in answer.text


def test_a_battery_makes_its_joules_count_more() -> None:
    answer = asked(batteries=(BatteryChange("laptop", 0.9),))

    assert "joules are weighted: laptop 2 times" in answer.notes


def test_where_no_plan_would_be_left_the_reason_is_given() -> None:
    answer = asked(mesh(excluded=frozenset({0})), off=("laptop",))

    assert answer.then is None and answer.now is not None
    assert answer.error is not None and answer.error.startswith("there would be no plan: ")


def test_a_question_this_mesh_cannot_be_asked_is_an_error_and_no_exception() -> None:
    assert asked(off=("nobody",)).error == "no device nobody in this mesh (known: laptop, pi)"


def test_that_a_better_plan_is_there_anyway_is_not_laid_to_the_question() -> None:
    inst = mesh()
    everything_here = solve_latency(mesh(excluded=frozenset({1})))
    assert isinstance(everything_here, Plan)

    request = WhatIfRequest("r", "net", "pi", links=(LinkChange("pi", "up", 2e6),))
    answer = what_if_response(request, MANIFEST, inst, GOAL, Policy(), everything_here)

    assert any(note.startswith("even as things are, all on laptop is the best plan") for note in answer.notes)


def test_the_front_holds_the_plan_in_force_and_each_single_device() -> None:
    inst = mesh()

    answer = front_response(FrontRequest("r", "net", "pi"), inst, GOAL, planned(inst))

    assert decode_json(FrontResponse, encode_json(answer)) == answer
    assert answer.bound == pytest.approx(1.25 * 0.012)
    assert {route(single)[0][0] for single in answer.singles} == {"pi", "laptop"}
    assert answer.in_force is not None
    assert route(answer.in_force) == [("laptop", 3)]
    seconds = [point.seconds for point in answer.points]
    joules = [point.joules for point in answer.points]
    assert seconds == sorted(seconds) and joules == sorted(joules, reverse=True)
    assert answer.total == len(answer.points) >= 2
    assert route(answer.points[-1]) == [("pi", 3)]


def test_of_a_long_front_some_points_are_told_with_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(mesh())
    monkeypatch.setattr("edgemesh.roles.answers.pareto_front", lambda instance: (plan,) * 1000)

    answer = front_response(FrontRequest("r", "net", "pi"), mesh(), GOAL, None)

    assert (len(answer.points), answer.total) == (limits.FRONT, 1000)
