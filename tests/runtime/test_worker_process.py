"""The executor's own process, one request at a time."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgemesh.errors import RunError
from edgemesh.protocol.jsontext import encode_json
from edgemesh.runtime.channel import pack_message, send_all
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


def test_it_ends_without_a_word_when_nobody_wants_its_answer() -> None:
    """Found by a reader: Ctrl-C in the first seconds of ``edgemesh up`` ended in its traceback."""
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            send_all(ours, pack_message({"do": "close", "digest": "none"}, []))
        command = [sys.executable, "-m", "edgemesh.runtime.worker_process", str(theirs.fileno()), "-1", "1"]

        done = subprocess.run(
            command, pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False, timeout=60
        )

    assert (done.returncode, done.stderr) == (0, "")


def test_content_that_is_opened_with_other_cuts_has_nothing_loaded() -> None:
    core = ExecutorCore(1)
    fewer = (*FACE.boundaries[:1], *FACE.boundaries[2:])
    otherwise = replace(FACE, units=FACE.units[:3], boundaries=fewer)
    for manifest, loaded in ((FACE, 0), (replace(FACE, revision=7), 1), (otherwise, 0)):
        core.answer({"do": "open", "path": "nowhere"}, memoryview(encode_json(manifest)))
        assert len(core._ranges) == loaded
        core._ranges[FACE.digest, 0, 2] = CountingRange()


class FailingRange(CountingRange):
    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        raise RunError("cannot allocate memory")


class Model:
    """Loads any range of a model."""

    def __init__(self, kind: type[CountingRange]) -> None:
        self._kind = kind

    def load(self, start: int, stop: int) -> CountingRange:
        return self._kind()


@pytest.mark.parametrize(
    ("kind", "code", "left"), [(FailingRange, "run-failed", 0), (CountingRange, None, 1)]
)
@pytest.mark.parametrize("asked", ["load", "measure"])
def test_a_range_whose_first_run_fails_does_not_stay_loaded(
    asked: str, kind: type[CountingRange], code: str | None, left: int
) -> None:
    """Found by a reader: each one that did not fit into memory took some of it for good."""
    core = ExecutorCore(1)
    core._manifests[FACE.digest] = Path("nowhere"), FACE
    core._models[FACE.digest] = Model(kind)

    answer, _ = core.answer({"do": asked, "digest": FACE.digest, "start": 1, "stop": 2}, memoryview(b""))

    assert answer.get("code") == code
    assert len(core._ranges) == (left if asked == "load" else 0)


@pytest.mark.parametrize("asked", ["load", "measure"])
def test_a_range_that_was_there_stays_where_a_later_run_fails(asked: str) -> None:
    core = ExecutorCore(1)
    core._manifests[FACE.digest] = Path("nowhere"), FACE
    key = FACE.digest, 1, 2
    core._ranges[key] = FailingRange()
    core._unasked[key] = None

    answer, _ = core.answer({"do": asked, "digest": FACE.digest, "start": 1, "stop": 2}, memoryview(b""))

    assert answer["code"] == "run-failed"
    assert list(core._ranges) == list(core._unasked) == [key]
