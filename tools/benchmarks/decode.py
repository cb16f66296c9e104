"""Encoding and decoding an activation, against one memcpy of its bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks.report import Report, paired_ratio
from edgemesh.protocol.activation import Activation, Hop, decode_activation, encode_activation
from edgemesh.protocol.tensors import decode_tensors, encode_tensors

LIMIT = 3.0
_BYTES = 4 << 20
_BLOCK = 10


def measure(report: Report) -> None:
    """``encode + decode`` of one tensor of 4 MB, as the roles do it; the memcpy is NumPy's."""
    array = np.random.default_rng(0).standard_normal(_BYTES // 4, dtype=np.float32)
    header = Activation("job", "requester", "model", "0" * 64, 0, (Hop("device", 1),), 0, 30.0, "requester")

    def round_trip() -> None:
        _, section = decode_activation(encode_activation(header, encode_tensors([array])))
        decode_tensors(section)

    def memcpy() -> None:
        array.copy()  # to fresh memory, as a message is

    ours: list[float] = []
    theirs: list[float] = []
    for number in range((20 if report.quick else 100) + 1):
        mine, other = _timed(round_trip), _timed(memcpy)
        if number:  # the first block warms up
            ours += mine
            theirs += other
    report.figure("activation of 4 MB, encode + decode, ms", median(ours) * 1e3)
    report.figure("memcpy of 4 MB, ms", median(theirs) * 1e3)
    report.claim(
        "activation encode + decode against one memcpy at 4 MB", paired_ratio(ours, theirs, _BLOCK), LIMIT
    )


def _timed(run: Callable[[], None]) -> list[float]:
    samples = []
    for _ in range(_BLOCK):
        began = time.perf_counter()
        run()
        samples.append(time.perf_counter() - began)
    return samples
