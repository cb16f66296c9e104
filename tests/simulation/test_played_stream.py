"""When the jobs of a stream arise, and which frames a camera skips."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from edgemesh.simulation.clock import VirtualClock
from edgemesh.simulation.played_stream import PACE_JITTER, PlayedStream, jittered


def play(seconds: float, *, skips: bool, stop: float = 100.0) -> list[tuple[int, float]]:
    """Number and beginning of each job of a stream of one per second, where a job takes ``seconds``."""
    clock, begun = VirtualClock(0.0), []

    def submit(number: int) -> bool:
        begun.append((number, clock.now))
        clock.call_at(clock.now + seconds, stream.ended)
        return True

    stream = PlayedStream(clock, jittered(0.0, 1.0, Random(1)), stop, skips, submit)
    clock.run_until(stop + 10.0 * seconds)
    return begun


@pytest.mark.parametrize("skips", [False, True])
def test_jobs_that_are_over_in_time_all_arise_at_their_pace(skips: bool) -> None:
    begun = play(0.5, skips=skips)

    assert [number for number, _ in begun] == list(range(1, 101))
    assert all(0.0 <= at - (number - 1) <= PACE_JITTER for number, at in begun)


def test_without_skipping_slow_jobs_pile_up() -> None:
    assert len(play(2.5, skips=False)) == 100


@pytest.mark.parametrize(("seconds", "share"), [(1.3, 2 / 3), (2.5, 1 / 2.5), (7.25, 1 / 7.5)])
def test_a_camera_runs_one_job_at_a_time_and_skips_frames_that_are_too_late(
    seconds: float, share: float
) -> None:
    begun = play(seconds, skips=True)

    starts = [at for _, at in begun]
    assert all(later - at >= seconds - 1e-9 for at, later in pairwise(starts))
    assert all(at - (number - 1) <= 0.5 + 1.5 * PACE_JITTER for number, at in begun)
    assert len(begun) == pytest.approx(100 * share, rel=0.1)


def test_a_frame_of_somebody_who_is_away_keeps_nobody_busy() -> None:
    clock, seen = VirtualClock(0.0), []
    PlayedStream(clock, jittered(0.0, 1.0, Random(1)), 10.0, True, lambda number: bool(seen.append(number)))

    clock.run_until(20.0)

    assert seen == list(range(1, 11))
