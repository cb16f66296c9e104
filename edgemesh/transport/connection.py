"""One MQTT 5 connection on an asyncio loop, reconnecting by itself.

The client is paho: a library that others keep beats a faster one of our own (docs/benchmarks.md). Its
network thread is not used: a hand-over between threads costs more than a hop (0.1 ms of 0.2), so the loop of
the agent reads and writes the socket itself, and callbacks run on it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import paho.mqtt.client as paho

from edgemesh.errors import SettingsError
from edgemesh.roles.actions import Publish
from edgemesh.roles.events import Refusal
from edgemesh.transport.acknowledgements import InOrder
from edgemesh.transport.address import BrokerAddress
from edgemesh.transport.attempts import Attempts
from edgemesh.transport.broker_search import BrokerSearch, Whereabouts
from edgemesh.transport.buffered_socket import BufferedSocket
from edgemesh.transport.certificates import untrusted
from edgemesh.transport.daemon_threads import DAEMON_THREADS
from edgemesh.transport.messages import IncomingMessage
from edgemesh.transport.outgoing import gives_way
from edgemesh.transport.paho_client import (
    CONNECT_SECONDS,
    PahoClient,
    direct,
    session_client,
)
from edgemesh.transport.sender import NOT_AUTHORIZED, Sender
from edgemesh.transport.session import SessionSettings
from edgemesh.transport.shaping import ShapedQueue
from edgemesh.transport.whole_frames import WholeFrames

_TAKEN_OVER = 0x8E
_ANSWER_SECONDS = 2 * CONNECT_SECONDS
_SOCKET_BUFFER = 1 << 20
_UNSENT_BYTES = 1 << 17
"""What the kernel takes beyond what is on its way: nothing overtakes that. Measured at 20 Mbit/s, behind ten
activations of 1.2 MB: heartbeats came at most 0.6 s late; with the whole buffer 1.3 s, in one queue
5 s."""
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
"""Not on every system."""
_ACKNOWLEDGE_SECONDS = 0.005
_FAILURE = 0x80
NOBODY_LISTENS: Final = "nothing listens there"


@dataclass
class Callbacks:
    """What the owner of a connection is told, always on the loop's thread."""

    on_connected: Callable[[], None]
    on_disconnected: Callable[[str], None]
    on_message: Callable[[IncomingMessage], None]
    on_acknowledged: Callable[[str], None] = lambda token: None
    on_taken_over: Callable[[], None] | None = None
    """Another client took the client id; without it the connection explains that and tries again later."""
    on_refused: Callable[[str], None] = lambda text: None
    on_problem: Callable[[str], None] = lambda text: None
    """A sentence for the log."""
    on_message_refused: Callable[[Publish, Refusal], None] = lambda message, refusal: None
    """The broker does not take a message, for its size or for another reason: it is lost."""


