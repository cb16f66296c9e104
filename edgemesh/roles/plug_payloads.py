"""Reports of smart plugs: where each kind publishes them, and what the bytes say.

Topics and payloads are those of the makers' documents: Tasmota (MQTT, JSON Status Responses), Shelly of the
first generation (``shellies/...``, plain numbers) and of later ones (RPC frames), zigbee2mqtt. The bytes are
hostile until this module accepted them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from edgemesh.errors import DecodeError
from edgemesh.protocol.jsontext import plain_json
from edgemesh.protocol.meter import PlugKind

REPORT_BYTES: Final = 16 * 1024
"""A full Shelly status has some 2 KB."""
PLUG_WATTS: Final = 4000.0
"""No plug carries more (16 A at 250 V): a larger figure is a fault."""
_LARGEST_JOULES: Final = 1e15
_KEY_CHARS: Final = 40
"""Of a foreign key that an error names, escaped: keys may be anything."""
_KILOWATT_HOUR, _WATT_HOUR, _WATT_MINUTE = 3.6e6, 3600.0, 60.0


@dataclass(frozen=True)
class PlugReport:
    """What one message says; None where it says nothing."""

    watts: float | None = None
    joules: float | None = None
    """The plug's counter, since it was last reset."""
    online: bool | None = None


class PlugTopics(NamedTuple):
    """What to listen to, and what to publish to be told at once, where a kind can be asked."""

    listen: tuple[str, ...]
    ask: tuple[str, bytes] | None = None


@dataclass(frozen=True)
class PlugFormat:
    """One kind of plug."""

    recognise: re.Pattern[str]
    """Topics that are of this kind."""
    topics: Callable[[str], PlugTopics]
    """From the topic that a person gave."""
    read: Callable[[str, str, bytes], PlugReport]
    """From the topic that a person gave, that of the message, and its payload; raises DecodeError."""


def plug_kind(kind: PlugKind, topic: str) -> PlugKind:
    """The kind that was set, or for ``auto`` the one whose topics look like this; ``auto`` when none does."""
    if kind != "auto":
        return kind
    return next((name for name, row in FORMATS.items() if row.recognise.search(topic)), "auto")


def plug_topics(kind: PlugKind, topic: str) -> PlugTopics:
    """Everything that a plug of this kind says around ``topic``."""
    return PlugTopics((topic,)) if kind == "auto" else FORMATS[kind].topics(topic)


def plug_report(kind: PlugKind, given: str, topic: str, payload: bytes | memoryview) -> PlugReport:
    """What a message on ``topic`` says of the plug that was set as ``given``; raises DecodeError.

    Figures are within what a plug can measure.
    """
    if len(payload) > REPORT_BYTES:
        raise DecodeError(f"report of a plug with {len(payload)} bytes, more than {REPORT_BYTES}")
    raw = bytes(payload)
    report = (_read_any if kind == "auto" else FORMATS[kind].read)(given, topic, raw)
    if report.watts is not None and report.watts > PLUG_WATTS:
        raise DecodeError(f"{report.watts:g} W, more than any plug carries ({PLUG_WATTS:g} W)")
    if report.joules is not None and report.joules > _LARGEST_JOULES:
        raise DecodeError(f"a counter of {report.joules:g} J")
    return report


# --- Tasmota ---------------------------------------------------------------------------------------------


def _tasmota_topics(topic: str) -> PlugTopics:
    levels = topic.split("/")
    if len(levels) == 1:
        levels = ["tele", topic, "SENSOR"]
    name = levels[-1]
    if name not in ("SENSOR", "STATUS8", "STATUS10"):
        return PlugTopics((topic,))

    def beside(prefix: str, last: str) -> str:
        # The prefix stands first by default, but a person may have put it anywhere (FullTopic).
        return "/".join([*(prefix if level in ("tele", "stat") else level for level in levels[:-1]), last])

    listen = (beside("tele", "SENSOR"), beside("stat", "STATUS8"), beside("stat", "STATUS10"))
    asked = beside("cmnd", "Status"), b"10"
    return PlugTopics((*listen, beside("tele", "LWT")), asked)


def _read_tasmota(given: str, topic: str, payload: bytes) -> PlugReport:
    if topic.endswith("/LWT"):
        return PlugReport(online=_word(payload, "Online", "Offline"))
    told = _map(plain_json(payload), "a report of Tasmota")
    if isinstance(inner := told.get("StatusSNS"), dict):
        told = inner
    if "ENERGY" not in told:
        # Other sensors of the same plug may report by themselves.
        return PlugReport()
    energy = _map(told["ENERGY"], "ENERGY")
    return PlugReport(_amount(energy, "Power"), _amount(energy, "Total", _KILOWATT_HOUR))


# --- Shelly ----------------------------------------------------------------------------------------------

_COMPONENT: Final = re.compile(r"(?:switch|pm1|pm|cover|plug):\d{1,3}")
_SHELLY: Final = re.compile(
    r"^(?P<prefix>.+?)/(?:status/(?P<part>(?:switch|pm1|pm|cover|plug):\d{1,3})|events/rpc)$"
)


def _shelly_topics(topic: str) -> PlugTopics:
    found = _SHELLY.match(topic)
    prefix = found["prefix"] if found else topic
    part = (found["part"] if found else None) or "switch:0"
    return PlugTopics((f"{prefix}/status/{part}", f"{prefix}/events/rpc", f"{prefix}/online"))


