"""Whether a plan is better than the one in force by more than the estimates can be wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edgemesh.planning.goal import Goal
from edgemesh.planning.plan import Partition, Plan, Prediction
from edgemesh.planning.value import value_of

MARGIN: Final = 0.03
"""A plan must be better by this share at least, however well the estimates are known: a switch makes devices
load, and the last percents are not worth it."""
CLEAR: Final = (3.5, 1.0)
"""Likely errors of the difference that a clear gain exceeds: of what is measured, and of what is guessed.
Measurements scatter, so with every look there is another chance to be fooled: one look in 4000 is wrong by
3.5 errors. A guess stays what it is until it is measured, and trying it is how that comes about."""
LASTING: Final = (0.5, 0.25)
"""The same for a gain that lasts: scatter has averaged out by then."""
CLEAR_DWELL: Final = 2.0
"""Seconds that a plan stays even when another is clearly better: its own first jobs must be under way."""
LASTING_SECONDS: Final = 30.0
"""Seconds over which a gain that is not clear must last on average."""
_QUEUE_ERROR: Final = 0.5
"""Waiting times change from job to job."""
_RIVALS: Final = 4
"""Plans that are watched at once."""
_FORGET_SECONDS: Final = 60.0
"""A rival that was not the best for so long is not watched any more."""

Source = tuple[str, str]
"""What an error comes from, and whose: ``run``, ``queue``, or of the link ``latency``, ``up`` or ``down``."""


@dataclass(frozen=True)
class Errors:
    """Likely relative errors of estimates, on a log scale, by device (``app`` for the gateway's link)."""

    run: Mapping[str, float]
    up: Mapping[str, float]
    """Of the bytes that the device sends."""
    guessed: frozenset[Source] = frozenset()
    """What no measurement of this mesh stands behind: a profile that no job confirmed, a default link."""
    down: Mapping[str, float] = field(default_factory=dict)
    """Of the bytes that it receives."""
    latency: Mapping[str, float] = field(default_factory=dict)
    """Of what its messages take however small they are."""

    def of(self, source: Source) -> float:
        """Of everything that ``source`` causes: one factor, the same in every plan."""
        kind, device = source
        if kind == "queue":
            return _QUEUE_ERROR
        errors = {"run": self.run, "up": self.up, "down": self.down, "latency": self.latency}
        return errors[kind].get(device, 0.0)


def seconds_by_source(prediction: Prediction) -> dict[Source, float]:
    """The latency of a plan by what may be wrong in it."""
    terms: dict[Source, float] = {}
    for hop in prediction.hops:
        _add(terms, ("run", hop.partition.device), hop.run)
        _add(terms, ("queue", hop.partition.device), hop.queue)
    for crossing in prediction.crossings:
        _add(terms, ("latency", crossing.sender), crossing.latency_up)
        _add(terms, ("latency", crossing.receiver), crossing.latency_down)
        _add(terms, ("up", crossing.sender), crossing.up - crossing.latency_up)
        _add(terms, ("down", crossing.receiver), crossing.down - crossing.latency_down)
        _add(terms, ("run", crossing.sender), crossing.encode)
        _add(terms, ("run", crossing.receiver), crossing.decode)
    return terms


def joules_by_source(prediction: Prediction) -> dict[Source, float]:
    """The same for joules; what a crossing takes is shared between its ends."""
    terms: dict[Source, float] = {}
    for hop in prediction.hops:
        _add(terms, ("run", hop.partition.device), hop.joules)
    for crossing in prediction.crossings:
        _add(terms, ("up", crossing.sender), crossing.joules / 2.0)
        _add(terms, ("down", crossing.receiver), crossing.joules / 2.0)
    return terms


@dataclass(frozen=True)
class Doubt:
    """Likely error of a figure, by whether it scatters or stays."""

    measured: float
    guessed: float

    def times(self, factors: tuple[float, float]) -> float:
        """So many errors of each kind together."""
        return math.hypot(factors[0] * self.measured, factors[1] * self.guessed)

    def scaled(self, factor: float) -> Doubt:
        """Of ``factor`` times the figure."""
        return Doubt(self.measured * factor, self.guessed * factor)


def doubt_about(one: Mapping[Source, float], other: Mapping[Source, float], errors: Errors) -> Doubt:
    """Likely error of the difference of two sums.

    An estimate is wrong by the same factor in both plans, so what they have in common cancels: the error that
    one source brings in is its own relative error times the difference of what it causes. Independent sources
    add up as squares.
    """
    measured: list[float] = []
    guessed: list[float] = []
    for source in {*one, *other}:
        error = errors.of(source) * (one.get(source, 0.0) - other.get(source, 0.0))
        (guessed if source in errors.guessed else measured).append(error)
    return Doubt(math.hypot(*measured), math.hypot(*guessed))


def latency_error(prediction: Prediction, errors: Errors) -> float:
    """Likely relative error of a predicted latency."""
    seconds = doubt_about(seconds_by_source(prediction), {}, errors)
    return seconds.times((1.0, 1.0)) / prediction.total if prediction.total > 0.0 else 0.0


@dataclass(frozen=True)
class Gain:
    """By how much one plan is better than the one in force, in one figure."""

    kept: float
    new: float
    doubt: Doubt
    """About the difference."""

    @property
    def relative(self) -> float:
        """The difference on a log scale, within -10 and 10: 0.1 is about 10 % less."""
        if self.kept <= 0.0:
            return 0.0
        return _within(math.log(self.kept / self.new), 10.0) if self.new > 0.0 else 10.0

    def exceeds(self, errors: tuple[float, float], relative: float) -> bool:
        """Whether ``relative`` is more than the margin and so many likely errors."""
        return self.kept > 0.0 and relative > MARGIN + self.doubt.times(errors) / self.kept

    @property
    def is_clear(self) -> bool:
        """Whether the estimates would have to be very wrong for it to be none."""
        return self.exceeds(CLEAR, self.relative)


def gain(kept: Prediction, new: Prediction, goal: Goal, errors: Errors) -> Gain:
    """What changing from ``kept`` to ``new`` gains for ``goal``, both predicted on the same estimates.

    Plans that do not differ in the main figure are compared by latency, as the planner does.
    """
    seconds = doubt_about(seconds_by_source(kept), seconds_by_source(new), errors)
    mine, theirs = value_of(kept, goal)[0], value_of(new, goal)[0]
    if goal.objective == "latency" or mine == theirs:
        return Gain(kept.total, new.total, seconds)
    if goal.objective in ("energy", "bounded-energy"):
        return Gain(mine, theirs, doubt_about(joules_by_source(kept), joules_by_source(new), errors))
    # Bottleneck and money are made of the same seconds as the latency, so they err by the same share.
    return Gain(mine, theirs, seconds.scaled(max(mine, theirs) / max(kept.total, new.total, 1e-12)))


@dataclass
class _Average:
    """Mean over the time since the first value, or over the last ``LASTING_SECONDS``."""

    mean: float = 0.0
    began: float | None = None
    _last: float = 0.0

    def add(self, value: float, now: float) -> None:
        if self.began is None:
            self.began, self.mean = now, value
        else:
            span = min(max(now - self.began, 1e-9), LASTING_SECONDS)
            self.mean += (value - self.mean) * min(1.0, (now - self._last) / span)
        self._last = now

    def seconds(self, now: float) -> float:
        return 0.0 if self.began is None else now - self.began


@dataclass
class Rival:
    """A plan that was the best at some time while another is in force."""

    partitions: tuple[Partition, ...]
    input_codec: str
    best_at: float
    gain: _Average = field(default_factory=_Average)
    over_bound: _Average = field(default_factory=_Average)
    """``log(latency / bound)``; negative within the bound."""


class Rivalry:
    """Rivals of one plan in force, and what is known of them so far. A new plan in force has new rivals."""

    def __init__(self, since: float) -> None:
        self.since = since
        """When the plan came into force."""
        self._over_bound = _Average()
        """Of the plan in force."""
        self._rivals: dict[tuple[str, tuple[Partition, ...]], Rival] = {}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._rivals)

    def rivals(self, plan: Plan, kept: Plan, now: float) -> list[Rival]:
        """Whom to compare with the plan in force now: ``plan``, the best of the moment, and recent ones."""
        if plan.partitions != kept.partitions:
            key = plan.input_codec, plan.partitions
            rival = self._rivals.setdefault(key, Rival(plan.partitions, plan.input_codec, now))
            rival.best_at = now
        for key, rival in list(self._rivals.items()):
            if now - rival.best_at > _FORGET_SECONDS:
                del self._rivals[key]
        while len(self._rivals) > _RIVALS:
            worst = min(self._rivals, key=lambda k: (self._rivals[k].best_at, self._rivals[k].gain.mean))
            del self._rivals[worst]
        return list(self._rivals.values())

    def keep(self, kept: Prediction, bound: float | None, now: float) -> None:
        """Note how the plan in force stands to the bound; once per look, before ``wins``."""
        self._over_bound.add(_over(kept, bound), now)

    def wins(
        self,
        rival: Rival,
        kept: Prediction,
        new: Prediction,
        bound: float | None,
        goal: Goal,
        errors: Errors,
        now: float,
    ) -> bool:
        """Whether ``rival`` (predicted as ``new``) takes over; remembers what was seen.

        A plan in force that breaks the bound gives way to one that keeps it, whatever else that costs.
        """
        found, over = gain(kept, new, goal, errors), _over(new, bound)
        rival.gain.add(_within(found.relative, 1.0), now)
        rival.over_bound.add(over, now)
        in_force = now - self.since
        if in_force < CLEAR_DWELL:
            return False
        breach = _breach(kept, new, bound, errors)
        # Within the bound by luck is not enough, or the next samples would drive the plan out again.
        safe = over <= -0.5 * latency_error(new, errors) or (over <= 0.0 and new.total <= kept.total)
        if safe and (found.is_clear or (breach is not None and breach.is_clear)):
            return True
        if min(in_force, rival.gain.seconds(now)) < LASTING_SECONDS or rival.over_bound.mean > 0.0:
            return False
        if breach is not None and breach.exceeds(LASTING, self._over_bound.mean):
            return True
        return found.relative > 0.0 and found.exceeds(LASTING, rival.gain.mean)


def _over(prediction: Prediction, bound: float | None) -> float:
    """``log(latency / bound)`` within -1 and 1; -1 without a bound."""
    if bound is None or prediction.total <= 0.0:
        return -1.0
    return _within(math.log(prediction.total / bound), 1.0)


def _breach(kept: Prediction, new: Prediction, bound: float | None, errors: Errors) -> Gain | None:
    """What changing gains in latency down to the bound; None while the plan in force keeps it."""
    if bound is None or kept.total <= bound or new.total >= kept.total:
        return None
    doubt = doubt_about(seconds_by_source(kept), seconds_by_source(new), errors)
    return Gain(kept.total, max(bound, new.total), doubt)


def _within(value: float, most: float) -> float:
    return max(-most, min(value, most))


def _add(terms: dict[Source, float], source: Source, amount: float) -> None:
    terms[source] = terms.get(source, 0.0) + amount