class Connection:
    """Call everything from the loop's thread."""

    def __init__(
        self,
        broker: Whereabouts,
        client_id: str,
        callbacks: Callbacks,
        session: SessionSettings,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.client_id = client_id
        self.connected = False
        self._life = 0
        """Counts connections."""
        self._search = broker if isinstance(broker, BrokerSearch) else None
        self._address = broker.address if isinstance(broker, BrokerSearch) else broker
        self._away_since: float | None = None
        """When the first attempt was made since the last connection."""
        self._callbacks = callbacks
        self._session = session
        self._loop = loop
        self._inbox: deque[IncomingMessage | str] = deque()
        """Messages, and tokens of acknowledged ones, in the order of the wire: who measures by both would
        else see a message wait that did not. Handled once paho has returned, because inside its callbacks
        nothing is written."""
        self._greeted = False
        """Whether the host accepted us and our owner does not know yet."""
        self._attempts = Attempts(callbacks.on_problem, unique_id=session.unique_id)
        self._closing = False
        self._socket: Any = None
        self._unsent: BufferedSocket | WholeFrames | None = None
        """Between paho and the socket: keeps what the socket does not take."""
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._attempt: asyncio.Future[Any] | None = None
        """Being made in a thread."""
        self._heard = False
        """Whether the host answered CONNECT on this socket."""
        self._by_hand = InOrder()
        self._due: deque[int] = deque()
        """Messages that were handled and are still to be acknowledged."""
        self._acknowledging: asyncio.TimerHandle | None = None
        self._subscriptions: dict[int, str] = {}
        self._way_out = self._way_in = None
        if session.shaper is not None:
            self._way_out = ShapedQueue(loop, session.shaper.send_at)
            self._way_in = ShapedQueue(loop, session.shaper.receive_at)
        self._client = self._make_client()
        self._sender = Sender(
            self._client,
            client_id,
            loop,
            broker=lambda: self._address,
            explain=self._attempts.explain,
            on_problem=callbacks.on_problem,
            on_refused=callbacks.on_message_refused,
        )

    @property
    def problem(self) -> str:
        """What keeps it from the broker, as it was told; empty where nothing was."""
        return self._attempts.problem

    @property
    def largest_packet(self) -> int | None:
        """Bytes of the largest packet that the broker takes, by its own word; None where it names none."""
        return self._sender.largest_packet

    # --- use ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, for ever until ``close``."""
        self._connect()

    def publish(self, message: Publish) -> None:
        """Send, or queue while the broker is away (QoS 1 only, and what is to be sent again)."""
        if self._way_out is not None:
            later = partial(self._publish_later, message, self._life)
            self._way_out.put(len(message.payload), later, bulk=gives_way(message))
        else:
            self._publish(message)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Receive what matches from now on."""
        if self.connected:
            _, mid = self._client.subscribe(topic_filter, qos=qos)
            if mid is not None:
                self._subscriptions[mid] = topic_filter
            self._flush()

    def unsubscribe(self, topic_filter: str) -> None:
        """Receive what matches no longer."""
        if self.connected:
            self._client.unsubscribe(topic_filter)
            self._flush()

    def acknowledge(self, mid: int, qos: int) -> None:
        """Send the PUBACK that manual acknowledgement held back, once those before it are sent.

        It overtakes nothing that was published before, but for what is in bulk: the broker would forget a
        submission whose result is still here.
        """
        if not self._session.manual_acknowledgement or not qos:
            return
        if self._way_out is not None:
            self._way_out.put(0, partial(self._acknowledge_later, mid, self._life))
        else:
            self._acknowledge_later(mid, self._life)

    async def close(self, last_words: list[Publish]) -> None:
        """Send what is left and disconnect cleanly; at most one second."""
        self._closing = True
        if self._attempt is not None:
            self._attempt.cancel()  # or it would tell a loop that may be closed by then
        if self._retry is not None:
            self._retry.cancel()
        if self.connected:
            for message in last_words:
                self._publish(message)
            self._acknowledge_due()
            deadline = self._loop.time() + 1.0
            while self.connected and (self._writing or self._sender.waiting) and self._loop.time() < deadline:
                self._flush()
                await asyncio.sleep(0.005)
            # Without a pause for the PUBACKs a broker may see the close before the last message.
            while self._sender.unacknowledged and self._loop.time() < deadline:
                await asyncio.sleep(0.005)
            self._client.disconnect()
            self._flush()
        self._drop_socket()

    # --- connecting --------------------------------------------------------------------------------------

    def _make_client(self) -> PahoClient:
        client = session_client(self._address, self.client_id, self._session, self._inbox.append)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        return client

    def _connect(self) -> None:
        now = self._loop.time()
        self._sender.forget_lost(now)
        if self._away_since is None:
            self._away_since = now
        away = now - self._away_since
        # In a thread: name look-up, TCP and TLS block, and heartbeats of other connections must not.
        try:
            self._attempt = self._loop.run_in_executor(DAEMON_THREADS, self._reconnect, away)
        except RuntimeError as error:  # no thread can be started now: a small board has few to give
            self._attempts.explain(f"cannot connect to {self._address}: {error}", "; trying again")
            self._later()
            return
        self._attempt.add_done_callback(self._attempted)

    def _reconnect(self, away: float) -> None:
        """Called in a thread; a connection that comes after the end would hold the client id."""
        if self._search is not None and away > 0.0:
            self._go_to(self._search.look(away))
        self._client.reconnect()
        # ``close`` sets this before it looks for a socket: whichever is later sees what the other did.
        if self._closing and (sock := self._client.socket()) is not None:
            sock.close()

    def _go_to(self, address: BrokerAddress) -> None:
        if address != self._address:
            self._address = address
            direct(self._client, address, self._session)

    def _attempted(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if self._closing:
            return
        if error is None:
            self._heard = False
            self._watch()
            # A host that accepts TCP but never answers CONNECT must not hold us for ever.
            self._retry = self._loop.call_later(_ANSWER_SECONDS, self._no_answer)
            return
        self._attempts.unreachable()
        if isinstance(error, SettingsError):  # the CA file is gone, or half written
            text = f"cannot connect to {self._address}: {error}"
        else:
            text = f"no broker at {self._address}: {_reason(error, self._address)}"
        self._attempts.explain(text, "; trying again")
        self._later()
        if not isinstance(error, (OSError, ValueError, ssl.SSLError, SettingsError)):
            raise error  # a mistake of ours, for the log: it keeps nobody from trying again

    def _no_answer(self) -> None:
        if not self.connected and not self._closing:
            self._attempts.explain(f"{self._address} accepts connections but does not answer as a broker")
            self._drop_socket()
            self._later()

    def _later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(self._attempts.delay(), self._connect)

    # --- paho callbacks ----------------------------------------------------------------------------------

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # Nagle's delay makes a QoS 1 exchange take 44 ms instead of 0.9 (measured); paho leaves it on.
        raw = sock._socket
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        if _NOTSENT_LOWAT is not None:
            raw.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES)
        self._unsent = sock if isinstance(sock, BufferedSocket) else WholeFrames(sock)

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._unwatch()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._heard = True
        if reason.is_failure:
            text = f"{self._address} refuses {self.client_id}: {reason}"
            if reason.value in NOT_AUTHORIZED:
                text += "; check the user name and password"
                self._callbacks.on_refused(text)
            self._attempts.explain(text)
            return
        if self._retry is not None:
            self._retry.cancel()
        self.connected = True
        self._away_since = None
        self._life += 1
        self._attempts.connected(self._loop.time())
        self._due.clear()  # what a broken connection brought last is not known to this one
        self._sender.connected(properties)
        self._greeted = True

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        was_connected = self._end_life()
        if self._closing:
            return
        if reason.value == _TAKEN_OVER:
            self._attempts.explain(
                f"another client connected under the id {self.client_id}: two agents have the same name; "
                "stop one or give it another with --id"
            )
            if self._callbacks.on_taken_over is not None:
                self._loop.call_soon(self._callbacks.on_taken_over)
                return
            self._attempts.taken_over()
        if not was_connected and not self._heard:
            self._attempts.explain(
                f"{self._address} ends the connection without an answer: see whether a broker for MQTT 5 has "
                "this port, and whether it wants TLS (mqtts://)"
            )
        self._begin_anew(was_connected, str(reason))

    def _end_life(self) -> bool:
        """Forget what means nothing to another connection; whether the broker had accepted this one."""
        was_connected, self.connected = self.connected, False
        self._unwatch()
        self._by_hand.clear()
        self._due.clear()
        self._subscriptions.clear()
        self._sender.lost()
        return was_connected

    def _begin_anew(self, was_connected: bool, why: str) -> None:
        if was_connected:
            self._attempts.lost(self._loop.time(), self.client_id, self._address)
            self._loop.call_soon(self._callbacks.on_disconnected, why)
        self._later()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        topic_filter = self._subscriptions.pop(mid, "")
        for reason in reasons:
            if reason.value >= _FAILURE:
                self._attempts.explain(
                    f"{self._address} refuses the subscription to {topic_filter}: {reason}"
                )

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if token := self._sender.answered(mid, reason):
            self._inbox.append(token)

    # --- socket ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._socket = self._client.socket()
        if self._socket is None:
            return
        self._loop.add_reader(self._socket, self._readable)
        self._flush()
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._tick)

    def _unwatch(self) -> None:
        if self._socket is not None:
            sock, self._socket = self._socket, None
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)
            self._writing = False

    def _drop_socket(self) -> None:
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _tick(self) -> None:
        self._timer = None
        # paho counts its keep-alive from before the look-up of the broker's name, which may take longer.
        # Who does not answer CONNECT is given up by ``_no_answer``.
        if self.connected:
            self._client.loop_misc()
        self._flush()
        if self._client.socket() is not None and not self._closing:
            self._timer = self._loop.call_later(1.0, self._tick)

    def _readable(self) -> None:
        if isinstance(self._unsent, BufferedSocket):
            self._unsent.readable()
        while True:
            failed: Exception | None = None
            try:
                self._client.loop_read(1)
            # A lack of memory, for one: a part of what it was reading may be gone, and the rest would pass
            # for all of it.
            except Exception as error:
                failed = error
            if self._greeted:  # before the messages of a session that we inherit
                self._greeted = False
                self._sender.hand_over(idle=False)  # what waited for the broker goes before what is new
                self._callbacks.on_connected()
            while self._inbox:
                message = self._inbox.popleft()
                if isinstance(message, str):
                    self._arrive(0, partial(self._callbacks.on_acknowledged, message))
                    continue
                if message.qos and not self._session.manual_acknowledgement:
                    self._due.append(message.mid)  # what is answered at once is acknowledged with the answer
                self._deliver(message)
            if failed is not None:
                self._give_up(failed)
                return
            sock = self._client.socket()
            if sock is None or not sock.pending():  # type: ignore[attr-defined]
                break
        if self._due and self._acknowledging is None:
            self._acknowledging = self._loop.call_later(_ACKNOWLEDGE_SECONDS, self._acknowledge_late)
        self._flush()

    def _give_up(self, error: Exception) -> None:
        """End a connection of which nothing more can be read; what was not acknowledged comes again."""
        was_connected = self._end_life()
        self._drop_socket()
        if not self._closing:
            why = f"what it sends cannot be read: {str(error) or type(error).__name__}"
            self._attempts.explain(f"{self._address}: {why}", "; connecting anew")
            self._begin_anew(was_connected, why)
        if not isinstance(error, MemoryError):
            raise error  # a mistake of ours or of paho, for the log

    def _acknowledge_late(self) -> None:
        self._acknowledging = None
        self._acknowledge_due()

    def _acknowledge_due(self) -> None:
        """Right behind a message that we send, or alone when none is sent in time: each wakes the broker."""
        while self._due and self.connected:
            self._client.ack(self._due.popleft(), 1)
        self._flush()

    def _deliver(self, message: IncomingMessage) -> None:
        if message.qos and self._session.manual_acknowledgement:
            self._by_hand.came(message.mid)
        self._arrive(len(message.payload), partial(self._callbacks.on_message, message))

    def _arrive(self, nbytes: int, tell: Callable[[], None]) -> None:
        """Tell our owner now, or when so many bytes have passed the emulated link."""
        if self._way_in is not None:
            self._way_in.put(nbytes, tell)
        else:
            tell()

    def _publish_later(self, message: Publish, life: int) -> None:
        """``message`` has passed the emulated link, where it set out under connection number ``life``."""
        if message.resend or life == self._life:
            self._publish(message)

    def _acknowledge_later(self, mid: int, life: int) -> None:
        """The same for an acknowledgement, which means nothing to another connection."""
        if not self.connected or life != self._life:
            return
        for due in self._by_hand.answered(mid):
            self._sender.acknowledge(due)
        self._flush()

    def _publish(self, message: Publish) -> None:
        if not self.connected and (message.qos == 0 or not message.resend):
            return  # a heartbeat that is late is worth nothing, and an owner who sends it anew does so
        self._sender.add(message)
        self._flush()
        if self._due:  # the broker works on the message while the acknowledgement is made
            self._acknowledge_due()

    def _flush(self) -> None:
        if self._socket is None:
            return
        self._sender.hand_over(idle=False)
        if self._client.want_write():
            self._client.loop_write()
        if self._socket is None or self._unsent is None:
            return  # paho closed it
        try:
            # One at a time: what is published meanwhile waits for no more than that.
            while (sent := self._unsent.flush()) and self._sender.hand_over(idle=True):
                pass
        except OSError:
            sent = True  # the next read says why
        if self._socket is None or sent is not self._writing:
            return
        if sent:
            self._loop.remove_writer(self._socket)
        else:
            self._loop.add_writer(self._socket, self._flush)
        self._writing = not sent


def _reason(error: BaseException, address: BrokerAddress) -> str:
    if isinstance(error, ConnectionRefusedError):
        return NOBODY_LISTENS
    if isinstance(error, socket.gaierror):
        return "that host name is not known"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(error, address.ca_file)
    return str(error) or type(error).__name__
