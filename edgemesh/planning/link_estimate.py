"""What one device's link is, from samples on the sender's own clock.

Kinds of samples, each ``n`` bytes in ``s`` seconds:

* ``up``: from publish to PUBACK. The message goes up, an answer of a few bytes comes down:
  ``s = base + n / up``.
* ``echo``: from publish to own receipt: ``s = base + n / up + n / down``.
* ``tail``: from PUBACK to own receipt of the same message: ``s = n / down``. The better half of an echo:
  whatever delayed the way up is in neither end of it. The same of a message from another device that waited
  in the broker for the one before it: from the receipt for that one to its own.
* ``down``: a message from another device less that device's share (``receiver_share``):
  ``s = base + n / down``.

``base`` is ``latency_up + latency_down`` plus the broker's time. Only that sum can be seen without
synchronised clocks, and only that sum matters: a route starts and ends at the requester, so whoever is
entered is left again, and each visit costs both latencies. The sum is split evenly; single hops may be
off by the difference, totals are not.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import hypot, inf
from typing import Final, Literal, NamedTuple

from edgemesh.planning.instance import Link
from edgemesh.planning.level import WINDOW, Level
from edgemesh.planning.robust import clamped, is_positive

SampleKind = Literal["up", "echo", "tail", "down"]

BASES: Final[dict[SampleKind, float]] = {"up": 1.0, "echo": 1.0, "tail": 0.0, "down": 1.0}
"""How many times the base is in a sample of each kind."""
SMALL_BYTES: Final = 4096
"""Up to here a sample tells the base."""
LARGE_BYTES: Final = 16 * 1024
"""From here on it tells a rate; in between it does so where the link is slow."""
_MOSTLY_BYTES: Final = 4.0
"""A sample of middling size that took so many bases was on the way for its bytes."""
_KNOWN: Final = 0.4
"""With a smaller error a rate is known well enough to be remembered."""
_SAME_BASE: Final = 0.05
"""A base that moved by less leaves what was made of it as it is."""
_SAME_SECONDS: Final = 1.0
"""Without a new sample an estimate stays as it is for so long: it only grows older."""
_LEAST_SHARE: Final = 0.02
"""Of a large sample's time, that its bytes took at the least."""
_LEAST_BASE_SHARE: Final = 0.2
"""Of a small sample's time, that was not for its bytes at the least."""
DEFAULT_LINK: Final = Link(0.0005, 12.5e6, 0.0005, 12.5e6)
"""Before any sample: a home network with a good access point."""
UNKNOWN: Final = 1.4
"""Uncertainty of the default: a factor of four either way."""
SPLIT_ERROR: Final = 0.35
"""Of either way when only their sum was seen. Were one twice as fast as the other, which is far for a link at
home, its half of the sum would be off by so much: d log(r / (1 + r)) = d log(r) / 2 where both are alike."""
DIRECTION_RATIO: Final = 20.0
"""An echo no slower than its way up still leaves this share of it to the way down: noise, not infinity."""
BASE_RANGE: Final = (2e-5, 10.0)
RATE_RANGE: Final = (1e3, 1e10)


@dataclass(frozen=True)
class LinkEstimate:
    """A link with how well it is known."""

    link: Link
    age: float
    """Seconds since the newest sample; infinite when all is default."""
    latency_error: float
    """Likely relative error of the latencies, on a log scale: 0.1 is about 10 %; ``UNKNOWN`` for a guess."""
    up_error: float
    """The same of the rate at which the device sends; jobs often show one direction only."""
    down_error: float
    """The same of the rate at which it receives."""
    is_split: bool = False
    """Whether both rates were only seen together: their sum is measured, what is whose is a guess."""

    @property
    def uncertainty(self) -> float:
        """The largest of the errors."""
        return max(self.latency_error, self.up_error, self.down_error)


