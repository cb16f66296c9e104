"""Topics of the wire contract: one table, from which topics are built, parsed and subscribed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from edgemesh.errors import DecodeError, SettingsError
from edgemesh.protocol.ids import checked_id, is_digest

MAJOR: Final = 1
"""Major version of the wire contract; a reader refuses any other."""
MINOR: Final = 0
"""Grows with each field or topic that is added; readers of another minor version do without."""

Payload = Literal["json", "msgpack", "text", "any"]


@dataclass(frozen=True)
class TopicRow:
    """One line of the contract: who may write what there, and how it is sent."""

    pattern: str
    writer: str
    payload: Payload
    qos: int
    retain: bool
    expiry: int | None = None
    """Seconds after which the broker drops it; None keeps it (or the message's own deadline counts)."""


TOPICS: Final[dict[str, TopicRow]] = {
    "state": TopicRow("device/{device}/state", "device", "text", 1, True),
    "about": TopicRow("device/{device}/about", "device", "json", 1, True),
    "heartbeat": TopicRow("device/{device}/heartbeat", "device", "json", 0, False, 10),
    "resources": TopicRow("device/{device}/resources", "device", "json", 0, True, 60),
    "profile": TopicRow("device/{device}/profile/{model}", "device", "json", 1, True),
    "work": TopicRow("device/{device}/work", "requester or device", "msgpack", 1, False),
    "probe": TopicRow("probe/{requester}", "device, gateway or decision node", "any", 1, False, 10),
    "link": TopicRow("link/{requester}", "device, gateway or client", "json", 0, False, 10),
    "receipt": TopicRow("receipt/{requester}", "device", "json", 0, False, 10),
    "model": TopicRow("model/{model}", "operator, device, gateway or decision node", "json", 1, True),
    "assignment": TopicRow("assignment/{model}/{origin}", "decision node", "json", 1, True),
    "failure": TopicRow("failure/{model}/{origin}", "decision node", "json", 1, True),
    "outcome": TopicRow("outcome/{model}/{origin}", "decision node", "json", 1, True),
    "policy": TopicRow("policy/{model}", "operator or decision node", "json", 1, True),
    "meter": TopicRow("meter/{device}", "operator or device", "json", 1, True),
    "decision": TopicRow("decision/state", "decision node", "json", 1, True),
    "gateway": TopicRow("gateway/{slot}/state", "gateway", "json", 1, True),
    "answered": TopicRow("gateway/{slot}/answered", "gateway", "json", 1, True),
    "submit": TopicRow("submit/{model}", "app", "any", 1, False),
    "result": TopicRow("result/{model}", "gateway", "json", 1, False),
    "reply": TopicRow("reply/{requester}", "device", "msgpack", 1, False),
    "chunk-request": TopicRow("content/{digest}/request", "device or operator", "json", 0, False, 10),
    "chunk": TopicRow("content/{digest}/chunk/{requester}", "holder", "msgpack", 0, False, 10),
    "request": TopicRow("request/{verb}", "operator, device, gateway or client", "json", 1, False, 30),
    "response": TopicRow("response/{verb}", "decision node", "json", 1, False, 30),
}

_SEGMENT: Final[dict[str, str]] = {"digest": "[0-9a-f]{64}"}
_ID_SEGMENT: Final = "[a-z0-9][a-z0-9-]{0,62}"


def _pattern_regex(pattern: str) -> re.Pattern[str]:
    def group(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"(?P<{name}>{_SEGMENT.get(name, _ID_SEGMENT)})"

    return re.compile(re.sub(r"\{(\w+)\}", group, pattern))


_REGEXES: Final = {kind: _pattern_regex(row.pattern) for kind, row in TOPICS.items()}


@dataclass(frozen=True)
class ParsedTopic:
    """A topic of the mesh: its row and the names in it."""

    kind: str
    names: dict[str, str]


class Topics:
    """Topics of one mesh, under one major version."""

    def __init__(self, mesh: str, major: int | None = None) -> None:
        self.mesh = checked_id(mesh, "mesh")
        self.major = MAJOR if major is None else major
        self.root = f"edgemesh/v{self.major}/{mesh}/"
        self._cache: dict[str, ParsedTopic] = {}

    def build(self, kind: str, **names: str) -> str:
        """The topic of ``kind``; raises SettingsError for a name that MQTT would read as more than a name."""
        return self.root + TOPICS[kind].pattern.format(**_checked_names(names))

    def filter(self, kind: str, **names: str) -> str:
        """Subscription filter of ``kind`` with ``+`` for each name not given; raises SettingsError."""
        given = _checked_names(names)
        return self.root + re.sub(r"\{(\w+)\}", lambda m: given.get(m.group(1), "+"), TOPICS[kind].pattern)

    def parse(self, topic: str) -> ParsedTopic:
        """Row and names of ``topic``; raises DecodeError for one outside the mesh or the table."""
        known = self._cache.get(topic)
        if known is not None:
            return known
        if not topic.startswith(self.root):
            raise DecodeError(f"topic {topic[:120]!r} is not under {self.root}")
        rest = topic[len(self.root) :]
        for kind, regex in _REGEXES.items():
            match = regex.fullmatch(rest)
            if match:
                parsed = ParsedTopic(kind, match.groupdict())
                # Bounded: hostile topics must not grow the process.
                if len(self._cache) < 4096:
                    self._cache[topic] = parsed
                return parsed
        raise DecodeError(f"topic {topic[:120]!r} is not one of the contract")


def _checked_names(names: dict[str, str]) -> dict[str, str]:
    for what, name in names.items():
        if what != "digest":
            checked_id(name, what)
        elif not is_digest(name):
            raise SettingsError(f"digest {name[:80]!r} is no SHA-256 in 64 lower-case hexadecimal digits")
    return names


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether ``topic`` falls under an MQTT subscription filter (MQTT 5, 4.7)."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    if found[0].startswith("$") and wanted[0] in ("+", "#"):
        return False  # the broker's own topics are not caught by a leading wildcard (4.7.2)
    for i, part in enumerate(wanted):
        if part == "#":
            return True
        if i >= len(found) or part not in ("+", found[i]):
            return False
    return len(wanted) == len(found)
