"""Building, filtering and parsing topics are one table read in three directions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from edgemesh.errors import DecodeError, SettingsError
from edgemesh.protocol.ids import checked_device, checked_id, is_digest, is_id
from edgemesh.protocol.topics import TOPICS, ParsedTopic, Topics, topic_matches
from tests.protocol.strategies import DIGESTS, IDS

HOME = Topics("home")
KINDS = sorted(TOPICS)
BAD_NAMES = ["", "+", "#", "a/b", "a b", "Upper", "-first", "a" * 65, "a\n", "a\0", "é", "$sys", "a_b", "a.b"]


def names_of(kind: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", TOPICS[kind].pattern)


def example(kind: str) -> dict[str, str]:
    return {name: "0" * 64 if name == "digest" else f"some-{name}" for name in names_of(kind)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_parsing_a_built_topic_gives_its_row_and_names(kind: str, data: st.DataObject) -> None:
    names = {name: data.draw(DIGESTS if name == "digest" else IDS) for name in names_of(kind)}

    topic = HOME.build(kind, **names)

    assert HOME.parse(topic) == ParsedTopic(kind, names)
    assert HOME.parse(topic) == ParsedTopic(kind, names)  # and again, from the cache


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_catches_the_topics_of_its_row_and_no_other(kind: str) -> None:
    names = example(kind)
    topics = {other: HOME.build(other, **example(other)) for other in KINDS}
    filters = [HOME.filter(kind), HOME.filter(kind, **names)]
    filters += [HOME.filter(kind, **{name: names[name]}) for name in names]

    for topic_filter in filters:
        assert [other for other in KINDS if topic_matches(topic_filter, topics[other])] == [kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if names_of(kind)])
@pytest.mark.parametrize("bad", BAD_NAMES)
def test_names_that_mqtt_reads_as_more_than_a_name_are_refused(kind: str, bad: str) -> None:
    for name in names_of(kind):
        names = {**example(kind), name: bad}

        with pytest.raises(SettingsError):
            HOME.build(kind, **names)
        with pytest.raises(SettingsError):
            HOME.filter(kind, **names)
        pattern = TOPICS[kind].pattern
        with pytest.raises(DecodeError):
            HOME.parse(HOME.root + pattern.format(**names))


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_mesh_needs_a_valid_name(bad: str) -> None:
    with pytest.raises(SettingsError, match="mesh"):
        Topics(bad)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "edgemesh/v1/home/",
        "edgemesh/v1/home/device/a",
        "edgemesh/v1/home/device/a/state/",
        "edgemesh/v1/home/device/a/state/more",
        "edgemesh/v1/home//state",
        "edgemesh/v1/home/device/a/nothing",
        "edgemesh/v1/other/device/a/state",
        "edgemesh/v2/home/device/a/state",
        "/edgemesh/v1/home/device/a/state",
        "edgemesh/v1/home/device/a/state\n",
        "edgemesh/v1/home/content/abc/request",
        "edgemesh/v1/home/" + "x" * 65_000,
    ],
    ids=lambda topic: topic[:40],
)
def test_topics_outside_the_table_are_refused(topic: str) -> None:
    with pytest.raises(DecodeError):
        HOME.parse(topic)


@given(st.text(max_size=40))
def test_any_text_is_a_topic_of_the_mesh_or_refused(text: str) -> None:
    for topic in (text, HOME.root + text):
        try:
            parsed = HOME.parse(topic)
        except DecodeError:
            continue
        assert HOME.build(parsed.kind, **parsed.names) == topic


def test_remembered_topics_are_bounded() -> None:
    topics = Topics("home")

    for index in range(5000):
        topics.parse(topics.build("state", device=f"d{index}"))

    assert len(topics._cache) == 4096


_LEVELS = st.sampled_from(["a", "b", "", "+", "#", "$SYS", "$share"])


@settings(max_examples=300)
@given(st.lists(_LEVELS, min_size=1, max_size=4), st.lists(_LEVELS, min_size=1, max_size=4))
def test_filters_match_as_in_paho(wanted: list[str], found: list[str]) -> None:
    topic_filter, topic = "/".join(wanted), "/".join(found)
    if "#" in wanted[:-1] or {"+", "#"} & set(found) or not topic:
        return  # no valid filter, or no valid topic

    assert topic_matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize("name", ["app", "decision", "gateway-0", "gateway-a-b"])
def test_no_device_has_the_name_of_a_role(name: str) -> None:
    """Found by a reader: a device gateway-0 threw the gateway out, and submissions vanished."""
    with pytest.raises(SettingsError, match="name of a role of the mesh"):
        checked_device(name, "device")
    for other in (f"x-{name}", "gateway", "gateway1", "apps", "decision-desk"):
        assert checked_device(other, "device") == other
    with pytest.raises(SettingsError, match="no valid name"):
        checked_device(f"{name}!", "device")


def test_ids_and_digests() -> None:
    assert checked_id("a-1", "device") == "a-1"
    for bad in BAD_NAMES:
        assert not is_id(bad)
        with pytest.raises(SettingsError, match="device"):
            checked_id(bad, "device")
    assert is_digest("0a" * 32)
    assert not is_digest("0A" * 32)
    assert not is_digest("0a" * 32 + "\n")
    assert not is_digest("0a" * 31)


def test_rows_that_are_kept_or_must_arrive_are_sent_so() -> None:
    """QoS 0 is for what the next message replaces or the sender asks again for."""
    for kind, row in TOPICS.items():
        assert row.qos in (0, 1)
        if row.retain and row.qos == 0:
            assert row.expiry is not None, f"{kind}: nobody clears what may have been lost"