class LinkEstimator:
    """One device's link; feed it samples, ask it at any time."""

    def __init__(self, *, broker_seconds: float = 0.0) -> None:
        self._broker = broker_seconds
        self._base = Level()
        self._estimated: tuple[float, LinkEstimate] | None = None
        """When it was asked for last, with the answer, while no sample has come since."""
        self._judged_by = 0.0
        """Base with which the large samples were judged."""
        self.steps = 0
        """Steps recognised so far: each time, what older samples said was forgotten."""
        self._per_byte: dict[SampleKind, _LargeSamples] = {}
        """``tail`` and ``down`` show the same and share a level."""
        self._ratio = 1.0
        """Of the seconds per byte down to those up, in the last estimate for which both were well known."""

    def observe(self, kind: SampleKind, nbytes: int, seconds: float, now: float) -> None:
        """Take one sample; a time or size that is not positive and finite is ignored."""
        if not is_positive(nbytes, seconds):
            return
        self._estimated = None
        base = self._base_seconds(now)
        if nbytes >= LARGE_BYTES or (nbytes > SMALL_BYTES and seconds > _MOSTLY_BYTES * BASES[kind] * base):
            key: SampleKind = "down" if kind == "tail" else kind
            if self._per_byte.setdefault(key, _LargeSamples()).add(_Large(now, kind, nbytes, seconds), base):
                self.steps += 1
                self._stepped(key, base)
        elif nbytes <= SMALL_BYTES and BASES[kind]:
            alone = max(seconds - nbytes * self._known_per_byte(kind, now), _LEAST_BASE_SHARE * seconds)
            self.steps += self._base.add(clamped(alone, *BASE_RANGE), now)
            self._judge_anew(self._base_seconds(now))

    def estimate(self, now: float) -> LinkEstimate:
        """The link as of ``now`` (within a second); the default for whatever has no samples."""
        if self._estimated is None or not 0.0 <= now - self._estimated[0] < _SAME_SECONDS:
            self._estimated = now, self._estimate(now)
        return self._estimated[1]

    def _estimate(self, now: float) -> LinkEstimate:
        base = self._base.read(now, UNKNOWN) if self._base else None
        base_seconds = base.value if base is not None else self._base_seconds(now)
        up, down = _up_and_down(
            self._read("up", now), self._read("down", now), self._read("echo", now), self._ratio
        )
        if max(up.error, down.error) < _KNOWN and not any(
            large.level.doubtful for large in self._per_byte.values()
        ):
            self._ratio = down.seconds / up.seconds
        latency = clamped(base_seconds - self._broker, *BASE_RANGE) / 2.0
        link = Link(
            latency,
            clamped(1.0 / up.seconds, *RATE_RANGE),
            latency,
            clamped(1.0 / down.seconds, *RATE_RANGE),
        )
        base_error = base.error if base is not None else UNKNOWN
        levels = [self._base, *(large.level for large in self._per_byte.values())]
        age = now - max(level.newest_at for level in levels)
        is_split = self._per_byte.keys() == {"echo"}
        return LinkEstimate(link, age, base_error, min(up.error, UNKNOWN), min(down.error, UNKNOWN), is_split)

    def _judge_anew(self, base: float) -> None:
        """Large samples tell of rates by what the base leaves of them: it is known better now.

        Steps among them have been counted, and followed, when they came.
        """
        if abs(base - self._judged_by) > _SAME_BASE * self._judged_by:
            self._judged_by = base
            for large in self._per_byte.values():
                large.keep_since(-inf, base)

    def _stepped(self, key: SampleKind, base: float) -> None:
        """Seconds per byte of ``key`` have made a step: forget what others say of the link before it.

        An echo shows the sum of both ways, so it is out of date as soon as one of them has changed. A way is
        out of date unless it was seen since: a link that gets slow gets slow both ways more often than not.
        """
        since = self._per_byte[key].level.group_since
        for other, samples in list(self._per_byte.items()):
            if other == key or (other != "echo" and samples.level.newest_at >= since):
                continue
            if not samples.keep_since(since, base):
                del self._per_byte[other]

    def _read(self, kind: SampleKind, now: float) -> _PerByte | None:
        large = self._per_byte.get(kind)
        if large is None:
            return None
        reading = large.level.read(now, UNKNOWN)
        return _PerByte(reading.value, reading.error)

    def _base_seconds(self, now: float) -> float:
        if self._base:
            return self._base.read(now, UNKNOWN).value
        return DEFAULT_LINK.latency_up + DEFAULT_LINK.latency_down + self._broker

    def _known_per_byte(self, kind: SampleKind, now: float) -> float:
        large = self._per_byte.get(kind)
        return large.level.read(now, UNKNOWN).value if large is not None else 0.0


