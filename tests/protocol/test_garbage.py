"""Whatever bytes arrive, a decoder returns a message or raises DecodeError or VersionError, and no more."""

from __future__ import annotations

import io
import json
import math
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgemesh.errors import DecodeError, VersionError
from edgemesh.protocol import limits
from edgemesh.protocol.activation import Activation, decode_activation, decode_reply, encode_activation
from edgemesh.protocol.content import ChunkHeader, decode_chunk, encode_chunk
from edgemesh.protocol.fields import to_plain
from edgemesh.protocol.frame import sender_of
from edgemesh.protocol.jsontext import decode_json, encode_json, plain_json
from edgemesh.protocol.link import Receipt
from edgemesh.protocol.manifest import Manifest
from edgemesh.protocol.presence import About, Heartbeat, Profile, Resources, decode_state
from edgemesh.protocol.result import ResultMessage
from edgemesh.protocol.tensors import ALIGN, decode_tensors, section_bytes
from edgemesh.protocol.topics import Topics
from tests.protocol.make_golden import GOLDEN
from tests.protocol.messages import ACTIVATION, DIGEST, FRAMES, JSON_MESSAGES, LEAST_ACTIVATION
from tests.protocol.test_roundtrip import JSON_CLASSES

MEGABYTE = 1 << 20
HOSTILE_STEPS = 1000
"""Lines of Python that a refusal may take; it takes some dozens."""


def _whole(decode: Callable[[bytes], tuple[Any, memoryview]]) -> Callable[[bytes], object]:
    """Header and tensors, as a worker reads them."""

    def read(payload: bytes) -> object:
        header, body = decode(payload)
        return header, decode_tensors(body) if body else None

    return read


DECODERS: dict[str, Callable[[bytes], object]] = {
    **{cls.__name__: (lambda payload, cls=cls: decode_json(cls, payload)) for cls in JSON_CLASSES},
    "activation": _whole(decode_activation),
    "reply": _whole(decode_reply),
    "chunk": decode_chunk,
    "state": decode_state,
    "tensors": decode_tensors,
    "sender": sender_of,
    "topic": lambda payload: Topics("home").parse(payload.decode("utf-8", "replace")),
}


def outcome(decoder: Callable[[bytes], object], payload: bytes) -> object:
    """What the decoder returns, or the error it is allowed to raise; anything else fails the test."""
    try:
        return decoder(payload)
    except (DecodeError, VersionError) as error:
        assert str(error)
        assert len(str(error)) < 1000
        return error


def decoder_of(name: str) -> Callable[[bytes], object]:
    stem = name.removesuffix(".json").removesuffix(".bin")
    if stem in JSON_MESSAGES:
        return DECODERS[type(JSON_MESSAGES[stem]).__name__]
    return DECODERS[stem.split("-")[0]]


GOLDEN_FILES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=st.binary(max_size=300))
def test_random_bytes_are_refused_with_the_one_error(name: str, payload: bytes) -> None:
    outcome(DECODERS[name], payload)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(header=st.binary(max_size=120), kind=st.integers(0, 4), body=st.binary(max_size=80))
def test_random_bytes_behind_a_good_preamble_are_refused_with_the_one_error(
    header: bytes, kind: int, body: bytes
) -> None:
    frame = b"EM\x01" + bytes([kind]) + len(header).to_bytes(4, "little") + header + body
    table = len(header).to_bytes(4, "little") + header + body

    for name in ("activation", "reply", "chunk", "sender"):
        outcome(DECODERS[name], frame)
    outcome(decode_tensors, table)


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_every_truncation_is_refused_with_the_one_error(name: str) -> None:
    payload, decoder = (GOLDEN / name).read_bytes(), decoder_of(name)

    results = [outcome(decoder, payload[:length]) for length in range(len(payload))]

    # A chunk's length is the manifest's to check, and a reply without its body looks like one of an error.
    if name.endswith(".json") or name.startswith("activation"):
        whole = [r for r in results if not isinstance(r, DecodeError)]
        assert [r for r in whole if not _bodiless(r)] == []


