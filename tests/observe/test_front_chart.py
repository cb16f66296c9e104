"""The front in the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.observe.axis import axis_around
from edgemesh.observe.front_chart import front_png, front_text
from edgemesh.protocol.activation import Hop
from edgemesh.protocol.what_if import FrontResponse, PlannedRoute


def plan(device: str, seconds: float, joules: float) -> PlannedRoute:
    return PlannedRoute((Hop(device, 9),), seconds, joules)


def front(*points: PlannedRoute, bound: float | None = 0.08, singles: int = 2) -> FrontResponse:
    return FrontResponse(
        "r", "face", "app",
        objective="bounded-energy", bound=bound, points=points, total=len(points), in_force=points[0],
        singles=tuple(plan(f"d{i}", 0.1 * (i + 1), 1.0) for i in range(singles)),
    )  # fmt: skip


THREE = front(plan("a", 0.05, 4.0), plan("b", 0.1, 2.0), plan("c", 0.2, 0.5))


def test_what_is_in_force_the_bound_and_single_devices_are_marked_and_named() -> None:
    lines = front_text(THREE).splitlines()
    plot = [line for line in lines if " |" in line]

    assert "3 plans that none beats in both" in lines[0]
    assert sum(line.count("@") for line in plot) == 1
    assert all("|" in line.partition("|")[2] for line in plot)  # the bound goes from top to bottom
    assert "@ in force (bounded-energy): a 0-9: 50.0 ms, 4.00 J" in lines
    assert "| bound: 80.0 ms for a job" in lines
    assert "A all on d0: 100 ms, 1.00 J" in lines
    assert "* c 0-9: 200 ms, 500 mJ" in lines


def test_faster_stands_to_the_left_and_thriftier_below() -> None:
    plot = [line.partition("|")[2] for line in front_text(THREE).splitlines() if " |" in line]
    places = [(row, line.index(sign)) for row, line in enumerate(plot) for sign in "@*" if sign in line]

    assert [column for _, column in places] == sorted(column for _, column in places)
    assert len(places) == 3


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e5), st.floats(0.0, 1e7)), min_size=1, max_size=30),
    st.none() | st.floats(1e-6, 1e5),
    st.integers(20, 200),
)
def test_any_front_fits_the_terminal(
    points: list[tuple[float, float]], bound: float | None, width: int
) -> None:
    text = front_text(front(*(plan("pi", s, j) for s, j in points), bound=bound), width)

    plot = [line for line in text.splitlines()[1:] if " |" in line or "+-" in line]
    assert max(map(len, plot)) <= max(width, 60)
    assert text.isascii()
    assert "@" in text


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
def test_an_axis_holds_its_values_and_its_ticks_are_within(values: list[float]) -> None:
    axis = axis_around(values)

    shares = [axis.share(value) for value in sorted(values)]
    assert shares == sorted(shares)
    assert all(0.0 <= share <= 1.0 for share in shares)
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in axis.ticks())


def test_the_picture_shows_each_kind_of_mark(tmp_path: Path) -> None:
    front_png(THREE, tmp_path / "a.png")
    front_png(front(plan("a", 0.05, 4.0), bound=None, singles=0), tmp_path / "b.png")

    with PIL.Image.open(tmp_path / "a.png") as picture:
        colours = {tuple(colour) for colour in np.asarray(picture).reshape(-1, 3)}
    assert {(0, 114, 178), (213, 94, 0), (230, 159, 0), (0, 98, 155)} <= colours
