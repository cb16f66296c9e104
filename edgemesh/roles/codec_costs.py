"""What encoding and decoding cost a device, by its own measurements where it publishes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edgemesh.protocol.codecs import CODECS
from edgemesh.protocol.presence import CodecSpeed

_ENCODE: Final = {"raw": 0.1e-9, "f16": 0.6e-9, "q8": 1.2e-9}
_DECODE: Final = {"raw": 0.0, "f16": 0.4e-9, "q8": 0.8e-9}
_ZSTD_ENCODE: Final = 3.0e-9
_ZSTD_DECODE: Final = 1.0e-9
"""Seconds per raw byte, seen on a 2-core x86_64 machine: for whoever publishes no figures of its own."""
_SLOWEST: Final = 1e-3
"""Seconds per byte. Nothing that computes is slower: a greater figure is nonsense, and taken for this."""


@dataclass(frozen=True)
class CodecCosts:
    """Seconds per raw byte, in the order of the codecs asked for; infinite for one that the device lacks."""

    encode: tuple[float, ...]
    decode: tuple[float, ...]


@lru_cache(maxsize=4096)
def codec_costs(measured: tuple[CodecSpeed, ...], codecs: tuple[str, ...]) -> CodecCosts:
    """Costs of ``codecs`` (of the table) on a device that published ``measured``, or nothing.

    A device that names some codecs can use those and ``raw``, and no others.
    """
    known = {speed.codec: speed for speed in measured}
    if not known:
        return CodecCosts(
            tuple(_typical(codec, _ENCODE, _ZSTD_ENCODE) for codec in codecs),
            tuple(_typical(codec, _DECODE, _ZSTD_DECODE) for codec in codecs),
        )
    encode, decode = [], []
    for codec in codecs:
        speed = known.get(codec)
        if speed is not None:
            encode.append(min(speed.encode, _SLOWEST))
            decode.append(min(speed.decode, _SLOWEST))
        elif codec == "raw":
            encode.append(_ENCODE[codec])
            decode.append(_DECODE[codec])
        else:
            encode.append(math.inf)
            decode.append(math.inf)
    return CodecCosts(tuple(encode), tuple(decode))


def _typical(codec: str, table: dict[str, float], zstd: float) -> float:
    row = CODECS[codec]
    # A codec that this table has no figure for costs as much as the dearest that it has.
    plain = table.get(codec.removesuffix("+zstd"), max(table.values()))
    return plain + (zstd if row.compressed else 0.0)
