"""The executor's own process, one request at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgemesh.runtime.worker_process import ExecutorCore
from edgemesh.simulation.models import made_up_model

FACE, _ = made_up_model()


class CountingRange:
    """A loaded range that only counts."""

    memory_bytes = 0

    def __init__(self) -> None:
        self.runs = 0

    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        self.runs += 1
        return inputs


@pytest.mark.parametrize(("asked", "least", "most"), [({"runs": 2}, 3, 3), ({"runs": 0}, 4, 26), ({}, 4, 26)])
def test_a_measurement_runs_as_often_as_asked_after_one_to_warm_up(
    asked: dict[str, int], least: int, most: int
) -> None:
    core, loaded = ExecutorCore(1), CountingRange()
    core._manifests[FACE.digest] = Path("nowhere"), FACE
    core._ranges[FACE.digest, 1, 2] = loaded

    header = {"do": "measure", "digest": FACE.digest, "start": 1, "stop": 2, **asked}
    answer, _ = core.answer(header, memoryview(b""))

    assert answer["seconds"] > 0.0
    assert least <= loaded.runs <= most
