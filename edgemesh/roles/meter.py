"""Meter: times transfers on this device's own clock, probes the link when nothing else does, reports both."""

from __future__ import annotations

from collections.abc import Sequence

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.link import LinkReport, Receipt, RunReport, Transfer
from edgemesh.protocol.topics import Topics
from edgemesh.roles.actions import Action, Publish, SetTimer, Subscribe
from edgemesh.roles.events import Connected, Event, MessageReceived, PublishAcknowledged, TimerFired
from edgemesh.roles.refusals import Refusals

_REPORT_SECONDS = 1.0
_PROBE_SECONDS = 20.0
_EARLY_PROBE_SECONDS, _EARLY_PROBES = 5.0, 12
"""More often in the first minute: what is measured while everything starts tells of the start."""
_LOST_SECONDS = 10.0
"""A probe that has not come back after this, its expiry, will not."""
_SURPRISES = 3
"""Probes that may differ from the usual one in a row before they are the usual ones."""
_PROBE_COST = 0.01
"""Share of the link's time that probes may take: a slow link is probed less often."""
_FIRST_PROBES = 3
"""Right after connecting, so that the first plan rests on measurements."""
PROBE_BYTES = (64, 65_536)
"""Two sizes, because latency and rate are two unknowns; 65 KB in 20 s is under 1 % of a 1 MB/s link."""
_OPEN = 64
_RUNS = 64
_TRANSFERS = 256
"""Between two reports; the decision node reads no more either."""
_TIMER = "meter"


class Meter:
    """Watches what the other roles of one connection send, and probes its link as nothing else may tell."""

    def __init__(self, requester: str, boot: str, topics: Topics) -> None:
        self._requester = requester
        self._boot = boot
        self._topics = topics
        self._sent: dict[str, tuple[float, int, str | None]] = {}
        self._acknowledged: dict[str, float] = {}
        """When probes on their way back were acknowledged."""
        self._transfers: list[Transfer] = []
        self._runs: list[RunReport] = []
        self._probe_count = 0
        self._usual: float | None = None
        """Seconds that a large probe takes."""
        self._surprises = 0
        self._next_probe = 0.0
        self._refusals = Refusals()

    def ran(self, digest: str, start: int, stop: int, seconds: float) -> None:
        """A job's units ran here."""
        if len(self._runs) < _RUNS:
            self._runs.append(RunReport(digest, start, stop, seconds))

    def watch(self, actions: Sequence[Action], now: float) -> None:
        """Note when what is to be timed is sent."""
        for action in actions:
            if isinstance(action, Publish) and action.token is not None:
                peer = self._peer(action.topic)
                if len(self._sent) >= _OPEN:
                    oldest = next(iter(self._sent))
                    del self._sent[oldest]
                    self._acknowledged.pop(oldest, None)
                self._sent[action.token] = (now, len(action.payload), peer)

    def handle(self, event: Event, now: float) -> list[Action]:
        """React to acknowledgements, receipts, probes coming back and the time to report."""
        if isinstance(event, PublishAcknowledged):
            self._note_acknowledgement(event.token, now)
        elif isinstance(event, MessageReceived) and event.topic.kind == "receipt":
            try:
                receipt = decode_json(Receipt, event.payload)
            except DecodeError as error:
                return self._refusals.log("receipt", error, now)
            self._note_receipt(receipt, now)
        elif isinstance(event, MessageReceived) and event.topic.kind == "probe":
            return self._probe_returned(event, now)
        elif isinstance(event, TimerFired) and event.name == _TIMER:
            return self._tick(now)
        elif isinstance(event, Connected):
            self._sent.clear()
            self._acknowledged.clear()
            self._probe_count = 0
            self._next_probe = now
            filters = [self._topics.filter(kind, requester=self._requester) for kind in ("receipt", "probe")]
            return [*(Subscribe(f, 0) for f in filters), SetTimer(_TIMER, now + 0.2)]
        return []

    def _peer(self, topic: str) -> str | None:
        parsed = self._topics.parse(topic)
        return parsed.names.get("device") if parsed.kind == "work" else None

    def _note(self, transfer: Transfer) -> None:
        if len(self._transfers) < _TRANSFERS:
            self._transfers.append(transfer)

    def _note_acknowledgement(self, token: str, now: float) -> None:
        sent = self._sent.get(token)
        if sent is None:
            return
        self._note(Transfer("acknowledged", sent[1], max(0.0, now - sent[0])))
        if token.startswith("probe:"):
            self._acknowledged[token] = now

    def _note_receipt(self, receipt: Receipt, now: float) -> None:
        prefix = f"work:{receipt.job}:{receipt.attempt}:"
        for token, (at, nbytes, peer) in list(self._sent.items()):
            if token.startswith(prefix) and peer == receipt.device:
                self._note(Transfer("received", nbytes, max(0.0, now - at), peer))
                del self._sent[token]

    def _probe_returned(self, event: MessageReceived, now: float) -> list[Action]:
        token = bytes(event.payload[:32]).rstrip(b"\0").decode("ascii", "replace")
        sent = self._sent.pop(token, None)
        if sent is not None and token.startswith("probe:"):
            took = max(0.0, now - sent[0])
            if sent[1] == max(PROBE_BYTES):
                self._plan_next_probe(took, now)
            self._note(Transfer("echoed", sent[1], took))
            acknowledged = self._acknowledged.pop(token, None)
            if acknowledged is not None:
                self._note(Transfer("tail", sent[1], max(0.0, now - acknowledged)))
        return []

    def _plan_next_probe(self, took: float, now: float) -> None:
        surprising = self._usual is not None and not self._usual / 2 < took < self._usual * 2
        self._surprises = self._surprises + 1 if surprising else 0
        if 0 < self._surprises <= _SURPRISES:
            # One odd probe is noise or a change: the next ones tell which, and are worth their cost.
            self._next_probe = min(self._next_probe, now + _EARLY_PROBE_SECONDS)
            return
        self._usual = took
        if self._probe_count >= _FIRST_PROBES:
            self._next_probe = max(self._next_probe, now + took / _PROBE_COST)

    def _tick(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if now >= self._next_probe and not self._probe_under_way(now):
            actions += self._probe(now)
        if self._transfers or self._runs:
            report = LinkReport(self._boot, tuple(self._transfers), tuple(self._runs))
            self._transfers, self._runs = [], []
            topic = self._topics.build("link", requester=self._requester)
            actions.append(Publish(topic, encode_json(report), expiry=10.0))
        return [*actions, SetTimer(_TIMER, now + _REPORT_SECONDS)]

    def _probe_under_way(self, now: float) -> bool:
        return any(
            token.startswith("probe:") and now - at < _LOST_SECONDS
            for token, (at, _, _) in self._sent.items()
        )

    def _probe(self, now: float) -> list[Action]:
        self._probe_count += 1
        if self._probe_count >= _FIRST_PROBES:
            early = self._probe_count < _EARLY_PROBES
            self._next_probe = now + (_EARLY_PROBE_SECONDS if early else _PROBE_SECONDS)
        topic = self._topics.build("probe", requester=self._requester)
        probes: list[Action] = []
        for nbytes in PROBE_BYTES:
            token = f"probe:{self._probe_count}:{nbytes}"
            payload = token.encode().ljust(32, b"\0").ljust(nbytes, b"\0")
            probes.append(Publish(topic, payload, qos=1, expiry=10.0, token=token))
        return probes