def _bodiless(result: object) -> bool:
    return isinstance(result, tuple) and isinstance(result[0], Activation) and result[1] is None


@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_every_flipped_byte_is_read_or_refused_with_the_one_error(name: str) -> None:
    payload, decoder = (GOLDEN / name).read_bytes(), decoder_of(name)

    damaged = bytearray(payload)
    for position in range(len(payload)):
        for mask in (0x01, 0xFF):
            damaged[position] ^= mask
            outcome(decoder, bytes(damaged))
            damaged[position] ^= mask


@pytest.mark.parametrize("name", [name for name in GOLDEN_FILES if name.endswith(".json")])
def test_every_field_of_a_wrong_type_is_refused_with_the_one_error(name: str) -> None:
    plain = json.loads((GOLDEN / name).read_bytes())
    wrong = [None, True, -1, 1.5, 10**400, 10**30, "", "x" * 5000, "\ud800", [], {}, [None] * 2, {"a": None}]

    for value in wrong:
        for variant in replaced(plain, value):
            outcome(decoder_of(name), json.dumps(variant).encode())


def replaced(plain: Any, value: object) -> list[Any]:
    """Copies of ``plain`` with one part each replaced by ``value``."""
    variants = [value]
    if isinstance(plain, dict):
        for key, item in plain.items():
            variants += [{**plain, key: variant} for variant in replaced(item, value)]
    if isinstance(plain, list) and plain:
        variants += [[variant, *plain[1:]] for variant in replaced(plain[0], value)]
    return variants


