"""What lossy codecs do to a model's outputs, and how much of it a person accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.protocol.fields import Amount, Count, Fraction, Id

MEASURED_CODECS: Final = 16
"""Codecs that one manifest may have figures for."""


@dataclass(frozen=True)
class CodecErrors:
    """Measured on sample inputs: outputs with the boundary at one cut sent under ``codec``, against raw.

    Each list has one entry per cut, ends included; None where nothing was measured.
    """

    codec: Id
    """Name without ``+zstd``, which loses nothing. A reader ignores one that it does not know."""
    error: tuple[Amount | None, ...]
    """``|y - y'| / |y|`` (2-norms of one output tensor), the worst over samples and outputs."""
    largest: tuple[Amount | None, ...]
    """Largest absolute difference of any output value."""
    agreement: tuple[Fraction | None, ...]
    """Share of samples whose best label stayed the same; None for a model whose outputs are no labels."""
    samples: Count
    inputs: str = ""
    """What the samples were, for people."""

    def __post_init__(self) -> None:
        """Raise DecodeError when the lists do not belong to the same cuts."""
        lengths = {len(self.error), len(self.largest), len(self.agreement)}
        if len(lengths) != 1:
            raise DecodeError(f"figures of codec {self.codec} are for {sorted(lengths)} cuts")


@dataclass(frozen=True)
class AccuracyBudget:
    """How far outputs may be from those of raw boundaries; a codec without figures is never within it."""

    max_error: Amount = 0.01
    """Relative, as ``CodecErrors.error``; of all lossy crossings of a route together."""
    min_agreement: Fraction = 1.0
    """Where the model's outputs are labels."""


def check_codec_errors(figures: tuple[CodecErrors, ...], cuts: int, model: str) -> None:
    """Raise DecodeError unless each codec has figures for ``cuts`` cuts, once."""
    if len(figures) > MEASURED_CODECS:
        raise DecodeError(f"model {model} has figures for {len(figures)} codecs, over {MEASURED_CODECS}")
    if len({each.codec for each in figures}) != len(figures):
        raise DecodeError(f"model {model} has figures for one codec twice")
    for each in figures:
        if len(each.error) != cuts:
            raise DecodeError(
                f"codec {each.codec} of model {model} has figures for {len(each.error)} cuts, not {cuts}"
            )
