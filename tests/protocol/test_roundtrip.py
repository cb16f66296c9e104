"""Decoding what was encoded gives the message back, for every class of the contract."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgemesh.protocol
from edgemesh.protocol.activation import (
    Activation,
    Reply,
    decode_activation,
    decode_reply,
    encode_activation,
    encode_reply,
)
from edgemesh.protocol.codecs import Codec
from edgemesh.protocol.content import ChunkHeader, decode_chunk, encode_chunk
from edgemesh.protocol.fields import Check, to_plain
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.jsontext import decode_json, encode_json
from edgemesh.protocol.result import ResultMessage, encode_result
from edgemesh.protocol.topics import ParsedTopic, TopicRow
from tests.protocol.messages import ACTIVATION, FRAMES, JSON_MESSAGES
from tests.protocol.strategies import messages

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
JSON_CLASSES = sorted({type(message) for message in JSON_MESSAGES.values()}, key=lambda cls: cls.__name__)
NO_MESSAGES = {Check, Codec, TopicRow, ParsedTopic}


def protocol_dataclasses() -> set[type]:
    found = set()
    for module_info in pkgutil.iter_modules(edgemesh.protocol.__path__, "edgemesh.protocol."):
        module = importlib.import_module(module_info.name)
        found |= {
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and dataclasses.is_dataclass(value)
            and value.__module__ == module.__name__
        }
    return found


def classes_within(cls: Any) -> set[type]:
    """``cls`` and every dataclass that its fields hold."""
    if dataclasses.is_dataclass(cls):
        within = {cls}
        for hint in typing.get_type_hints(cls).values():
            within |= classes_within(hint)
        return within  # type: ignore[return-value]
    return set().union(*(classes_within(argument) for argument in typing.get_args(cls)))


def test_every_message_class_has_a_golden_file() -> None:
    pinned = set()
    for message in [*JSON_MESSAGES.values(), *(frame.header for frame in FRAMES.values())]:
        pinned |= classes_within(type(message))

    assert protocol_dataclasses() - NO_MESSAGES == pinned


@pytest.mark.parametrize("cls", JSON_CLASSES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data())
def test_json_messages_come_back_as_they_were(cls: type, data: st.DataObject) -> None:
    message = data.draw(messages(cls))

    payload = encode_json(message)

    assert decode_json(cls, payload) == message
    assert encode_json(decode_json(cls, payload)) == payload


@QUICK
@given(messages(Activation), st.binary(max_size=100))
def test_activations_come_back_as_they_were(header: Activation, section: bytes) -> None:
    payload = encode_activation(header, (section,))

    found, body = decode_activation(payload)

    assert (found, bytes(body)) == (header, section)
    assert sender_of(payload) == (header.requester, header.job)
    assert found.route[found.hop_index].stop > found.position
    assert all(hop.stop <= found.position for hop in found.route[: found.hop_index])


@QUICK
@given(messages(Reply), st.binary(max_size=100))
def test_replies_come_back_as_they_were(header: Reply, section: bytes) -> None:
    payload = encode_reply(header, (section,))

    found, body = decode_reply(payload)

    assert (found, bytes(body)) == (header, section)
    assert sender_of(payload) == (header.requester, header.job)


@QUICK
@given(messages(ChunkHeader), st.binary(max_size=100))
def test_chunks_come_back_as_they_were(header: ChunkHeader, data: bytes) -> None:
    found, body = decode_chunk(encode_chunk(header, data))

    assert (found, bytes(body)) == (header, data)


@QUICK
@given(messages(ResultMessage))
def test_results_for_apps_come_back(message: ResultMessage) -> None:
    assert decode_json(ResultMessage, encode_result(message)) == message


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_decoders_take_any_kind_of_buffer(buffer: type) -> None:
    activation = FRAMES["activation-raw-one"].encode()
    heartbeat = JSON_MESSAGES["heartbeat"]

    assert decode_activation(buffer(activation))[0] == ACTIVATION
    assert decode_json(type(heartbeat), buffer(encode_json(heartbeat))) == heartbeat


@pytest.mark.parametrize("name", sorted(JSON_MESSAGES))
def test_unknown_fields_are_ignored_at_every_depth(name: str) -> None:
    """A later minor version may add fields, and this one must still read its messages."""
    message = JSON_MESSAGES[name]
    free = {"runtimes", "outputs"}  # maps by name: an entry more is no unknown field

    def extended(plain: Any) -> Any:
        if isinstance(plain, dict):
            grown = {key: item if key in free else extended(item) for key, item in plain.items()}
            return {**grown, "added-in-1.7": {"deep": [1, None, {"x": "y"}]}}
        if isinstance(plain, list):
            return [extended(item) for item in plain]
        return plain

    assert decode_json(type(message), encode_json(extended(to_plain(message)))) == message


def test_unknown_fields_of_a_frame_are_ignored() -> None:
    plain = {**to_plain(ACTIVATION), "added-in-1.7": [1, None, {"x": b"y"}]}
    packed = msgpack.packb(plain)
    frame = b"EM\x01\x01" + len(packed).to_bytes(4, "little") + packed

    assert decode_activation(frame)[0] == ACTIVATION
