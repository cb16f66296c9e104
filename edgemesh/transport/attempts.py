"""When to connect again, and which failures are worth a sentence."""

from __future__ import annotations

import random
from collections.abc import Callable

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 4.0
"""A broker that comes back has its mesh again within 1.5 times the longest."""
_LONGEST_THROWN_OUT = 15.0
_TAKEOVER_DELAY = 30.0
_SHORT_SECONDS, _SHORT_WAITS, _STEADY_SECONDS = 5.0, 4.0, 30.0
"""Who has our name comes back after its own wait, which is ours or one step longer, and at most 1.5 times
that: a connection that lasted for longer than four of our waits was not ended by it. A broker that is
restarted every few seconds, or a bad link, is no reason to stay away for longer and longer."""
_SUSPICIOUS = 3
"""Mosquitto 2.0 and rumqttd give no reason when another client takes our id (measured): so many connections
in a row that the broker ended before they were steady say it too."""


class Attempts:
    """The history of one client's connections to one broker; ``now`` is any steady clock in seconds."""

    def __init__(self, on_problem: Callable[[str], None], *, unique_id: bool = False) -> None:
        """``unique_id`` says that no other client can have this one's id, so that nobody throws it out."""
        self._unique_id = unique_id
        self._on_problem = on_problem
        self.problem = ""
        """What was said last since the last connection."""
        self._delay = _FIRST_DELAY
        self._since = 0.0
        self._thrown_out = 0

    def explain(self, text: str, consequence: str = "") -> None:
        """Say it, unless it was the last thing said since the last connection."""
        if text != self.problem:
            self.problem = text
            self._on_problem(text + consequence)

    def delay(self) -> float:
        """Seconds before the next attempt, about twice as many each time."""
        # Jitter: when a broker restarts, its clients must not all come back in the same instant.
        delay = self._delay * random.uniform(0.5, 1.5)
        self._delay = max(self._delay, min(self._delay * 2, _LONGEST_DELAY))
        return delay

    def unreachable(self) -> None:
        """It was the broker that went away, and nobody who threw us out."""
        self._thrown_out = 0
        self._delay = min(self._delay, _LONGEST_DELAY)

    def connected(self, now: float) -> None:
        """The broker accepted us."""
        # Longer and longer for two agents that throw each other out; a link that breaks twice is not that.
        # Bounded: after a night of two agents with one name the power would be too large for a float.
        times = min(10, max(0, self._thrown_out - _SUSPICIOUS + 1))
        self._delay = min(_FIRST_DELAY * 2**times, _LONGEST_THROWN_OUT)
        self._since = now
        self.problem = ""

    def taken_over(self) -> None:
        """Another client has our id and was said to: it gets time to be stopped."""
        self._delay = _TAKEOVER_DELAY

    def lost(self, now: float, client_id: str, broker: object) -> None:
        """A connection ended that the broker had accepted."""
        steady = now - self._since >= min(_STEADY_SECONDS, max(_SHORT_SECONDS, _SHORT_WAITS * self._delay))
        self._thrown_out = 0 if steady or self._unique_id else self._thrown_out + 1
        if self._thrown_out == _SUSPICIOUS:
            self.explain(
                f"{broker} ended {_SUSPICIOUS} connections of {client_id} in a row soon after they began: "
                "probably another agent has the same name; stop one or give it another with --id"
            )
