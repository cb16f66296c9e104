"""Partial plans as arrays, one row each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgemesh.planning.costs import FloatArray, IntArray


@dataclass(eq=False)
class Labels:
    """Partial plans about to run, or at the broker."""

    amounts: FloatArray
    """``[n, Q + 1]``; the last breaks ties."""
    device: IntArray
    start: IntArray
    """Of the run under way."""
    number: IntArray
    """In the history."""
    used: FloatArray
    """``[n, 2 * M + 1]``: weights and peak of ended runs on tracked devices; last, 0 once it has seen the
    wanted device. The fewer the better."""

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> Labels:
        return Labels(
            self.amounts[chosen],
            self.device[chosen],
            self.start[chosen],
            self.number[chosen],
            self.used[chosen],
        )

    def __len__(self) -> int:
        return len(self.device)

    def and_(self, other: Labels) -> Labels:
        """These and ``other``."""
        return Labels(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values())))


@dataclass(eq=False)
class Sent:
    """Labels at the broker."""

    labels: Labels
    cut: IntArray
    codec: IntArray
    place: IntArray
    """Only those at one place are compared."""

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> Sent:
        return Sent(self.labels[chosen], self.cut[chosen], self.codec[chosen], self.place[chosen])

    def and_(self, other: Sent) -> Sent:
        """These and ``other``."""
        return Sent(
            self.labels.and_(other.labels),
            *(np.concatenate(pair) for pair in (
                (self.cut, other.cut), (self.codec, other.codec), (self.place, other.place)
            )),
        )  # fmt: skip
