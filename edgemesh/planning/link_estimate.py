"""What one device's link is, from samples on the sender's own clock.

Kinds of samples, each ``n`` bytes in ``s`` seconds:

* ``up``: from publish to PUBACK. The message goes up, an answer of a few bytes comes down:
  ``s = base + n / up``.
* ``echo``: from publish to own receipt: ``s = base + n / up + n / down``.
* ``tail``: from PUBACK to own receipt of the same message: ``s = n / down``. The better half of an echo:
  whatever delayed the way up is in neither end of it.
* ``down``: a message from another device less that device's share (``receiver_share``):
  ``s = base + n / down``.

``base`` is ``latency_up + latency_down`` plus the broker's time. Only that sum can be seen without
synchronised clocks, and only that sum matters: a route starts and ends at the requester, so whoever is
entered is left again, and each visit costs both latencies. The sum is split evenly; single hops may be
off by the difference, totals are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Final, Literal, NamedTuple

from edgemesh.planning.instance import Link
from edgemesh.planning.robust import Recent, clamped, is_positive, log_median, relative_error

SampleKind = Literal["up", "echo", "tail", "down"]

BASES: Final[dict[SampleKind, float]] = {"up": 1.0, "echo": 1.0, "tail": 0.0, "down": 1.0}
"""How many times the base is in a sample of each kind."""
SMALL_BYTES: Final = 4096
"""Up to here a sample tells the base."""
LARGE_BYTES: Final = 16 * 1024
"""From here on it tells a rate; in between it tells neither well enough."""
DEFAULT_LINK: Final = Link(0.0005, 12.5e6, 0.0005, 12.5e6)
"""Before any sample: a home network with a good access point."""
UNKNOWN: Final = 1.4
"""Uncertainty of the default: a factor of four either way."""
DIRECTION_RATIO: Final = 20.0
"""An echo no slower than its way up still leaves this share of it to the way down: noise, not infinity."""
BASE_RANGE: Final = (2e-5, 10.0)
RATE_RANGE: Final = (1e3, 1e10)


@dataclass(frozen=True)
class LinkEstimate:
    """A link with how well it is known."""

    link: Link
    uncertainty: float
    """Likely relative error of its times, on a log scale: 0.1 is about 10 %."""
    age: float
    """Seconds since the newest sample; infinite when all is default."""


class LinkEstimator:
    """One device's link; feed it samples, ask it at any time."""

    def __init__(self, *, broker_seconds: float = 0.0) -> None:
        self._broker = broker_seconds
        self._small: Recent[float] = Recent()
        self._large: dict[SampleKind, Recent[tuple[int, float]]] = {kind: Recent() for kind in BASES}

    def observe(self, kind: SampleKind, nbytes: int, seconds: float, now: float) -> None:
        """Take one sample; a time or size that is not positive and finite is ignored."""
        if not is_positive(nbytes, seconds):
            return
        if nbytes >= LARGE_BYTES:
            self._large[kind].add((nbytes, seconds), now)
        elif nbytes <= SMALL_BYTES and BASES[kind]:
            self._small.add(seconds, now)

    def estimate(self, now: float) -> LinkEstimate:
        """The link as of ``now``; the default for whatever has no samples."""
        small = self._small.values(now)
        default_base = DEFAULT_LINK.latency_up + DEFAULT_LINK.latency_down + self._broker
        base = log_median(small) if small else default_base
        per_byte = {kind: self._per_byte(kind, base, now) for kind in BASES}
        up, down = _up_and_down(per_byte["up"], per_byte["down"] + per_byte["tail"], per_byte["echo"])
        latency = clamped(base - self._broker, *BASE_RANGE) / 2.0
        link = Link(
            latency,
            clamped(1.0 / up.seconds, *RATE_RANGE),
            latency,
            clamped(1.0 / down.seconds, *RATE_RANGE),
        )
        uncertainty = hypot(relative_error(small, UNKNOWN), max(up.error, down.error))
        age = min(self._small.age(now), *(recent.age(now) for recent in self._large.values()))
        return LinkEstimate(link, min(uncertainty, UNKNOWN), age)

    def _per_byte(self, kind: SampleKind, base: float, now: float) -> list[float]:
        # A large sample no slower than the base says "too fast to see": the highest rate, not an error.
        return [
            max((seconds - BASES[kind] * base) / nbytes, 1.0 / RATE_RANGE[1])
            for nbytes, seconds in self._large[kind].values(now)
        ]


def receiver_share(nbytes: int, seconds: float, sender: Link, broker_seconds: float = 0.0) -> float:
    """Seconds of a ``down`` sample: what a round leaves when the sender's own share is taken out.

    ``seconds`` runs on the sender's clock from publishing ``nbytes`` to the receiver's receipt of a few
    bytes. May be zero or less when the sender is overestimated; ``observe`` ignores it then.
    """
    return seconds - sender.latency_up - sender.latency_down - nbytes / sender.rate_up - broker_seconds


class _PerByte(NamedTuple):
    seconds: float
    error: float
    """On a log scale."""


def _up_and_down(up: list[float], down: list[float], echo: list[float]) -> tuple[_PerByte, _PerByte]:
    """Both directions from the seconds per byte that samples show; an echo shows their sum.

    What no sample shows is what the echo leaves, or else like the other direction, or else the default.
    """
    ways = [_measured(up), _measured(down)]
    both = _measured(echo)
    if both is not None and ways == [None, None]:
        ways = [_PerByte(both.seconds / 2.0, UNKNOWN)] * 2
    for this, other in ((0, 1), (1, 0)):
        known = ways[other]
        if ways[this] is None and known is not None:
            ways[this] = _PerByte(known.seconds, UNKNOWN) if both is None else _rest(both, known)
    up_way, down_way = ways
    default = (1.0 / DEFAULT_LINK.rate_up, 1.0 / DEFAULT_LINK.rate_down)
    return up_way or _PerByte(default[0], UNKNOWN), down_way or _PerByte(default[1], UNKNOWN)


def _measured(per_byte: list[float]) -> _PerByte | None:
    return _PerByte(log_median(per_byte), relative_error(per_byte, UNKNOWN)) if per_byte else None


def _rest(both: _PerByte, known: _PerByte) -> _PerByte:
    seconds = max(both.seconds - known.seconds, both.seconds / DIRECTION_RATIO)
    # The difference of two measured numbers keeps the absolute error of both.
    error = hypot(both.seconds * both.error, known.seconds * known.error) / seconds
    return _PerByte(seconds, min(error, UNKNOWN))