# --- JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"boot":"b","seq":0,"queue":0,"queued_seconds":NaN,"busy":0}', "NaN is not a JSON number"),
        ('{"boot":"b","seq":0,"queue":0,"queued_seconds":Infinity,"busy":0}', "not a JSON number"),
        ('{"boot":"b","seq":0,"queue":0,"queued_seconds":1e999,"busy":0}', "queued_seconds must be a finite"),
        ('{"boot":"b","seq":0,"queue":0,"queued_seconds":1%s,"busy":0}' % ("0" * 400), "must be a finite"),
        (
            '{"boot":"b","seq":1%s,"queue":0,"queued_seconds":0,"busy":0}' % ("0" * 400),
            "seq must fit 64 bits",
        ),
        ('{"boot":"b","seq":1%s,"queue":0,"queued_seconds":0,"busy":0}' % ("0" * 9000), "not JSON"),
        ('{"boot":"b","seq":-1,"queue":0,"queued_seconds":0,"busy":0}', "seq must be 0 or more"),
        ('{"boot":"b","seq":true,"queue":0,"queued_seconds":0,"busy":0}', "seq must be a whole number"),
        ('{"boot":"b","seq":1.0,"queue":0,"queued_seconds":0,"busy":0}', "seq must be a whole number"),
        ('{"boot":"B!","seq":0,"queue":0,"queued_seconds":0,"busy":0}', "boot must be an id"),
        ('{"boot":"b","seq":0,"queue":0,"queued_seconds":0,"busy":2}', "busy must be between 0 and 1"),
        ('{"boot":"b","seq":0}', "lacks the field 'queue'"),
        ('["boot"]', "must be a map, not list"),
        ("", "not JSON"),
        ("null", "must be a map, not nothing"),
        ("\ufeff{}", "not JSON"),
        ("{} {}", "not JSON"),
        ("{'boot':1}", "not JSON"),
    ],
)
def test_json_of_wrong_values_is_refused_naming_field_and_reason(text: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_json(Heartbeat, text.encode())


def test_the_refusal_names_the_way_to_the_field() -> None:
    plain = to_plain(JSON_MESSAGES["heartbeat"])
    plain["ready"][0]["stop"] = -4

    with pytest.raises(
        DecodeError, match=r"Heartbeat\.ready\[0\]\.stop must be 0 to the number of units, not -4"
    ):
        decode_json(Heartbeat, encode_json(plain))


def test_the_last_of_duplicate_keys_counts() -> None:
    """As in most JSON readers; a message cannot mean one thing to one device and another to the next."""
    assert decode_json(Receipt, b'{"job":"a","job":"b","attempt":0,"device":"d"}') == Receipt("b", 0, "d")


def test_half_a_surrogate_pair_is_refused() -> None:
    """JSON can spell it, but whoever passes the text on could not encode it."""
    for payload in (b'{"runtimes":{"\\ud800":"1"}}', b'{"software":"\\udfff"}'):
        plain = {**json.loads((GOLDEN / "about.json").read_bytes()), **json.loads(payload)}
        with pytest.raises(DecodeError, match="UTF-8"):
            decode_json(About, json.dumps(plain).encode())
    with pytest.raises(DecodeError, match="UTF-8"):
        decode_json(ResultMessage, b'{"job":"a","model":"m","seconds":1,"outputs":{"x":["\\ud800"]}}')


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"\\\\":['])
def test_json_is_as_deep_as_the_limit_and_no_deeper(opening: str) -> None:
    def nested(levels: int) -> bytes:
        text = opening * (levels // (opening.count("[") + opening.count("{")))
        closing = text.replace('"a":', "").replace('"\\\\":', "")[::-1].translate(str.maketrans("[{", "]}"))
        return (text + "1" + closing).encode()

    assert plain_json(nested(limits.JSON_DEPTH)) is not None
    for levels in (limits.JSON_DEPTH + 2, 1000, 400_000):
        with pytest.raises(DecodeError, match="deeper"):
            plain_json(nested(levels))
        with pytest.raises(DecodeError, match="deeper"):
            plain_json((opening * levels).encode())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.text('[]{}\\",'), lambda inner: st.lists(inner) | st.dictionaries(st.text('[{"\\'), inner)
    )
)
def test_brackets_inside_texts_are_not_nesting(value: Any) -> None:
    def depth(plain: Any) -> int:
        if isinstance(plain, dict):
            return 1 + max(map(depth, plain.values()), default=0)
        if isinstance(plain, list):
            return 1 + max(map(depth, plain), default=0)
        return 0

    text = json.dumps({"labels": ["[" * 100, value]})

    if depth(value) + 2 <= limits.JSON_DEPTH:
        assert plain_json(text.encode()) == json.loads(text)
    else:
        with pytest.raises(DecodeError, match="deeper"):
            plain_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * 1_300_000 + "[]]",
        "[" + "0," * 2_000_000 + "0]",
        "[" * 4_000_000,
        "[" * 2_000_000 + "]" * 2_000_000,
        "[]" * 2_000_000,
        '"' * 4_000_000,
        "\\" * 4_000_000,
        '{"a":"' + '\\"' * 1_900_000,
        "9" * 4_000_000,
        "[" + "," * 4_000_000,
        " " * 5_000_000,
    ],
    ids=lambda text: text[:8],
)
def test_hostile_json_costs_little_memory_and_time(text: str) -> None:
    payload = text.encode()

    assert peak_of(lambda: outcome(DECODERS["Heartbeat"], payload), HOSTILE_STEPS) < 60 * MEGABYTE


def peak_of(call: Callable[[], object], most_steps: float = math.inf) -> int:
    """Peak of allocated bytes of one call, which fails beyond so many lines of Python.

    Not beyond a time, which is the machine's, too: a line that works on the whole input does it in C, in
    proportion to its length.
    """
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        assert steps <= most_steps, f"more than {most_steps} lines for one hostile input"
        return count

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(count)
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        sys.settrace(before)
        tracemalloc.stop()