def receiver_share(nbytes: int, seconds: float, sender: Link, broker_seconds: float = 0.0) -> float:
    """Seconds of a ``down`` sample: what a round leaves when the sender's own share is taken out.

    ``seconds`` runs on the sender's clock from publishing ``nbytes`` to the receiver's receipt of a few
    bytes. May be zero or less when the sender is overestimated; ``observe`` ignores it then.
    """
    return seconds - sender.latency_up - sender.latency_down - nbytes / sender.rate_up - broker_seconds


class _Large(NamedTuple):
    time: float
    kind: SampleKind
    nbytes: int
    seconds: float


class _LargeSamples:
    """Seconds per byte of one direction."""

    def __init__(self) -> None:
        self.level = Level()
        self._newest: deque[_Large] = deque(maxlen=WINDOW)

    def add(self, sample: _Large, base: float) -> bool:
        """Take a sample where the base is known to be ``base``; True when it confirms a step."""
        self._newest.append(sample)
        return self._judge(sample, base)

    def keep_since(self, time: float, base: float) -> bool:
        """Begin anew with the samples from ``time`` on; False when there is none."""
        kept = [sample for sample in self._newest if sample.time >= time]
        self.level = Level()
        self._newest.clear()
        for sample in kept:
            self.add(sample, base)
        return bool(kept)

    def _judge(self, sample: _Large, base: float) -> bool:
        # What is no slower than the base says "too fast to see", which is not "infinitely fast".
        on_the_way = max(sample.seconds - BASES[sample.kind] * base, _LEAST_SHARE * sample.seconds)
        per_byte = clamped(on_the_way / sample.nbytes, 1.0 / RATE_RANGE[1], 1.0 / RATE_RANGE[0])
        return self.level.add(per_byte, sample.time)


class _PerByte(NamedTuple):
    seconds: float
    error: float
    """On a log scale."""


def _up_and_down(
    up: _PerByte | None, down: _PerByte | None, both: _PerByte | None, ratio: float
) -> tuple[_PerByte, _PerByte]:
    """Both directions from the seconds per byte that samples show; an echo shows their sum.

    What no sample shows, or few do, is what the echo leaves, or else in the earlier ``ratio`` (down to up) to
    the other direction, or else the default.
    """
    direct = [up, down]
    if both is not None and direct == [None, None]:
        shares = (1.0 / (1.0 + ratio), ratio / (1.0 + ratio))
        error = hypot(both.error, SPLIT_ERROR)
        direct = [_PerByte(both.seconds * share, error) for share in shares]
    ways = list(direct)
    for this, other, factor in ((0, 1, 1.0 / ratio), (1, 0, ratio)):
        seen, known = direct[this], direct[other]
        if known is None:
            continue
        rest = _PerByte(known.seconds * factor, UNKNOWN) if both is None else _rest(both, known)
        if seen is None or rest.error < seen.error:
            ways[this] = rest
    up_way, down_way = ways
    default = (1.0 / DEFAULT_LINK.rate_up, 1.0 / DEFAULT_LINK.rate_down)
    return up_way or _PerByte(default[0], UNKNOWN), down_way or _PerByte(default[1], UNKNOWN)


def _rest(both: _PerByte, known: _PerByte) -> _PerByte:
    seconds = max(both.seconds - known.seconds, both.seconds / DIRECTION_RATIO)
    # The difference of two measured numbers keeps the absolute error of both.
    error = hypot(both.seconds * both.error, known.seconds * known.error) / seconds
    return _PerByte(seconds, min(error, UNKNOWN))
