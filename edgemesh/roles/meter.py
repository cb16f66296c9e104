"""Meter: times transfers on this device's own clock, probes its link, reports what it saw."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from edgemesh.errors import DecodeError
from edgemesh.planning.level import Level
from edgemesh.planning.link_estimate import LARGE_BYTES, SMALL_BYTES
from edgemesh.planning.robust import is_positive
from edgemesh.protocol.assignment import Holder
from edgemesh.protocol.ids import APP_ORIGIN
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.link import LinkReport, Receipt, RunReport, Transfer, TransferKind
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, JobEnded, Publish, SetTimer, Subscribe
from edgemesh.roles.events import (
    Connected,
    Event,
    MessageReceived,
    PublishAcknowledged,
    PublishRefused,
    TimerFired,
)
from edgemesh.roles.job_reports import JobReports
from edgemesh.roles.link_probe import LOST_SECONDS, PATIENCE_SECONDS, PROBE_BYTES, ProbePlan
from edgemesh.roles.recent import RecentTransfers, sort_of
from edgemesh.roles.refusals import Refusals
from edgemesh.roles.sent_messages import SentMessages, Timed

REPORT_SECONDS: Final = 1.0
SURPRISED_SECONDS: Final = 0.2
"""Between two reports while what is measured is not what it was: the decision node waits for them."""
_RUNS: Final = 64
_TRANSFERS: Final = 256
"""Between two reports; the decision node reads no more either."""
_ACKNOWLEDGED: Final = 8
"""Of messages whose receipt nobody asked for: more tell nothing new, and are read by the decision node."""
_LEVELS: Final = 256
"""Kinds of measurements of which it is known what is usual."""
_TIMER: Final = "meter"
_TIMED: Final = ("work:", "sent:", "probe:")
"""Tokens of what is timed; what else waits for its acknowledgement says nothing about a link."""


class Meter:
    """Watches what the other roles of one connection send, and probes its link as nothing else may tell.

    Tokens that begin with ``work:`` (job, attempt, position) are of activations that a receipt is expected
    for, ``sent:`` of those where the acknowledgement is all.
    """

    def __init__(
        self,
        requester: str,
        boot: str,
        topics: Topics,
        *,
        origin: str = APP_ORIGIN,
        size_of: Callable[[bytes | memoryview], int] = len,
    ) -> None:
        """``origin`` is that of the requester's jobs; ``size_of`` is what a payload counts as on the link."""
        self._requester = requester
        self._size_of = size_of
        self._boot = boot
        self._topics = topics
        self._sent = SentMessages()
        self._probe = ProbePlan()
        self._jobs = JobReports(origin)
        self._transfers: list[Transfer] = []
        self._unasked = 0
        """Messages without a receipt that were acknowledged since the last report."""
        self._runs: list[RunReport] = []
        self._recent = RecentTransfers()
        self._leader = ""
        """Boot id of the decision node that hears the reports."""
        self._usual: OrderedDict[tuple[object, ...], Level] = OrderedDict()
        self._reported_at = float("-inf")
        self._wakes_at = float("inf")
        self._surprised = False
        """Whether something unusual waits to be reported."""
        self._refusals = Refusals()

    def ran(
        self, digest: str, start: int, stop: int, seconds: float, now: float, *, probe: bool = False
    ) -> list[Action]:
        """Units ran here, for a job or to ``probe`` how fast they run now."""
        if len(self._runs) < _RUNS:
            self._runs.append(RunReport(digest, start, stop, max(0.0, seconds), probe))
        self._compare((digest, start, stop), seconds, now)
        return self._wake(now)

    def doubts(self, digest: str, start: int, stop: int) -> bool:
        """Whether the last run of these units did not take what they usually take."""
        level = self._usual.get((digest, start, stop))
        return level is not None and level.doubtful

    def leaving(self, job: str) -> bool:
        """Whether an activation of the job is still on this device's own way to the broker."""
        return self._sent.leaving(f"work:{job}:", f"sent:{job}:")

    def ended(self, job: JobEnded) -> None:
        """A job of this requester ended."""
        self._jobs.add(job)

    def watch(self, actions: Sequence[Action], now: float) -> None:
        """Note when what is to be timed is sent."""
        for action in actions:
            if isinstance(action, Publish) and (action.token or "").startswith(_TIMED):
                assert action.token is not None
                self._sent.add(action.token, self._size_of(action.payload), self._peer(action.topic), now)

    def came_in(self, message: MessageReceived, now: float) -> None:
        """Note what others send, which comes in on the same link."""
        if message.topic.kind != "probe":
            self._sent.came_in(self._size_of(message.payload), now)

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to acknowledgements, receipts, probes coming back and the time to report."""
        if isinstance(event, PublishAcknowledged):
            return self._acknowledged(event.token, now)
        if isinstance(event, PublishRefused):
            self._sent.forget(event.message.token or "")
            return []
        if isinstance(event, MessageReceived) and event.topic.kind == "receipt":
            try:
                receipt = decode_json(Receipt, event.payload)
            except DecodeError as error:
                return self._refusals.log("receipt", error, now)
            return self._received(receipt, now)
        if isinstance(event, MessageReceived) and event.topic.kind == "probe":
            return self._probe_returned(event, now)
        if isinstance(event, MessageReceived) and event.topic.kind == "decision":
            return self._heard_leader(event, now)
        if isinstance(event, TimerFired) and event.name == _TIMER:
            return self._tick(now)
        if isinstance(event, Connected):
            self._sent.clear()
            self._recent.link_changed(now)
            self._probe.connected(now)
            self._wakes_at = now + SURPRISED_SECONDS
            filters = [self._topics.filter(kind, requester=self._requester) for kind in ("receipt", "probe")]
            filters.append(self._topics.filter("decision"))
            return [*(Subscribe(f, 0) for f in filters), SetTimer(_TIMER, self._wakes_at)]
        return []

    def _peer(self, topic: str) -> str | None:
        parsed = self._topics.parse(topic)
        return parsed.names.get("device") if parsed.kind == "work" else None

    # --- transfers ---------------------------------------------------------------------------------------

    def _acknowledged(self, token: str, now: float) -> list[Action]:
        timed = self._sent.acknowledged(token, now)
        if timed is None:
            return []
        if token.startswith("sent:"):
            self._sent.forget(token)
            self._unasked += 1
            if self._unasked > _ACKNOWLEDGED:
                return self._probe_if_due(now)
        self._note("acknowledged", timed, timed.seconds, now)
        return [*self._probe_if_due(now), *self._wake(now)]

    def _received(self, receipt: Receipt, now: float) -> list[Action]:
        for token in self._sent.tokens(f"work:{receipt.job}:{receipt.attempt}:"):
            timed = self._sent.arrived(token, now, receipt.device)
            if timed is None:
                continue
            self._note("received", timed, timed.seconds, now)
            if token.endswith(":0"):
                self._jobs.arrived(receipt.job, timed.waited + timed.seconds)
        return self._wake(now)

    def _probe_returned(self, event: MessageReceived, now: float) -> list[Action]:
        token = bytes(event.payload[:32]).rstrip(b"\0").decode("ascii", "replace")
        timed = self._sent.arrived(token, now) if token.startswith("probe:") else None
        if timed is None:
            return []
        self._note("echoed", timed, timed.seconds, now)
        if timed.after_acknowledgement is not None:
            self._note("tail", timed, timed.after_acknowledgement, now)
        if timed.nbytes > SMALL_BYTES and not timed.held_up:
            self._probe.returned(timed.nbytes, timed.seconds, now)
        return self._wake(now)

    def _note(self, kind: TransferKind, timed: Timed, seconds: float, now: float) -> None:
        if (timed.nbytes <= SMALL_BYTES and not timed.alone) or (timed.held_up and kind != "tail"):
            return
        answered = (timed.peer, timed.after_receipt) if kind == "received" else (None, None)
        transfer = Transfer(kind, timed.nbytes, seconds, *answered)
        self._recent.add(transfer, now)
        if len(self._transfers) < _TRANSFERS:
            self._transfers.append(transfer)
        if transfer.nbytes >= LARGE_BYTES:
            key = sort_of(transfer)
            took = transfer.seconds if transfer.after_receipt is None else transfer.after_receipt
            since = self._compare(key, took / transfer.nbytes, now)
            if since is not None:
                self._recent.link_changed(since)
            if self._usual[key].doubtful:
                self._probe.doubt(now)

    def _compare(self, kind: tuple[object, ...], value: float, now: float) -> float | None:
        """Compare with what is usual; where ``value`` confirms that this has changed, since when it has."""
        level = self._usual.setdefault(kind, Level())
        self._usual.move_to_end(kind)
        if len(self._usual) > _LEVELS:
            self._usual.popitem(last=False)
        if not is_positive(value):
            return None
        stepped = level.add(value, now)
        if stepped or level.doubtful:
            self._surprised = True
        return level.group_since if stepped else None

    # --- reports and probes ------------------------------------------------------------------------------

    def _wake(self, now: float) -> list[Action]:
        """Set the timer earlier where a surprise waits to be reported, or calls for a probe."""
        at = self._probe.next_at if self._probe.next_at > now else self._wakes_at
        if self._surprised:
            at = min(at, max(now, self._reported_at + SURPRISED_SECONDS))
        if at >= self._wakes_at:
            return []
        self._wakes_at = at
        return [SetTimer(_TIMER, at)]

    def _tick(self, now: float) -> list[Action]:
        actions = self._probe_if_due(now)
        if self._transfers or self._runs or len(self._jobs):
            actions.append(self._report(now))
        self._wakes_at = now + REPORT_SECONDS
        if now < self._probe.next_at < self._wakes_at:
            self._wakes_at = self._probe.next_at
        return [*actions, SetTimer(_TIMER, self._wakes_at)]

    def _report(self, now: float) -> Publish:
        report = LinkReport(self._boot, tuple(self._transfers), tuple(self._runs), *self._jobs.take())
        self._transfers, self._runs, self._unasked = [], [], 0
        self._reported_at, self._surprised = now, False
        topic = self._topics.build("link", requester=self._requester)
        return Publish(topic, encode_json(report), expiry=10.0)

    def _heard_leader(self, event: MessageReceived, now: float) -> list[Action]:
        """Tell one that is new what those before it have heard: its first plan would rest on guesses."""
        try:
            holder = decode_json(Holder, event.payload)
        except DecodeError as error:
            return self._refusals.log("decision", error, now)
        if holder.state != "online" or holder.boot == self._leader:
            return []
        self._leader = holder.boot
        known = self._recent.fresh(now)
        if not known:
            return []
        untold = [transfer for transfer in self._transfers if transfer not in known]
        self._transfers = [*untold, *known][-_TRANSFERS:]
        return [self._report(now)]

    def _probe_if_due(self, now: float) -> list[Action]:
        """A probe that queues behind other messages tells less: it waits a little for a free link."""
        patient = now - self._probe.next_at < PATIENCE_SECONDS
        if not self._probe.due(now) or self._probe_under_way(now) or (patient and self._sent.busy()):
            return []
        return self._send_probe(now)

    def _probe_under_way(self, now: float) -> bool:
        return any(now - self._sent.sent_at(token) < LOST_SECONDS for token in self._sent.tokens("probe:"))

    def _send_probe(self, now: float) -> list[Action]:
        self._probe.sent(now)
        topic = self._topics.build("probe", requester=self._requester)
        probes: list[Action] = []
        for nbytes in (min(PROBE_BYTES), self._probe.nbytes):
            token = f"probe:{self._probe.count}:{nbytes}"
            payload = token.encode().ljust(32, b"\0").ljust(nbytes, b"\0")
            probes.append(Publish(topic, payload, qos=1, expiry=10.0, token=token))
        return probes