def test_messages_that_contradict_themselves_are_refused() -> None:
    def refused(cls: type, name: str, **change: Any) -> None:
        plain = json.loads((GOLDEN / name).read_bytes())
        with pytest.raises(DecodeError):
            decode_json(cls, json.dumps({**plain, **change}).encode())

    hop = {"device": "a", "stop": 1, "codec": "raw"}
    refused(Manifest, "manifest.json", units=[])
    refused(Manifest, "manifest.json", boundaries=[])
    refused(Manifest, "manifest.json", chunks=[])
    refused(Manifest, "manifest.json", size=limits.MODEL_BYTES + 1)
    refused(Profile, "profile.json", seconds=[])
    refused(Profile, "profile.json", spread=[1.0])
    refused(Profile, "profile.json", runs=[{"start": 0, "stop": 3, "seconds": 1.0}])
    refused(Profile, "profile.json", runs=[{"start": 1, "stop": 1, "seconds": 1.0}])
    for cls, name in ((type(JSON_MESSAGES["assignment"]), "assignment.json"),):
        refused(cls, name, route=[])
        refused(cls, name, route=[hop, hop])
        refused(cls, name, route=[{**hop, "stop": 0}])
        refused(cls, name, route=[hop])  # its fallback ends elsewhere
        refused(cls, name, route=[{**hop, "codec": "zip"}])
        refused(cls, name, fallbacks=[{"avoids": "a", "route": [], "seconds": 1}])
    refused(Resources, "resources.json", cpu=1.5)


def test_activations_whose_route_cannot_be_followed_are_refused() -> None:
    base = to_plain(LEAST_ACTIVATION)

    for change in ({"position": 1}, {"route": []}, {"route": base["route"] * 65}, {"left": -1.0}):
        packed = msgpack.packb({**base, **change})
        frame = b"EM\x01\x01" + len(packed).to_bytes(4, "little") + packed
        with pytest.raises(DecodeError):
            decode_activation(frame)


# --- frames -------------------------------------------------------------------------------------------


def test_another_major_version_is_refused_naming_both_and_its_sender_is_found() -> None:
    payload = bytearray(FRAMES["activation-raw-one"].encode())
    payload[2] = 2

    with pytest.raises(VersionError, match=r"version 2 .* speaks 1"):
        decode_activation(payload)
    assert sender_of(payload) == ("r-1", "j-1")


def test_the_sender_is_found_in_a_header_that_this_version_cannot_read_otherwise() -> None:
    packed = msgpack.packb({"job": "j-9", "new": [[1]], "requester": "gateway-0", "position": "later"})
    frame = b"EM\x07\x63" + len(packed).to_bytes(4, "little") + packed + b"whatever"

    assert sender_of(frame) == ("gateway-0", "j-9")


@pytest.mark.parametrize(
    "header",
    [
        {"job": "j"},
        {"job": 1, "requester": "r"},
        {"job": "j", "requester": "a/b"},
        {"job": "j", "requester": "#"},
        {"job": "", "requester": "r"},
        ["job", "requester"],
    ],
    ids=str,
)
def test_no_sender_is_found_where_none_could_be_answered(header: Any) -> None:
    packed = msgpack.packb(header)

    assert sender_of(b"EM\x02\x01" + len(packed).to_bytes(4, "little") + packed) is None


def test_frames_of_another_kind_are_refused() -> None:
    with pytest.raises(DecodeError, match="kind 2, wanted 1"):
        decode_activation(FRAMES["reply"].encode())


def test_chunks_larger_than_the_limit_are_refused() -> None:
    payload = encode_chunk(ChunkHeader(DIGEST, 0), bytes(limits.CHUNK_BYTES + 1))

    with pytest.raises(DecodeError, match="more than"):
        decode_chunk(payload)


@pytest.mark.parametrize(
    "header",
    [
        b"\xdc\xff\xff" * 20_000,
        b"\xdd\x00\x00\xff\xff" * 12_000,
        b"\xdf\x7f\xff\xff\xff",
        b"\xdd\x7f\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
        b"\xc6\x7f\xff\xff\xff",
        b"\xc9\x7f\xff\xff\xff\x05",
        b"\x91" * 65_000,
        b"\x81\xa1a" * 21_000,
        b"\xc1",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\x81\x91\x01\x01",
        b"\x81\x01\x01",
        b"\xa4\xff\xff\xff\xff",
    ],
    ids=lambda header: header[:5].hex(),
)
def test_hostile_msgpack_costs_little_memory_and_time(header: bytes) -> None:
    frame = b"EM\x01\x01" + len(header).to_bytes(4, "little") + header
    table = len(header).to_bytes(4, "little") + header

    for decoder, payload in ((decode_activation, frame), (sender_of, frame), (decode_tensors, table)):
        assert peak_of(lambda: outcome(decoder, payload), HOSTILE_STEPS) < 8 * MEGABYTE