def _read_shelly(given: str, topic: str, payload: bytes) -> PlugReport:
    if topic.endswith("/online"):
        return PlugReport(online=_word(payload, "true", "false"))
    told = _map(plain_json(payload), "a report of Shelly")
    if "method" not in told:
        return _shelly_part(told)
    if told["method"] not in ("NotifyStatus", "NotifyFullStatus"):
        return PlugReport()
    # A frame holds only what changed, of any part of the device.
    found = _SHELLY.match(given)
    wanted = found["part"] if found else None
    parts = {
        name: part
        for name, part in _map(told.get("params"), "params").items()
        if (name == wanted if wanted else _COMPONENT.fullmatch(name))
    }
    reports = [_shelly_part(_map(part, name)) for name, part in parts.items()]
    metered = [r for r in reports if r != PlugReport()]
    if len(metered) > 1:
        raise DecodeError("several switches in one report: name the one by its status/switch:N topic")
    return metered[0] if metered else PlugReport()


def _shelly_part(part: dict[str, object]) -> PlugReport:
    counter = part.get("aenergy")
    joules = _amount(counter, "total", _WATT_HOUR) if isinstance(counter, dict) else None
    return PlugReport(_amount(part, "apower"), joules)


def _shelly_first_topics(topic: str) -> PlugTopics:
    found = re.match(r"^(?P<base>(?P<device>.+)/relay/\d{1,3})/(?:power|energy)$", topic)
    if found is None:
        return PlugTopics((topic,))
    return PlugTopics((f"{found['base']}/power", f"{found['base']}/energy", f"{found['device']}/online"))


def _read_shelly_first(given: str, topic: str, payload: bytes) -> PlugReport:
    if topic.endswith("/online"):
        return PlugReport(online=_word(payload, "true", "false"))
    value = _amount({"number": _plain_number(payload)}, "number")
    if topic.endswith("/energy"):
        return PlugReport(joules=None if value is None else value * _WATT_MINUTE)
    return PlugReport(value)


# --- zigbee2mqtt -----------------------------------------------------------------------------------------


def _zigbee_topics(topic: str) -> PlugTopics:
    return PlugTopics((topic, f"{topic}/availability"), (f"{topic}/get", b'{"power":""}'))


def _read_zigbee(given: str, topic: str, payload: bytes) -> PlugReport:
    if topic.endswith("/availability"):
        if payload[:1] != b"{":
            return PlugReport(online=_word(payload, "online", "offline"))
        state = _map(plain_json(payload), "an availability").get("state")
        return PlugReport(online=_one_of_two(str(state)[:16], "online", "offline"))
    told = _map(plain_json(payload), "a report of zigbee2mqtt")
    return PlugReport(_amount(told, "power"), _amount(told, "energy", _KILOWATT_HOUR))


# --- any -------------------------------------------------------------------------------------------------


def _read_any(given: str, topic: str, payload: bytes) -> PlugReport:
    """A topic that no kind is known by: the payload tells."""
    if payload[:1] != b"{":
        return replace(_read_shelly_first(given, topic, payload), joules=None)
    told = _map(plain_json(payload), "a report of a plug")
    if "ENERGY" in told or "StatusSNS" in told:
        return _read_tasmota(given, topic, payload)
    if "apower" in told or "method" in told:
        return _read_shelly(given, topic, payload)
    if "power" in told:
        return _read_zigbee(given, topic, payload)
    keys = ", ".join(ascii(key)[:_KEY_CHARS] for key in list(told)[:8])
    raise DecodeError(f"no power in a report with {keys or 'nothing'}")


FORMATS: Final[dict[PlugKind, PlugFormat]] = {
    "tasmota": PlugFormat(
        re.compile(r"(?:^|/)(?:tele|stat)/.*(?:SENSOR|STATUS8|STATUS10)$|/SENSOR$"),
        _tasmota_topics,
        _read_tasmota,
    ),
    "shelly-gen1": PlugFormat(
        re.compile(r"/relay/\d{1,3}/(?:power|energy)$"), _shelly_first_topics, _read_shelly_first
    ),
    "shelly": PlugFormat(_SHELLY, _shelly_topics, _read_shelly),
    "zigbee2mqtt": PlugFormat(re.compile(r"^zigbee2mqtt/"), _zigbee_topics, _read_zigbee),
}
"""By the name of the kind, in the order in which ``auto`` tries them."""


# --- values ----------------------------------------------------------------------------------------------


def _map(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DecodeError(f"{what} must be a map, not {type(value).__name__}")
    return value


def _word(payload: bytes, yes: str, no: str) -> bool:
    return _one_of_two(payload[:16].decode("ascii", "replace"), yes, no)


def _one_of_two(text: str, yes: str, no: str) -> bool:
    text = text.strip()
    if text not in (yes, no):
        raise DecodeError(f"neither {yes} nor {no}: {text!a}")
    return text == yes


def _plain_number(payload: bytes) -> float:
    try:
        return float(payload[:40].decode("ascii"))
    except ValueError:
        raise DecodeError(f"no number: {payload[:40]!r}") from None


def _amount(told: dict[str, object], key: str, unit: float = 1.0) -> float | None:
    """The number under ``key`` in watts or joules; None where it is absent or null."""
    value = told.get(key)
    if value is None:
        return None
    if isinstance(value, list):
        raise DecodeError(f"{key} of {len(value)} channels: a plug of one channel is wanted")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DecodeError(f"{key} must be a number, not {str(value)[:40]!a}")
    # NaN and infinity compare false; a whole number may be too large for a float.
    if not 0.0 <= value <= _LARGEST_JOULES:
        raise DecodeError(f"{key} must be 0 or more, not {str(value)[:40]}")
    return float(value) * unit
