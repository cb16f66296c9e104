"""History as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from edgemesh.observe.history_chart import (
    age_text,
    energy_series,
    history_png,
    latency_series,
    rows_of,
    switches,
)
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.history import HistoryEntry, HistoryRecord


def assigned(age: float, device: str, seconds: float) -> HistoryEntry:
    route = (Hop(device, 9),)
    return HistoryEntry(
        age,
        HistoryRecord("assignment", "face", "why", origin="app", route=route, seconds=seconds, joules=0.5),
    )


def outcome(age: float, measured: float) -> HistoryEntry:
    return HistoryEntry(
        age, HistoryRecord("outcome", "face", "jobs", origin="app", measured=measured, jobs=5)
    )


FAILURE = HistoryEntry(15.0, HistoryRecord("failure", "face", "no device", origin="app"))
ENTRIES = [
    outcome(5.0, 0.06),
    assigned(10.0, "b", 0.05),
    FAILURE,
    assigned(20.0, "a", 0.08),
    assigned(30.0, "a", 0.1),
]


def test_time_runs_from_the_oldest_to_the_newest() -> None:
    predicted, measured = latency_series(ENTRIES)

    assert predicted.points == ((30.0, 0.1), (20.0, 0.08), (10.0, 0.05))
    assert measured.points == ((5.0, 0.06),)
    assert energy_series(ENTRIES)[0].points == ((30.0, 0.5), (20.0, 0.5), (10.0, 0.5))


def test_only_another_route_is_a_switch() -> None:
    assert [(entry.age, entry.record.route[0].device) for entry in switches(ENTRIES)] == [
        (30.0, "a"),
        (10.0, "b"),
    ]


@pytest.mark.parametrize("entries", [ENTRIES, [FAILURE], [outcome(0.0, 0.0)], [assigned(0.0, "a", 0.0)]])
def test_any_history_can_be_drawn(entries: list[HistoryEntry], tmp_path: Path) -> None:
    history_png(entries, "face for inputs published by apps", tmp_path / "h.png")

    with PIL.Image.open(tmp_path / "h.png") as picture:
        assert picture.size[0] == 1300


def test_predicted_measured_and_failures_have_their_colours(tmp_path: Path) -> None:
    history_png(ENTRIES, "face", tmp_path / "h.png")

    with PIL.Image.open(tmp_path / "h.png") as picture:
        plot = np.asarray(picture)[130:370].reshape(-1, 3)
    colours = {tuple(colour) for colour in plot}
    assert {(0, 114, 178), (230, 159, 0), (213, 94, 0)} <= colours


def test_ages_are_told_in_a_unit_that_fits() -> None:
    assert [age_text(age) for age in (5, 600, 9000, 3 * 86_400)] == ["5 s", "10 min", "2.5 h", "3 d"]


def test_numbers_of_plans_that_lie_close_are_put_below_each_other() -> None:
    """Found by a reader: they were drawn over each other."""
    assert rows_of([(0.0, 10.0), (5.0, 10.0), (8.0, 10.0), (12.0, 10.0), (30.0, 10.0)]) == [0, 1, 2, 0, 0]
