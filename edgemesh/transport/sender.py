"""What one connection hands to its MQTT client: in order, and what the broker takes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho

from edgemesh.roles.actions import Log, Publish
from edgemesh.roles.events import Refusal
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.refused_messages import too_large
from edgemesh.transport.messages import publish_properties
from edgemesh.transport.outgoing import MOST_UNACKNOWLEDGED, Outgoing, gives_way
from edgemesh.transport.packet_limit import PacketLimit, packet_bytes
from edgemesh.transport.paho_client import PACKET_TOO_LARGE, PahoClient
from edgemesh.transport.unacknowledged import Unacknowledged

NOT_AUTHORIZED: Final = frozenset({0x86, 0x87})
"""Reason codes of who may not connect, or not do what it wanted (MQTT 5, 2.4)."""


class Sender:
    """It writes nothing itself: what was handed over is in the client's buffers. For the loop's thread."""

    def __init__(
        self,
        client: PahoClient,
        client_id: str,
        loop: asyncio.AbstractEventLoop,
        *,
        broker: Callable[[], object],
        explain: Callable[[str], None],
        on_problem: Callable[[str], None],
        on_refused: Callable[[Publish, Refusal], None],
    ) -> None:
        """``broker`` names where the connection goes; ``explain`` says a sentence once, ``on_problem`` each.

        ``on_refused`` hears, a turn of the loop later, of what the broker does not take: it is lost.
        """
        self._client = client
        self._client_id = client_id
        self._loop = loop
        self._broker = broker
        self._explain = explain
        self._on_problem = on_problem
        self._on_refused = on_refused
        self._connected = False
        self._waiting = Outgoing()
        self._unacknowledged = Unacknowledged()
        self._limit = PacketLimit()
        self._refusals = Refusals()

    @property
    def waiting(self) -> int:
        """Messages and acknowledgements that are not handed over yet."""
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker owes an acknowledgement for."""
        return len(self._unacknowledged)

    @property
    def largest_packet(self) -> int | None:
        """Bytes of the largest packet that the broker takes, by its own word."""
        return self._limit.announced

    # --- the connection ----------------------------------------------------------------------------------

    def forget_lost(self, now: float) -> None:
        """Before the next connection is begun: what it is not to send again is forgotten."""
        self._client.forget(self._unacknowledged.forget_lost(now))

    def connected(self, properties: Any) -> None:
        """The broker accepted the connection, with its limits in the ``properties``."""
        self._connected = True
        # MQTT 5, 3.2.2.3.3; paho takes no notice of it.
        self._waiting.receive_maximum = getattr(properties, "ReceiveMaximum", MOST_UNACKNOWLEDGED)
        self._limit.connected(getattr(properties, "MaximumPacketSize", None))
        unfit = self._unacknowledged.take(self._limit.forbids)
        self._client.forget(unfit)  # or paho would send it again once its callback returns
        for message in unfit.values():
            self._too_large(message)

    def lost(self) -> None:
        """The connection is gone, and with it all that is not to be sent again."""
        self._connected = False
        self._waiting.lost()

    # --- messages ----------------------------------------------------------------------------------------

    def add(self, message: Publish) -> None:
        """Take a message: it is handed over at once, or waits for its turn."""
        if message.qos or gives_way(message):
            self._waiting.add(message)
        else:
            self._hand_over(message)

    def acknowledge(self, mid: int) -> None:
        """Take an acknowledgement, which overtakes nothing that was taken before it but for bulk."""
        self._waiting.acknowledge(mid)

    def hand_over(self, *, idle: bool) -> bool:
        """Hand over what may be written now; where ``idle`` one message in bulk, if nothing else waits.

        Returns whether there was any.
        """
        any_written = False
        while self._connected:
            entry = self._waiting.take(len(self._unacknowledged), idle=idle and not any_written)
            if entry is None:
                break
            if isinstance(entry, int):
                self._client.ack(entry, 1)
            elif not self._hand_over(entry):
                self._waiting.put_back(entry)
                break
            any_written = True
        return any_written

    def answered(self, mid: int, reason: Any) -> str:
        """The broker's word for a message; the token by which its owner wants to hear of it, or nothing."""
        message = self._unacknowledged.pop(mid)
        if message is None:
            return ""  # it was at QoS 0 and has left, or the answer came before
        if reason.value == PACKET_TOO_LARGE:
            self._limit.refused(message)
            self._too_large(message)
        elif reason.is_failure:
            self._refused(message, reason)
        else:
            return message.token or ""
        return ""

    def _hand_over(self, message: Publish) -> bool:
        """Have paho write it; False where it must be tried again."""
        if self._limit.forbids(message):
            self._too_large(message)
            return True
        try:
            info = self._client.publish(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                properties=publish_properties(message),
            )
        except ValueError as error:  # a topic or a size that MQTT has no way to say
            self._explain(f"{self._client_id} cannot send a message on {message.topic[:80]}: {error}")
            return True
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            # The next packet id belongs to a message that the broker owes an acknowledgement for since 65,535
            # others; the one after it may be free.
            self._explain(f"{self._broker()} does not acknowledge messages of {self._client_id}")
            return False
        if message.qos:
            self._unacknowledged.add(info.mid, message, self._loop.time())
        return True

    # --- refusals ----------------------------------------------------------------------------------------

    def _too_large(self, message: Publish) -> None:
        limit = self._limit.of(message)
        self._explain(too_large(self._words_for(message), packet_bytes(message), limit))
        self._tell_refused(message, Refusal(limit))

    def _refused(self, message: Publish, reason: Any) -> None:
        advice = "; see the access rules of the broker" if reason.value in NOT_AUTHORIZED else ""
        refusal = Refusal(reason=f"{reason}{advice}")
        text = f"{self._broker()} refuses {self._words_for(message)}: {refusal.reason}"
        # Topics take turns, so it is not enough to leave out what was said last.
        for line in self._refusals.tell("publish", text, self._loop.time()):
            if isinstance(line, Log):
                self._on_problem(line.text)
        self._tell_refused(message, refusal)

    def _words_for(self, message: Publish) -> str:
        return f"a message of {self._client_id} on {message.topic[:80]}"

    def _tell_refused(self, message: Publish, refusal: Refusal) -> None:
        # Not at once: the owner may be in the middle of publishing, and nothing is written inside paho.
        self._loop.call_soon(self._on_refused, message, refusal)
