"""How often something happens."""

from __future__ import annotations

import pytest

from edgemesh.planning.rate_estimate import MEMORY_SECONDS, EventRate


def test_a_steady_stream_is_known_from_its_first_seconds_on() -> None:
    rate = EventRate(0.0)
    seen = []
    for tenth in range(1, 601):
        rate.add(1, tenth / 10)
        seen.append(rate.per_second(tenth / 10))

    assert seen[30:] == pytest.approx([10.0] * len(seen[30:]), rel=0.05)


def test_a_stream_that_ends_is_forgotten() -> None:
    rate = EventRate(0.0)
    for second in range(60):
        rate.add(5, float(second))

    assert rate.per_second(60.0 + 4 * MEMORY_SECONDS) < 0.1
