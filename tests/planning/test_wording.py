"""Figures and names in words."""

from __future__ import annotations

from edgemesh.planning.wording import NAMED, listed
from edgemesh.protocol.limits import TEXT_CHARS


def test_of_many_names_some_are_told_and_the_others_counted() -> None:
    assert listed([]) == "" and listed(["a", "b"], " or ") == "a or b"
    names = [f"d{number}" for number in range(NAMED + 2)]
    assert listed(names[:NAMED]) == ", ".join(names[:NAMED])
    assert listed(names[: NAMED + 1]) == f"{', '.join(names[:NAMED])} and 1 other"
    assert listed(names).endswith(f"{names[NAMED - 1]} and 2 others")
    assert len(listed("x" * 64 for _ in range(4096))) < TEXT_CHARS / 4
