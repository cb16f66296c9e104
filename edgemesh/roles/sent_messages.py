"""Sent messages: how long each was on its way, counted from when the link was free for it.

A link carries one message after the other. One that was handed over while an earlier one was under way waited
first, and that wait is the queue's and not the link's: at a fifth of its rate a link would otherwise look ten
times slower with each message that queues. ``base`` is the time of a message of no size. An earlier message
that was acknowledged at ``t`` had left the link by ``t - base``, so the next one cannot have begun before
that. A small message that waited tells nothing: what is left of its time is the base that was taken off.

The receiver's link carries one message after the other, too. What the broker had whole when the receipt for
an earlier message to the same device came has waited for that one, and what it took from then on is its bytes
on the receiver's link and nothing else.

What others send comes in on the sender's own link, and holds up acknowledgements and echoes: an
acknowledgement that comes right after a large message may be late, so it tells nothing, and an echo that the
broker had before that message came took from then on what its bytes take.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from edgemesh.planning.link_estimate import LARGE_BYTES, SMALL_BYTES

OPEN: Final = 64
"""Messages that are timed at once; the oldest gives way."""
_BASES: Final = 8
"""Small messages, each alone on the link, whose least time is the base."""


@dataclass
class _Sent:
    at: float
    nbytes: int
    peer: str | None
    began: float
    """When the link was free for it, as far as is known."""
    alone: bool
    """Whether all before it had been acknowledged."""
    acknowledged: float | None = None
    held_up: bool = False
    """Whether the acknowledgement came right behind a message from others."""


class Timed(NamedTuple):
    """A message that has arrived somewhere."""

    nbytes: int
    peer: str | None
    seconds: float
    """Since the link was free for it."""
    waited: float
    """Before that, since it was handed over."""
    alone: bool
    """Whether no other message was under way when it was handed over."""
    held_up: bool
    """Whether ``seconds`` may contain a wait for what others sent to this connection."""
    after_acknowledgement: float | None
    """Of ``seconds``, those since its acknowledgement; None where that did not come before."""
    after_receipt: float | None = None
    """Seconds since the receipt for a message before it, where it waited in the broker for that one to be
    through."""


class SentMessages:
    """Of one connection, by token."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}
        self._bases: deque[float] = deque(maxlen=_BASES)
        self._acknowledged_at: float | None = None
        """When the last acknowledgement of any of them came."""
        self._received_at: dict[str, float] = {}
        """When the last receipt of a peer came, while messages are under way to it."""
        self._came_in_at = float("-inf")
        """When the last large message of others came."""

    def __len__(self) -> int:
        return len(self._sent)

    def clear(self) -> None:
        """The connection is a new one: nothing of before will be answered on it."""
        self._sent.clear()
        self._bases.clear()
        self._acknowledged_at = None
        self._received_at.clear()
        self._came_in_at = float("-inf")

    def came_in(self, nbytes: int, now: float) -> None:
        """A message from others has come on this connection."""
        if nbytes >= LARGE_BYTES:
            self._came_in_at = now

    def add(self, token: str, nbytes: int, peer: str | None, now: float) -> None:
        """A message is handed over."""
        if len(self._sent) >= OPEN:
            del self._sent[next(iter(self._sent))]
        self._sent[token] = _Sent(now, nbytes, peer, now, not self.busy())

    def acknowledged(self, token: str, now: float) -> Timed | None:
        """The broker has the message; None for one that is not known (any more)."""
        sent = self._sent.get(token)
        if sent is None or sent.acknowledged is not None:
            return None
        sent.acknowledged = now
        self._begin(sent, now)
        self._acknowledged_at = now
        sent.held_up = self._right_behind(sent, now)
        if sent.alone and sent.nbytes <= SMALL_BYTES and not sent.held_up:
            self._bases.append(now - sent.began)
        return Timed(
            sent.nbytes, sent.peer, now - sent.began, sent.began - sent.at, sent.alone, sent.held_up, None
        )

    def arrived(self, token: str, now: float, peer: str | None = None) -> Timed | None:
        """The message has come back, or its receipt has; it is forgotten.

        None for a token not known, or when the message went to another than ``peer``.
        """
        sent = self._sent.get(token)
        if sent is None or (peer is not None and sent.peer != peer):
            return None
        del self._sent[token]
        if sent.acknowledged is None:  # brokers hand a message on before they acknowledge it
            self._begin(sent, now)
        after = None
        if sent.acknowledged is not None:
            after = now - max(sent.acknowledged, self._came_in_at)
        # An echo is as large as what it may have waited for; a receipt is not.
        behind = sent.at < self._came_in_at if sent.peer is None else self._right_behind(sent, now)
        return Timed(
            sent.nbytes,
            sent.peer,
            now - sent.began,
            sent.began - sent.at,
            sent.alone,
            sent.held_up or behind,
            after,
            self._after_receipt(sent, now),
        )

    def forget(self, token: str) -> None:
        """Nothing more is expected of the message."""
        self._sent.pop(token, None)

    def tokens(self, prefix: str) -> list[str]:
        """Tokens of messages under way that begin with ``prefix``."""
        return [token for token in self._sent if token.startswith(prefix)]

    def busy(self) -> bool:
        """Whether the broker has not acknowledged some message yet."""
        return any(sent.acknowledged is None for sent in self._sent.values())

    def leaving(self, *prefixes: str) -> bool:
        """The same of messages whose token begins with one of ``prefixes``."""
        return any(
            sent.acknowledged is None and token.startswith(prefixes) for token, sent in self._sent.items()
        )

    @property
    def _base(self) -> float:
        return min(self._bases, default=0.0)

    def _right_behind(self, sent: _Sent, now: float) -> bool:
        """Whether what comes at ``now`` for ``sent`` can have waited for a large message from others."""
        return sent.at < self._came_in_at and (not self._bases or now - self._came_in_at <= self._base)

    def _begin(self, sent: _Sent, now: float) -> None:
        if self._acknowledged_at is not None:
            free = self._acknowledged_at - self._base
            sent.began = min(now, max(sent.at, free))

    def _after_receipt(self, sent: _Sent, now: float) -> float | None:
        if sent.peer is None:
            return None
        before = self._received_at.pop(sent.peer, None)
        if any(other.peer == sent.peer for other in self._sent.values()):
            self._received_at[sent.peer] = now
        if before is None or sent.acknowledged is None or sent.acknowledged > before:
            return None
        return now - before

    def sent_at(self, token: str) -> float:
        """When a message under way was handed over."""
        return self._sent[token].at