def test_the_header_has_a_limit() -> None:
    with pytest.raises(DecodeError, match="more than 65536"):
        decode_activation(b"EM\x01\x01" + (1 << 20).to_bytes(4, "little") + bytes(2 << 20))


# --- zstd ---------------------------------------------------------------------------------------------


def compressed_section(shape: list[int], body: bytes) -> bytes:
    table = msgpack.packb([{"d": "uint8", "s": shape, "n": len(body), "z": True}])
    head = len(table).to_bytes(4, "little") + table
    return head + b"\0" * (-len(head) % ALIGN) + body


def frame_without_size(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zstandard.ZstdCompressor(write_content_size=False).stream_writer(packed, closefd=False) as writer:
        writer.write(data)
    return packed.getvalue()


def test_zstd_frames_that_do_not_hold_what_the_shape_says_are_refused_unread() -> None:
    """A frame of some kilobytes may stand for gigabytes: nothing is allocated for one that lies."""
    bomb = zstandard.ZstdCompressor().compress(bytes(200 * MEGABYTE))
    claims_more = bytearray(zstandard.ZstdCompressor().compress(bytes(5000)))
    assert zstandard.frame_content_size(bytes(claims_more)) == 5000
    claims_more[5:7] = (60_000 - 256).to_bytes(2, "little")

    for shape, body in (
        ([1000], bomb),
        ([1000], frame_without_size(bytes(200 * MEGABYTE))),
        ([200 * MEGABYTE], frame_without_size(bytes(200 * MEGABYTE))),
        ([60_000], bytes(claims_more)),
        ([5000], zstandard.ZstdCompressor().compress(bytes(4999))),
        ([5000], b"\x28\xb5\x2f\xfd"),
        ([5000], b""),
        ([0], b"garbage"),
    ):
        section = compressed_section(shape, body)
        assert peak_of(lambda: outcome(decode_tensors, section)) < MEGABYTE
        assert isinstance(outcome(decode_tensors, section), DecodeError)


def test_a_caller_that_knows_the_boundary_bounds_what_a_small_payload_may_become() -> None:
    section = section_bytes([np.zeros(4 * MEGABYTE, np.uint8)], "raw+zstd")
    assert len(section) < 4096

    peak = peak_of(lambda: outcome(lambda s: decode_tensors(s, max_bytes=1000), section))

    assert peak < MEGABYTE
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        decode_tensors(section, max_bytes=1000)
    assert len(decode_tensors(section, max_bytes=4 * MEGABYTE)) == 1


def test_every_truncation_and_flip_of_a_compressed_activation_is_refused_or_read() -> None:
    tensors = [np.arange(300, dtype=np.float32), np.zeros((4, 4), np.int64)]
    payload = encode_activation(ACTIVATION, (section_bytes(tensors, "q8+zstd"),))
    start = len(payload) - 400

    damaged = bytearray(payload)
    for position in range(start, len(payload)):
        assert isinstance(outcome(DECODERS["activation"], payload[:position]), DecodeError)
        damaged[position] ^= 0x55
        outcome(DECODERS["activation"], bytes(damaged))
        damaged[position] ^= 0x55


@pytest.mark.parametrize("text", ['{"\\ud800": 1}', '{"a": ["\\uDFFF"]}', '"\\udc00\\ud800"'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        plain_json(text.encode())
    whole = '{"\\ud83d\\ude00": "\\\\ud800"}'
    assert plain_json(whole.encode()) == {"\U0001f600": "\\ud800"}
