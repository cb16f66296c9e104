"""Lateness: how many times longer than predicted the last job over a route took.

A device that others load answers late until a new plan knows it. Were each job over it sent a second time, as
if the device was lost, the copies would fill the very device that the new plan moves to.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from edgemesh.planning.robust import clamped
from edgemesh.roles.routes import ChosenRoute

MOST: Final = 4.0
"""What is later than this is not slow but lost, for all that a requester can tell."""
_ROUTES: Final = 256


class Lateness:
    """Of one requester, by route; a new prediction for a route starts anew."""

    def __init__(self) -> None:
        self._factors: OrderedDict[ChosenRoute, float] = OrderedDict()

    def factor(self, choice: ChosenRoute) -> float:
        """Between 1 and ``MOST``."""
        return self._factors.get(choice, 1.0)

    def answered(self, choice: ChosenRoute, seconds: float, predicted: float) -> None:
        """A job's first attempt came home ``seconds`` after it was sent, where ``predicted`` were due."""
        if predicted <= 0.0:
            return
        self._factors[choice] = clamped(seconds / predicted, 1.0, MOST)
        self._factors.move_to_end(choice)
        if len(self._factors) > _ROUTES:
            self._factors.popitem(last=False)
