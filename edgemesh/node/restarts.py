"""When to start again what ends though nobody stopped it."""

from __future__ import annotations

from typing import Final

_MOST_IN_A_ROW: Final = 5
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
_STEADY_SECONDS: Final = 60.0
"""What ran for so long did not end of its start: in weeks many things end five times."""


class Restarts:
    """Of one process; ``now`` is any steady clock in seconds."""

    def __init__(self, now: float) -> None:
        """``now`` is when it was started."""
        self._begun = now
        self.in_a_row = 0
        """Since it last ran for long."""

    def wait(self, now: float) -> float | None:
        """It has ended: seconds before it is to be started again, None where it is given up."""
        if now - self._begun > _STEADY_SECONDS:
            self.in_a_row = 0
        if self.in_a_row >= _MOST_IN_A_ROW:
            return None
        return min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self.in_a_row)

    def begun(self, now: float) -> None:
        """It was started again."""
        self._begun = now
        self.in_a_row += 1
