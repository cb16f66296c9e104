"""A client's end of a connection to the modelled broker, as ``transport/connection.py`` is to a real one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgemesh.planning.link_estimate import LARGE_BYTES
from edgemesh.protocol.jsontext import SharedPayload
from edgemesh.roles.actions import Publish
from edgemesh.simulation.broker import Broker, Message
from edgemesh.simulation.clock import Entry, VirtualClock
from edgemesh.simulation.link_faults import LinkFaults
from edgemesh.simulation.links import PACKET_BYTES, Link, Way
from edgemesh.simulation.sections import modelled_bytes

KEEPALIVE = 10.0
RECONNECT_SECONDS = 0.5
_SHARED_BYTES = 16_384
"""Larger payloads hold tensors or content, which nobody decodes twice."""
_UNSENT_BYTES = 1 << 17
"""What a kernel takes of the next message in bulk before the one before it has left."""
_LONGEST_EXPIRY = 2.0**32 - 1.0
"""Seconds: what MQTT has room for."""


@dataclass
class Callbacks:
    """What the owner of a connection is told."""

    on_connected: Callable[[], None]
    on_disconnected: Callable[[], None]
    on_message: Callable[[Message, int], None]
    """With the packet identifier to acknowledge, 0 under QoS 0."""
    on_acknowledged: Callable[[str], None]
    on_taken_over: Callable[[], None] | None = None
    on_refused: Callable[[Publish], None] = lambda message: None
    """The broker does not take a message: its access rules say so."""


class ModelledConnection:
    """Connects for ever until it is closed; QoS 1 waits for the broker to be back, QoS 0 does not."""

    def __init__(
        self,
        clock: VirtualClock,
        broker: Broker,
        client_id: str,
        callbacks: Callbacks,
        link: Link,
        *,
        will: Publish | None = None,
        clean_start: bool = True,
        session_lasts: bool = False,
        acknowledges_itself: bool = True,
    ) -> None:
        self.client_id = client_id
        self.clean_start = clean_start
        self.session_lasts = session_lasts
        self.will = None if will is None else _message(will, client_id, clock.now)
        self.link = link
        self.connected = False
        self.alive = True
        """Not closed, killed or silenced."""
        self._clock = clock
        self._broker = broker
        self._callbacks = callbacks
        self._acknowledges_itself = acknowledges_itself
        self._up, self._down = Way(), Way()
        self._bulk: deque[tuple[int, Callable[[], None]]] = deque()
        """Bytes of messages that others may overtake, and what happens when they arrive."""
        self._bulk_timer: Entry | None = None
        self.changed_at = clock.now
        """When it began or ended last, or a fault of its link did."""
        self._life = 0
        """Counts connections: what an earlier one sent does not arrive in a later one."""
        self._unacknowledged: dict[int, tuple[Publish, str | None]] = {}
        self._sent = 0
        self._by_hand: dict[int, bool] = {}
        """Packets to acknowledge by hand, in the order of their arrival, and whether each is answered."""
        self._faults = LinkFaults(clock)
        self._connect()

    # --- the client's side -------------------------------------------------------------------------------

    def publish(self, action: Publish, response_topic: str | None = None) -> None:
        """Send, or keep until the broker is back (QoS 1 only, and what is to be sent again).

        ``response_topic`` is where an app wants its answer.
        """
        if action.qos:
            self._sent += 1
            if action.resend:
                self._unacknowledged[self._sent] = action, response_topic
        if self.connected:
            self._carry_up(action, response_topic, self._sent if action.qos else 0)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Receive what matches from now on."""
        self._later_up(len(topic_filter), lambda: self._broker.subscribe(self, topic_filter, qos))

    def unsubscribe(self, topic_filter: str) -> None:
        """Receive what matches no longer."""
        self._later_up(len(topic_filter), lambda: self._broker.unsubscribe(self, topic_filter))

    def acknowledge(self, packet: int) -> None:
        """Send a PUBACK that was held back, once those before it are sent (MQTT 5, 4.6)."""
        if packet in self._by_hand:
            self._by_hand[packet] = True
        while self._by_hand and self._by_hand[first := next(iter(self._by_hand))]:
            del self._by_hand[first]
            self._acknowledge(first)

    def _acknowledge(self, packet: int) -> None:
        if self.connected:
            self._later_up(0, lambda: self._broker.acknowledge(self, packet))

    def close(self) -> None:
        """Disconnect cleanly: what was sent arrives before."""
        if self._faults.cut:
            self.silence()
        if self.connected:
            while self._bulk:
                self._later_up(*self._bulk.popleft())
            self._later_up(0, lambda: self._broker.close(self, clean=True))
        self.connected = self.alive = False

    def kill(self) -> None:
        """The process dies: TCP closes at once, and the Will is published."""
        if self._faults.cut:
            self.silence()
            return
        self.alive = False
        if self.connected:
            self.connected = False
            self._begin_life()
            self._clock.call_later(self.link.latency, self._close_at_broker)

    def silence(self) -> None:
        """The machine is gone without a word: the broker notices after one and a half keep-alives."""
        self.alive = False
        if self.connected:
            self.connected = False
            self._begin_life()
            self._clock.call_later(1.5 * KEEPALIVE, self._close_at_broker)

    def lose(self) -> None:
        """The connection breaks and both ends see it; the client comes back."""
        if self.connected:
            self._close_at_broker()
            self.ended("connection reset")

    def pause(self) -> None:
        """The process stops (SIGSTOP): what arrives waits in TCP, and the broker hears nothing."""
        self._faults.pause()
        self._clock.call_later(1.5 * KEEPALIVE, self._unheard, self._life)

    def resume(self) -> None:
        """The process goes on (SIGCONT) and reads what has waited."""
        self._faults.resume()

    def cut(self) -> None:
        """The link carries nothing, either way: TCP holds it back and neither end is told."""
        self.changed_at = self._clock.now
        self._faults.sever()
        self._clock.call_later(1.5 * KEEPALIVE, self._unheard, self._life)

    def mend(self) -> None:
        """The link carries again; what TCP held back arrives, unless one end has given up."""
        self.changed_at = self._clock.now
        self._faults.mend()

    def lose_next_acknowledgement(self, of: str = "") -> None:
        """Break at the broker's next PUBACK of a message with ``of`` in its topic: it has the message,
        and the client will send it again."""
        self._faults.loses_acknowledgement_of = of

    def _unheard(self, life: int) -> None:
        """One and a half keep-alives after a fault began: whoever still waits for the other gives up."""
        if not self._faults.silent or self._clock.now < self._faults.silent_since + 1.5 * KEEPALIVE:
            return  # it is another silence
        if self.connected and life == self._life:
            self._close_at_broker()
            self.ended("keep-alive timeout")
        self._faults.give_up()

    def _begin_life(self) -> None:
        """From now on what the connection before has sent does not arrive, and what waited is not sent."""
        self._life += 1
        self._bulk.clear()
        if self._bulk_timer is not None:
            self._bulk_timer.cancel()
            self._bulk_timer = None

    def _close_at_broker(self) -> None:
        self._broker.close(self, clean=False)

    @property
    def airtime(self) -> float:
        """Seconds in which bytes of this client were under way, both directions together."""
        return self._up.busy_seconds + self._down.busy_seconds

    @property
    def clear_at(self) -> float:
        """When all that is under way, or waits to be, has arrived, were nothing added to it."""
        waiting = sum(nbytes + PACKET_BYTES for nbytes, _ in self._bulk) / self.link.rate_up
        return max(self._up.clear_at + waiting, self._down.clear_at)

    # --- the broker's side -------------------------------------------------------------------------------

    def accepted(self) -> None:
        """CONNACK: what was not acknowledged before is sent again before anything else."""
        self._begin_life()
        self.connected = True
        self.changed_at = self._clock.now
        for way in (self._up, self._down):
            way.clear(self._clock.now)  # what waited in the sockets of the one before is lost with them
        life = self._life
        self._clock.call_later(self.link.latency, self._if_alive, life, self._callbacks.on_connected)
        for number, (action, response_topic) in list(self._unacknowledged.items()):
            self._carry_up(action, response_topic, number)

    def ended(self, reason: str, *, taken_over: bool = False) -> None:
        """The broker closed the connection."""
        if not self.connected:
            return
        self.connected = False
        self._begin_life()
        self._by_hand.clear()
        if taken_over and self._callbacks.on_taken_over is not None:
            self.alive = False
            self._clock.call_later(self.link.latency, self._faults.tell, self._callbacks.on_taken_over)
            return
        self._clock.call_later(self.link.latency, self._faults.tell, self._report_loss)
        # Whoever does not know yet that a connection ended does not begin another.
        pause = 30.0 if taken_over else RECONNECT_SECONDS
        self._clock.call_later(self.link.latency + pause, self._connect)

    def carry_down(self, message: Message, packet: int) -> None:
        """A PUBLISH on its way to this client."""
        self._later_down(message.nbytes, lambda: self._arrived(message, packet))

    def carry_late(self, message: Message, packet: int) -> None:
        """The same for a message that others have overtaken at the broker."""
        if self._broker.is_connected(self):
            self.carry_down(message, packet)

    def _arrived(self, message: Message, packet: int) -> None:
        if packet and self._acknowledges_itself:
            self._acknowledge(packet)
        elif packet and self.connected:
            self._by_hand[packet] = False
        self._callbacks.on_message(message, packet)

    def _report_loss(self) -> None:
        if self.alive:
            self._callbacks.on_disconnected()

    def _connect(self) -> None:
        if not self.alive or self.connected:
            return
        if self._faults.silent or not self._broker.connect(self):
            self._clock.call_later(RECONNECT_SECONDS, self._connect)

    # --- under way ---------------------------------------------------------------------------------------

    def _carry_up(self, action: Publish, response_topic: str | None, number: int) -> None:
        message = _message(action, self.client_id, self._clock.now, response_topic)

        def arrived() -> None:
            self._at_broker(message, number, action)

        if action.bulk and message.nbytes >= LARGE_BYTES:
            self._bulk.append((message.nbytes, arrived))
            if self._bulk_timer is None:
                self._send_bulk()
        else:
            self._later_up(message.nbytes, arrived)

    def _send_bulk(self) -> None:
        """Send what may be overtaken, one message when nearly all before it has left.

        A message on its way cannot be interrupted (a PUBLISH is one packet), so whatever else is sent waits
        for one of them, and the others wait for it.
        """
        self._bulk_timer = None
        while self._bulk:
            begins = self._up.free_at - _UNSENT_BYTES / self.link.rate_up
            if begins > self._clock.now:
                self._bulk_timer = self._clock.call_at(begins, self._send_bulk)
                return
            self._later_up(*self._bulk.popleft())

    def _at_broker(self, message: Message, number: int, action: Publish) -> None:
        if message.qos and self._broker.refuses(self, message):
            self._later_down(0, lambda: self._refused(number, action))
            return
        if self._broker.publish(self, message) and message.qos:
            lost = self._faults.loses_acknowledgement_of
            if lost is not None and lost in message.topic:
                self._faults.loses_acknowledgement_of = None
                self.lose()
                return
            self._later_down(0, lambda: self._acknowledged(number, action.token))

    def _refused(self, number: int, action: Publish) -> None:
        self._unacknowledged.pop(number, None)
        self._callbacks.on_refused(action)

    def _acknowledged(self, number: int, token: str | None) -> None:
        self._unacknowledged.pop(number, None)
        if token is not None:
            self._callbacks.on_acknowledged(token)

    def _later_up(self, nbytes: int, then: Callable[[], None]) -> None:
        link = self.link
        at = self._up.arrival(self._clock.now, nbytes, link.rate_up, link.latency, link.noise())
        self._clock.call_at(at, self._if_life, self._life, then)

    def _later_down(self, nbytes: int, then: Callable[[], None]) -> None:
        link = self.link
        at = self._down.arrival(self._clock.now, nbytes, link.rate_down, link.latency, link.noise())
        self._clock.call_at(at, self._if_alive, self._life, then)

    def _if_life(self, life: int, then: Callable[[], None]) -> None:
        if self._faults.cut:
            self._faults.hold(self._if_life, life, then)
        # What was under way when the connection died is lost with it.
        elif life == self._life:
            then()

    def _if_alive(self, life: int, then: Callable[[], None]) -> None:
        if self._faults.cut:
            self._faults.hold(self._if_alive, life, then)
        elif life == self._life and self.connected:
            self._faults.at_process(then)


def _message(action: Publish, client_id: str, now: float, response_topic: str | None = None) -> Message:
    expiry = action.expiry
    if expiry is None or math.isnan(expiry) or expiry == math.inf:  # as ``transport/messages.py``
        expires_at = None
    else:
        expires_at = now + min(max(1.0, expiry), _LONGEST_EXPIRY)
    return Message(
        action.topic,
        SharedPayload(action.payload) if len(action.payload) < _SHARED_BYTES else action.payload,
        action.qos,
        action.retain,
        expires_at,
        action.content_type,
        response_topic,
        action.correlation,
        publisher=client_id,
        nbytes=modelled_bytes(action.payload),
    )
