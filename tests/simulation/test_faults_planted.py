"""It can fail: the fault simulator finds bugs that are planted in the roles, one at a time.

Each is looked for from the schedule on that showed it first. EDGEMESH_FAULTS=full looks from seed 0 on,
within the 2,000 schedules that each must be found in.
"""

from __future__ import annotations

import os

import pytest

from edgemesh.simulation.faults.run import played
from edgemesh.simulation.faults.schedules import schedule_of
from tests.simulation.planted import BUGS

WINDOW = 30
MOST = 2000


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    bug.plant(monkeypatch)
    full = os.environ.get("EDGEMESH_FAULTS") == "full"
    seeds = range(MOST) if full else range(bug.found_by, bug.found_by + WINDOW)

    found_by = next((seed for seed in seeds if played(schedule_of(seed)).broken is not None), None)

    assert found_by is not None
    monkeypatch.undo()
    assert played(schedule_of(found_by)).broken is None, "it breaks a rule without the bug"


def test_there_are_at_least_a_dozen() -> None:
    assert len(BUGS) >= 12
