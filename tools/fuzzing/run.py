"""Run the fuzzer on one target in a process of its own, and read what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fuzzing.target import Target

_HANG_SECONDS = 1
_MEGABYTES = 1024
"""Of the whole process, with the interpreter, NumPy and the fuzzer's own tables."""
_DONE = re.compile(r"Done (\d+) runs")
_COVERED = re.compile(r"cov: (\d+)")
_PEAK = re.compile(r"peak_rss_mb: *(\d+)|rss: (\d+)Mb")
_RUN = re.compile(r"^#(\d+)", re.MULTILINE)
_FINDING = re.compile(
    r"^(?:.*ERROR: libFuzzer: (.*)|(\w[\w.]*(?:Error|Exception|Interrupt)\b.*))$", re.MULTILINE
)
_KEPT = re.compile(r"Test unit written to (.*)")


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target."""

    target: str
    runs: int
    covered: int
    """Edges of edgemesh's code that some input reached."""
    peak_megabytes: int | None
    finding: str | None
    """The error, in a line; None when nothing was found."""
    input: Path | None


def fuzzed(target: Target, runs: int, seed: int, folder: Path, found: Path) -> Fuzzed:
    """Try ``runs`` inputs, starting from the target's seeds; what fails is kept in ``found``."""
    corpus = folder / target.name
    corpus.mkdir()
    for number, payload in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(payload)
    found.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_MEGABYTES}",
        f"-max_len={target.most_bytes}",
        f"-artifact_prefix={found}/{target.name}-",
        "-print_final_stats=1",
        str(corpus),
    ]
    command = [sys.executable, "-m", "fuzzing.one", target.name, *flags]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    finished = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    return read_report(target.name, finished.stdout + finished.stderr, finished.returncode)


def read_report(target: str, text: str, status: int) -> Fuzzed:
    """What libFuzzer's output says; ``status`` is its exit status, which is not 0 after a finding."""
    done = _DONE.search(text)
    counted = _RUN.findall(text)
    runs = int(done[1]) if done else int(counted[-1]) if counted else 0
    covered = [int(number) for number in _COVERED.findall(text)]
    peaks = [int(first or second) for first, second in _PEAK.findall(text)]
    finding = None
    if status != 0 or done is None:
        errors = [first or second for first, second in _FINDING.findall(text)]
        finding = (errors[0] if errors else f"the fuzzer ended with status {status}")[:300]
    kept = _KEPT.search(text)
    return Fuzzed(
        target,
        runs,
        max(covered, default=0),
        max(peaks, default=None),
        finding,
        Path(kept[1]) if kept else None,
    )
