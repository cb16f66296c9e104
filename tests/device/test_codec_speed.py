"""What a codec costs this machine is measured in a bounded time, and only of what it can use."""

from __future__ import annotations

import sys
from itertools import chain, cycle

import pytest

from edgemesh.device.codec_speed import MEASURE_SECONDS, measured_codec_speeds
from edgemesh.protocol.codecs import CODECS


class Clock:
    """A clock on which every encoding takes two of its steps, every decoding one."""

    def __init__(self, step: float) -> None:
        self._now, self._step = 0.0, step
        # Read at the beginning, then before and after encoding and after decoding, codec by codec.
        self._steps = chain([0], cycle([0, 2, 1]))
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        self._now += self._step * next(self._steps)
        return self._now


def test_every_codec_of_the_table_is_measured_on_this_machine() -> None:
    pytest.importorskip("zstandard")

    found = {speed.codec: speed for speed in measured_codec_speeds()}

    assert set(found) == set(CODECS)
    assert all(speed.encode > 0.0 and speed.decode > 0.0 for speed in found.values())


@pytest.mark.parametrize("step, rounds", [(MEASURE_SECONDS, 1), (MEASURE_SECONDS / 30, 2)])
def test_rounds_end_when_the_time_is_over_and_there_is_at_least_one(step: float, rounds: int) -> None:
    clock = Clock(step)

    found = measured_codec_speeds(clock)

    tensor_bytes = 128 * 1024
    assert [speed.encode for speed in found] == [pytest.approx(2 * step / tensor_bytes, rel=0.01)] * len(
        found
    )
    assert [speed.decode for speed in found] == [pytest.approx(step / tensor_bytes, rel=0.01)] * len(found)
    assert clock.reads == 1 + rounds * 3 * len(found)


def test_a_codec_whose_library_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)

    found = {speed.codec for speed in measured_codec_speeds(Clock(MEASURE_SECONDS))}

    assert found == {name for name, codec in CODECS.items() if not codec.compressed}
