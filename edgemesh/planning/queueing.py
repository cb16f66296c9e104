"""How long a job waits for the jobs of others on one device."""

from __future__ import annotations

from typing import Final

FULL: Final = 0.9
"""Share of its time up to which a device's queue has settled. Beyond it the mean wait tends to infinity and
depends on the last percent of the load, which nobody knows so well."""
OVERLOAD_SECONDS: Final = 30.0
"""How long more work than a device can do is taken to pile up. Its heartbeats tell of what did."""
MOST_SECONDS: Final = 3600.0
"""No wait is taken to be longer: whatever the estimates say, plans stay comparable."""


def mean_wait(busy: float, squares: float) -> float:
    """Mean seconds that a job waits where others take the share ``busy`` of the time.

    ``squares`` is the sum of their jobs per second times the square of their seconds. Mean wait in a queue
    with Poisson arrivals and service times of any distribution, ``squares / (2 * (1 - busy))`` (M/G/1;
    Pollaczek and Khinchine; Kleinrock, "Queueing Systems", vol. 1, 1975, 5.7), up to the load ``FULL``. Load
    beyond it adds what piles up in ``OVERLOAD_SECONDS``. Grows with both, at most ``MOST_SECONDS``.
    """
    beyond = max(0.0, busy - FULL)
    return min(MOST_SECONDS, squares / (2.0 * (1.0 - min(busy, FULL))) + beyond * OVERLOAD_SECONDS)
