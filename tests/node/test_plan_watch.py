"""What ``edgemesh plan --watch`` tells, from what was seen before and what is seen now."""

from __future__ import annotations

from dataclasses import replace

from edgemesh.cli.plan import change_text
from edgemesh.node.plan_watch import PlanChange, Seen, differences
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.assignment import Assignment, HopPrediction, PlanFailure
from edgemesh.protocol.requests import Policy

KEY = ("face", "app")
NOBODY = Seen({}, {}, {})


def assignment(device: str = "pi", sequence: int = 1, reason: str = "first plan") -> Assignment:
    return Assignment(
        1, sequence, *("face", "a" * 64, "app", "latency"), route=(Hop(device, 3),),
        hops=(HopPrediction(device, 0, 3, 0.0, 0.0, 0.04, 0),), return_seconds=0.0, seconds=0.04,
        reason=reason, joules=0.5,
    )  # fmt: skip


def seen(*, plan: Assignment | None = None, why_not: str | None = None, policy: Policy | None = None) -> Seen:
    return Seen(
        {} if plan is None else {KEY: plan},
        {} if why_not is None else {KEY: PlanFailure(*KEY, "pinned", why_not, (Hop("pi", 3),))},
        {} if policy is None else {"face": policy},
    )


def test_what_is_so_at_the_beginning_is_told_once() -> None:
    now = seen(plan=assignment(), policy=Policy(exclude=("old",)))

    told = differences(NOBODY, now)

    assert [(change.kind, change.text) for change in told] == [
        ("policy", "never old"),
        ("plan", "first plan"),
    ]
    assert differences(now, now) == []


def test_new_figures_on_the_same_route_are_no_change() -> None:
    newer = replace(assignment(sequence=2, reason="estimates moved"), seconds=0.05)

    assert differences(seen(plan=assignment()), seen(plan=newer)) == []


def test_another_route_is_told_with_its_reason() -> None:
    other = assignment("laptop", 2, "pi takes longer")

    (told,) = differences(seen(plan=assignment()), seen(plan=other))

    assert told == PlanChange("plan", *KEY, "pi takes longer", (Hop("laptop", 3),), 0.04, 0.5)
    assert change_text(told, "17:45:10") == (
        "17:45:10 face for app: laptop 0-3, 40.0 ms, 500 mJ: pi takes longer"
    )


def test_a_failure_is_told_when_it_comes_and_when_it_goes() -> None:
    good, bad = seen(plan=assignment()), seen(plan=assignment(), why_not="units are pinned to x")

    (failed,) = differences(good, bad)
    (mended,) = differences(bad, good)

    assert change_text(failed, "1") == "1 face for app: no plan (pi 0-3 stays): units are pinned to x"
    assert change_text(mended, "2") == "2 face for app: it can be planned again"


def test_a_cleared_policy_and_a_withdrawn_plan_are_told() -> None:
    before = seen(plan=assignment(), policy=Policy(keep_input=True))

    told = differences(before, seen(policy=Policy(changed_by="eva@desk")))

    assert [(change.kind, change.text) for change in told] == [
        ("policy", "nothing but what is the default (set by eva@desk)"),
        ("gone", "the assignment was withdrawn"),
    ]
    assert differences(NOBODY, seen(policy=Policy(changed_by="eva@desk"))) == []
