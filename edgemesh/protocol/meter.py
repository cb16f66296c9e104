"""Smart plug that meters a device: what an operator names, and what the device says it hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from edgemesh.protocol.fields import Amount, Check

_TOPIC_BYTES: Final = 512
"""MQTT allows 65,535; a plug's topic has some forty."""

PlugKind = Literal["auto", "tasmota", "shelly", "shelly-gen1", "zigbee2mqtt"]
"""How a plug writes its reports; ``auto`` tells it by topic and payload."""


PlugState = Literal["waiting", "reporting", "silent", "offline"]
"""No report yet; its last one counts; that is too old to count; it says that it is off the network."""


def is_plug_topic(topic: str) -> bool:
    """Whether a plug may report there: one topic, no filter, and none that a mesh or the broker writes."""
    return (
        0 < len(topic.encode()) <= _TOPIC_BYTES
        and not set(topic) & set("+#\0")
        and topic.isprintable()
        and not topic.startswith(("$", "/", "edgemesh/"))
        and not topic.endswith("/")
    )


PlugTopic = Annotated[str, Check("one topic outside of edgemesh/, without wildcards", is_plug_topic)]


@dataclass(frozen=True)
class MeterSetting:
    """``meter/<device>``: the plug that the device hangs on."""

    topic: PlugTopic
    """Where it reports, such as ``tele/desk/SENSOR`` or ``zigbee2mqtt/desk``."""
    kind: PlugKind = "auto"


@dataclass(frozen=True)
class PlugStatus:
    """What a device hears of its plug."""

    topic: PlugTopic
    kind: PlugKind
    """As set, or as recognised where it was set to ``auto``."""
    state: PlugState
    watts: Amount | None = None
    """Of its last report."""
    energy: Amount | None = None
    """Its counter in joules."""
    age: Amount | None = None
    """Seconds since its last report."""
    problem: str | None = None
    """Why its last report was not used."""
