"""``tools/fuzz``: every reader has a target, what is wrong is found and kept, and the exit status says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzzing.run import read_report
from fuzzing.target import Target
from fuzzing.targets import targets

from edgemesh.errors import DecodeError

ROOT = Path(__file__).resolve().parents[2]

_CRASH = """\
#2 INITED cov: 50 ft: 51 corp: 2/100b exec/s: 0 rss: 64Mb
#181 NEW cov: 89 ft: 130 corp: 9/1kb lim: 400 exec/s: 0 rss: 72Mb
 === Uncaught Python exception: ===
ValueError: seven is not allowed
==7== ERROR: libFuzzer: fuzz target exited
artifact_prefix='found/input-'; Test unit written to found/input-crash-00ff
"""
_SLOW = """\
#9 INITED cov: 50 ft: 51 corp: 2/100b exec/s: 0 rss: 64Mb
ALARM: working on the last Unit for 2 seconds
artifact_prefix='found/input-'; Test unit written to found/input-timeout-00ff
==7== ERROR: libFuzzer: timeout after 2 seconds
"""


def _tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "fuzz"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)


@pytest.mark.parametrize("target", targets().values(), ids=targets().keys())
def test_every_target_takes_its_own_seeds(target: Target) -> None:
    seeds = list(target.seeds())

    assert seeds
    for payload in seeds:
        assert not isinstance(target.outcome(payload), Exception) or target.name == "sender"


def test_a_target_passes_refusals_on_and_nothing_else() -> None:
    def read(payload: bytes) -> object:
        if payload == b"7":
            raise ValueError("seven is not allowed")
        raise DecodeError("no message")

    target = Target("made-up", read, lambda: [b"1"])

    assert isinstance(target.outcome(b"1"), DecodeError)
    with pytest.raises(ValueError, match="seven"):
        target.outcome(b"7")


def test_an_exception_is_reported_with_the_input_that_caused_it() -> None:
    result = read_report("input", _CRASH, status=77)

    assert result.finding == "ValueError: seven is not allowed"
    assert (result.runs, result.covered, result.peak_megabytes) == (181, 89, 72)
    assert result.input == Path("found/input-crash-00ff")


def test_a_hang_is_a_finding() -> None:
    result = read_report("input", _SLOW, status=70)

    assert result.finding == "timeout after 2 seconds"
    assert result.input == Path("found/input-timeout-00ff")


def test_an_end_without_a_word_is_a_finding() -> None:
    assert read_report("input", "", status=-9).finding == "the fuzzer ended with status -9"


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_a_short_run_ends_with_one_json_object_and_tried_what_it_says(tmp_path: Path) -> None:
    finished = _tool("state", "activation", "--runs", "1000", "--json", "--found", str(tmp_path))

    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads(finished.stdout.splitlines()[-1])
    assert report["figures"]["inputs"] >= 1000
    assert [claim["holds"] for claim in report["claims"]] == [True]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_is_wrong_usage() -> None:
    finished = _tool("nothing")

    assert finished.returncode == 2
    assert "no target nothing; there are activation" in finished.stderr
