"""The bytes of protocol version 1 are pinned: what is deployed must be able to read what is written here.

A failure is a change of the wire contract. If it is meant, and old readers still understand it, run
``python -m tests.protocol.make_golden``; if they do not, the major version has to grow.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgemesh.protocol.codecs import CODECS, Array
from edgemesh.protocol.jsontext import decode_json
from edgemesh.protocol.tensors import encode_tensors
from edgemesh.protocol.topics import MAJOR
from tests.protocol.make_golden import GOLDEN, golden_payloads
from tests.protocol.messages import FRAMES, JSON_MESSAGES, decoded_arrays


def test_golden_files_are_those_of_this_version_and_none_is_left_over() -> None:
    assert MAJOR == 1
    assert {path.name for path in GOLDEN.iterdir()} == set(golden_payloads())


@pytest.mark.parametrize("name", sorted(golden_payloads()))
def test_encoder_writes_the_golden_bytes(name: str) -> None:
    assert golden_payloads()[name] == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", sorted(JSON_MESSAGES))
def test_decoder_reads_the_golden_json(name: str) -> None:
    stored = (GOLDEN / f"{name}.json").read_bytes()

    message = decode_json(type(JSON_MESSAGES[name]), stored)

    assert message == JSON_MESSAGES[name]


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_decoder_reads_the_golden_frame(name: str) -> None:
    frame = FRAMES[name]
    stored = (GOLDEN / f"{name}.bin").read_bytes()

    header, body = frame.decode(stored)

    assert header == frame.header
    if frame.arrays is None:
        assert bytes(body) in (b"", bytes(range(200)))
        return
    found, sent = decoded_arrays(frame, body), frame.arrays()
    assert len(found) == len(sent)
    for got, wanted in zip(found, sent):
        assert_like(got, wanted, frame.codec)


def assert_like(got: Array, wanted: Array, codec: str) -> None:
    """Same dtype, shape, strides; same bits, or for the lossy codecs (exact on these values) same values."""
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    assert got.strides == wanted.strides or not got.size
    if codec == "q8" and wanted.dtype in (np.float32, np.float64):
        np.testing.assert_allclose(got, wanted, atol=float(np.ptp(wanted)) / 255 / 2 * 1.0001)
    else:
        assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_every_codec_has_a_golden_file_or_is_zstd(codec: str) -> None:
    """zstd may choose other bytes in its next release, so its bytes are not part of the contract."""
    assert codec in {frame.codec for frame in FRAMES.values()} or codec.endswith("+zstd")


def test_sections_do_not_depend_on_the_byte_order_of_the_sender() -> None:
    little = np.arange(5, dtype="<f4")

    sections = [b"".join(encode_tensors([array])) for array in (little, little.astype(">f4"))]

    assert sections[0] == sections[1]
