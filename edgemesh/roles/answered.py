"""Answered record: what a gateway leaves to the next holder of its session, so that no result comes twice.

A submission is acknowledged after its result is out, and acknowledgements keep the order of arrival (MQTT 5,
4.6): one slow submission holds back those of all that follow it. When the holder dies the broker gives all of
them to the next one, marked as duplicates. So there is a retained record of the submissions that are answered
and not yet surely acknowledged.

A connection can end between any two packets. So the record goes before the result, with the result in it.
After that the result is out, or it is not: the next holder cannot know, and tells it again as it is, as MQTT
itself may hand on a result twice. One too long for the record is computed again, under the same job id. A
record after the result says that it is out for sure: the next result's own, or one more where the
acknowledgement has to wait in line.

Two equal photographs are two submissions. What makes one that comes again the same is its packet identifier,
which the broker keeps; the checksum guards against a record that outlived its session.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from edgemesh.protocol.answered import Answered, AnsweredSubmission, ToldSubmission
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.limits import TEXT_CHARS
from edgemesh.roles.actions import Publish
from edgemesh.roles.events import MessageReceived

_TOKEN = "answered:"
LONGEST_LINE = 80
"""Of answers that wait to be acknowledged behind one that is not there yet. A broker hands out only so many
submissions without an acknowledgement: rumqttd 100 (measured), Mosquitto what the gateway asks for, 200."""


@dataclass
class _Entry:
    checksum: int
    released_in: int | None = None
    """Number of the record after which its acknowledgement was sent; None while it waits in line."""


class AnsweredRecord:
    """The record of one slot. Forget it with the connection: what the broker retains is the truth."""

    def __init__(self, topic: str) -> None:
        self.recalling = True
        """Whether what the holder before has left is still on its way."""
        self.found = False
        """Whether the holder before has left anything."""
        self._topic = topic
        self._entries: dict[int, _Entry] = {}
        self._left: dict[int, int] = {}
        """Packet to checksum of what the holder before has left."""
        self._told: dict[int, ToldSubmission] = {}
        """By packet, those whose result may be out, by us or by the holder before."""
        self._line: dict[int, bool] = {}
        """Packets in the order of their arrival, and whether each is answered."""
        self._published = 0

    def learn(self, payload: bytes | memoryview) -> None:
        """What is retained arrived; one's own, which replaces it, comes back, too. Raises DecodeError."""
        if payload and not self._published:
            self.found = True
            answered = decode_json(Answered, payload)
            self._left = {s.packet: s.checksum for s in answered.submissions}
            self._told = {s.packet: s for s in answered.told}

    def arrived(self, packet: int, *, again: bool) -> list[Publish]:
        """A submission stands in line to be acknowledged; what must be published before anything else.

        A packet identifier that is used anew says that the acknowledgement of the one before has arrived. Its
        entry would otherwise pass for an answer to the new one, if both are equal.
        """
        self._line[packet] = False
        if again:
            return []
        stale = self._entries.pop(packet, None) is not None
        stale |= self._left.pop(packet, None) is not None
        stale |= self._told.pop(packet, None) is not None
        return [self._record()] if stale else []

    def passed_over(self, packet: int, *, again: bool) -> list[Publish]:
        """A message that is no submission takes a packet identifier; it is to be acknowledged at once."""
        stale = self.arrived(packet, again=again)
        del self._line[packet]
        return stale

    @property
    def in_the_way(self) -> int | None:
        """The packet for which too many wait in line."""
        if len(self._line) <= LONGEST_LINE or sum(self._line.values()) < LONGEST_LINE:
            return None
        return next(iter(self._line))

    def was_answered(self, packet: int, checksum: int) -> bool:
        """Whether a submission that comes again has its result already; it is to be acknowledged then."""
        if self._left.get(packet) != checksum:
            return False
        del self._left[packet]
        # It stays in the record until its acknowledgement has surely arrived.
        self._answer(packet, checksum)
        return True

    def told(self, packet: int, checksum: int) -> ToldSubmission | None:
        """What may be out already of a submission that comes again."""
        told = self._told.get(packet)
        return told if told is not None and told.checksum == checksum else None

    def settled(self) -> list[Publish]:
        """All that comes again has come: what else was left is acknowledged, and leaves the record.

        From now on there is a record, so that the next holder need not wait to see whether there is one.
        """
        gone = [packet for packet in self._told if packet not in self._line]
        stale = bool(self._left or gone)
        self._left = {}
        for packet in gone:
            del self._told[packet]
        return [self._record()] if stale or not (self.found or self._published) else []

    def answers(self, packet: int, checksum: int, job: str, result: bytes) -> Publish:
        """Publish this before the ``result`` of a submission, which tells it under the id ``job``."""
        text = result.decode() if len(result) <= TEXT_CHARS else None
        self._told[packet] = ToldSubmission(packet, checksum, job, text)
        return self._record()

    def answered(self, packet: int) -> list[Publish]:
        """The result of a submission is out: publish this before it is acknowledged."""
        told = self._told.pop(packet)
        self._answer(packet, told.checksum)
        return [self._record()] if packet in self._line else []

    def acknowledged(self, token: str) -> None:
        """The broker has the record, hence all acknowledgements sent before it."""
        if not token.startswith(_TOKEN):
            return
        number = int(token.removeprefix(_TOKEN))
        done = [p for p, e in self._entries.items() if e.released_in is not None and e.released_in < number]
        for packet in done:
            del self._entries[packet]

    def _answer(self, packet: int, checksum: int) -> None:
        self._entries.setdefault(packet, _Entry(checksum))
        if packet in self._line:
            self._line[packet] = True
        while self._line and self._line[first := next(iter(self._line))]:
            del self._line[first]
            self._entries[first].released_in = self._published

    def _record(self) -> Publish:
        self._published += 1
        sure = (*((p, e.checksum) for p, e in self._entries.items()), *self._left.items())
        submissions = tuple(AnsweredSubmission(*one) for one in sure)
        payload = encode_json(Answered(submissions, tuple(self._told.values())))
        return Publish(self._topic, payload, qos=1, retain=True, token=f"{_TOKEN}{self._published}")


def checksum_of(event: MessageReceived) -> int:
    """Tells two submissions apart that had the same packet identifier in two sessions."""
    told = f"{event.topic.names['model']} ".encode() + (event.correlation or b"")
    return zlib.crc32(event.payload, zlib.crc32(told))
