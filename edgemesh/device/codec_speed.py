"""How fast this machine encodes and decodes tensors: seconds per byte for each codec that it can use."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Final

import numpy as np

from edgemesh.errors import EdgemeshError
from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.presence import CodecSpeed
from edgemesh.protocol.tensors import decode_tensors, section_bytes

MEASURE_SECONDS: Final = 0.04
"""All codecs together, after one round: an agent starts without being noticed."""
_ELEMENTS: Final = 32_768
"""128 KB, a usual boundary: small enough for one round in a few milliseconds, on a small board in tens."""


@cache
def measured_codec_speeds(clock: Callable[[], float] = time.perf_counter) -> tuple[CodecSpeed, ...]:
    """One entry for each codec whose library is installed; medians of as many rounds as the time allows.

    Measured on what activations look like (numbers of one sign, half of them zero), once per process: several
    agents in it would only measure each other.
    """
    tensor = np.maximum(np.random.default_rng(0).standard_normal(_ELEMENTS), 0.0).astype(np.float32)
    usable = [name for name in CODECS if _is_usable(name)]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in usable}
    decoded = clock()
    ends = decoded + MEASURE_SECONDS
    while True:
        for name in usable:
            began = clock()
            section = section_bytes([tensor], name)
            encoded = clock()
            decode_tensors(section)
            decoded = clock()
            seen[name].append((encoded - began, decoded - encoded))
        if decoded >= ends:
            break
    return tuple(
        CodecSpeed(name, _per_byte([e for e, _ in times]), _per_byte([d for _, d in times]))
        for name, times in seen.items()
    )


def _is_usable(codec: str) -> bool:
    # The run also warms what is imported or allocated at first use.
    try:
        decode_tensors(section_bytes([np.zeros(16, np.float32)], codec))
    except EdgemeshError:
        return False
    return True


def _per_byte(seconds: list[float]) -> float:
    return float(f"{median(seconds) / (_ELEMENTS * 4):.3g}")
