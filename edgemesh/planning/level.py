"""Level: a positive quantity followed through noise, outliers and steps.

The estimate is the median, on a log scale, of the samples since the last step. A *suspect* is a sample
outside of the band of noise around it. One or two suspects change nothing. A few in a row, on the same side
and agreeing with each other, are a step: what is older is forgotten. (Runs rules of control charts, with a
median and its absolute deviation in the place of mean and standard deviation: a chart that outliers do not
widen.)
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

from edgemesh.planning.robust import MAD_TO_SIGMA, clamped

WINDOW: Final = 15
"""Samples that count. A change too small to be a step is followed after eight of them."""
SAMPLE_AGE: Final = 300.0
"""Seconds after which a sample counts only if there is no younger one, and after which nothing is certain."""
FRESH_AGE: Final = 30.0
"""Seconds for which a sample is as good as new."""
BAND: Final = math.log(1.3)
"""Least half-width of the band: a change by less is noise to any plan. Log scale, as all below."""
_BAND_SPREADS: Final = 3.0
_AGREEING: Final = 2.0 * BAND
_AGREEING_SPREADS: Final = 4.0
"""Suspects whose range is larger than both do not agree: outliers are of all sizes, a step is of one."""
CONFIRMING: Final = 4
"""Suspects that make a step. At ten a second that is 0.4 s."""
CONFIRMING_SLOWLY: Final = 3
_SLOWLY: Final = 1.0
"""So many are enough when they lie so many seconds apart: what spoils one sample seldom lasts."""
_SUSPECTS: Final = 6
"""So many on one side are a step even if they do not agree: the quantity has moved and become noisier."""
USUAL_SPREAD: Final = 0.5
"""Of what is measured over Wi-Fi: assumed until there are enough samples to see it."""
_KNOWN_SPREAD: Final = 5
"""With fewer samples their spread says little, and that before the step still counts."""
DOUBT_SHARE: Final = 0.25
"""Share of its distance by which each suspect makes the estimate less certain."""
_RENEW_SECONDS: Final = 0.2
_EXPONENT_RANGE: Final = (-700.0, 700.0)


class Reading(NamedTuple):
    """A level at one moment."""

    value: float
    error: float
    """Likely relative error on a log scale: 0.1 is about 10 %; never more than that of a guess."""
    age: float
    """Seconds since the newest sample."""


class Level:
    """Feed it samples of a positive quantity; times never go back."""

    def __init__(self) -> None:
        self._group: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        """Time and logarithm of each sample since the last step."""
        self._suspects: list[tuple[float, float]] = []
        self._centre = 0.0
        self._spread = 0.0
        self._earlier_spread = 0.0
        self.before_step = 1.0
        """The level before the last step."""
        self._renewed_at = -math.inf
        self._stale = False
        """Whether centre and spread lack the newest samples."""
        self.steps = 0
        """Steps recognised so far."""
        self.stepped_at = -math.inf
        """When the last one was."""
        self.rose = False
        """Whether that went up."""

    def __bool__(self) -> bool:
        """Whether there was a sample."""
        return bool(self._group)

    @property
    def doubtful(self) -> bool:
        """Whether the newest sample lies outside of the band: more samples would tell whether it is a
        step."""
        return bool(self._suspects)

    @property
    def value(self) -> float:
        """What it is now, however well that is known."""
        return math.exp(clamped(self._centre, *_EXPONENT_RANGE))

    @property
    def newest_at(self) -> float:
        """Time of the newest sample; minus infinity when there is none."""
        if self._suspects:
            return self._suspects[-1][0]
        return self._group[-1][0] if self._group else -math.inf

    @property
    def group_since(self) -> float:
        """Time of the oldest sample that counts; there must be one."""
        return self._group[0][0]

    def add(self, value: float, now: float) -> bool:
        """Take a sample, which must be positive and finite; True when it confirms a step."""
        sample = now, math.log(value)
        deviation = sample[1] - self._centre
        if not self._group or abs(deviation) <= self._band():
            # Suspects that were not confirmed were noise, and count as such.
            self._group.extend(self._suspects)
            self._suspects.clear()
            full = len(self._group) == WINDOW
            self._group.append(sample)
            self._stale = True
            # One more of many that come at once hardly moves a median, and sorting is most of the work here.
            if not full or now - self._renewed_at >= _RENEW_SECONDS:
                self._renew(now)
            return False
        if self._suspects and (self._suspects[-1][1] > self._centre) != (deviation > 0.0):
            self._group.extend(self._suspects)
            self._suspects.clear()
        self._suspects.append(sample)
        if not self._confirmed():
            return False
        self._earlier_spread, self.before_step = self._spread, self.value
        self.stepped_at, self.rose = now, deviation > 0.0
        self._group.clear()
        self._group.extend(self._suspects[-CONFIRMING:])
        self._suspects.clear()
        self._renew(now)
        self.steps += 1
        return True

    def scale(self, factor: float) -> None:
        """All samples were ``factor`` times what was said: what they are compared with has changed."""
        shift = math.log(factor)
        self._suspects = [(time, log + shift) for time, log in self._suspects]
        self._group = deque(((time, log + shift) for time, log in self._group), maxlen=WINDOW)
        self._centre += shift

    def changed(self, factor: float) -> None:
        """From now on samples are compared with ``factor`` times as much, as what they depend on has changed.

        All samples before count as one, so that two which agree on something else overthrow them. Suspects on
        the side of the change have shown it before it was told.
        """
        shift = -math.log(factor)
        shown = [s for s in self._suspects if (s[1] > self._centre) == (factor > 1.0)]
        self._only(self._centre)
        for time, log in shown:
            explained = abs(log + shift - self._centre) <= self._band()
            (self._group if explained else self._suspects).append((time, log + shift))
        self._stale = True

    def back_to(self, value: float) -> None:
        """What samples were taken under is over, and ``value`` is what was known before: it counts as one."""
        self._only(math.log(value))

    def _only(self, centre: float) -> None:
        self._earlier_spread = max(self._spread, self._earlier_spread)
        self._group = deque([(self.newest_at, centre)], maxlen=WINDOW)
        self._suspects.clear()
        self._renew(self._renewed_at)

    def read(self, now: float, guess: float) -> Reading:
        """The level as of ``now``; there must have been a sample. ``guess`` is the error of knowing nothing.

        A level that was not measured for a while stays: going back to a default would draw work to a device
        that was found slow. It only becomes as uncertain as a guess.
        """
        if now - self._group[0][0] > SAMPLE_AGE:
            self._grow_old(now)
        elif self._stale:
            self._renew(now)
        count = len(self._group)
        # Few samples say little of their spread, so what is usual counts with its share of one sample.
        error = math.hypot(self._spread, min(guess, USUAL_SPREAD) / count) / math.sqrt(count)
        age = now - self.newest_at
        stale = clamped((age - FRESH_AGE) / (SAMPLE_AGE - FRESH_AGE), 0.0, 1.0) if age > FRESH_AGE else 0.0
        doubt = 0.0
        if self._suspects:
            doubt = sum([abs(log - self._centre) for _, log in self._suspects]) * DOUBT_SHARE
        error = min(guess, math.sqrt(error**2 + (stale * guess) ** 2 + doubt**2))
        return Reading(self.value, error, age)

    def _confirmed(self) -> bool:
        newest = self._suspects[-CONFIRMING:]
        slowly = newest[-1][0] - newest[-CONFIRMING_SLOWLY:][0][0] >= _SLOWLY
        # What rests on one sample is overthrown by two.
        wanted = min(CONFIRMING_SLOWLY if slowly else CONFIRMING, len(self._group) + 1)
        if len(newest) < wanted:
            return False
        logs = [log for _, log in newest[-wanted:]]
        agreeing = max(logs) - min(logs) <= max(_AGREEING, _AGREEING_SPREADS * self._known_spread())
        return agreeing or len(self._suspects) >= _SUSPECTS

    def _band(self) -> float:
        return max(BAND, _BAND_SPREADS * self._known_spread())

    def _known_spread(self) -> float:
        if len(self._group) >= _KNOWN_SPREAD:
            return self._spread
        return max(self._spread, self._earlier_spread)

    def _renew(self, now: float) -> None:
        self._renewed_at, self._stale = now, False
        logs = sorted([log for _, log in self._group])
        self._centre = centre = _median(logs)
        self._spread = MAD_TO_SIGMA * _median(sorted([abs(log - centre) for log in logs]))

    def _grow_old(self, now: float) -> None:
        while len(self._group) > 1 and now - self._group[0][0] > SAMPLE_AGE:
            self._group.popleft()
        self._renew(now)


def _median(ordered: list[float]) -> float:
    count = len(ordered)
    middle = count // 2
    return ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0
