"""Bodies of messages between an agent and its executor lie in memory that both see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from edgemesh.runtime.channel import PREFIX, Buffer
from edgemesh.runtime.shared_bodies import HALF_BYTES, SharedBodies, body_of, pack_with_shared, shared_bodies

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no unnamed memory")


@pytest.fixture
def shared() -> Iterator[SharedBodies]:
    memory = shared_bodies()
    assert memory is not None
    yield memory
    memory.close()


def _received(buffers: list[Buffer], half: memoryview | None) -> tuple[int, bytes, dict[str, Any]]:
    """``(bytes sent as body, body, header)`` as the other end sees them."""
    whole = b"".join(buffers)
    header_length, body_length = PREFIX.unpack_from(whole)
    header = msgpack.unpackb(whole[PREFIX.size : PREFIX.size + header_length])
    sent = memoryview(whole)[PREFIX.size + header_length :]
    assert len(sent) == body_length
    return body_length, bytes(body_of(header, sent, half)), header


def test_a_body_that_fits_is_seen_by_the_other_mapping_and_not_sent(shared: SharedBodies) -> None:
    parts = [b"head", memoryview(bytes(range(256)) * 100), b"tail"]
    other = SharedBodies(os.dup(shared.descriptor))

    buffers = pack_with_shared({"do": "run"}, parts, shared.requests)
    sent, body, header = _received(buffers, other.requests)
    other.close()

    assert sent == 0
    assert body == b"".join(parts)
    assert header["do"] == "run"


@pytest.mark.parametrize("nbytes", [0, 100, HALF_BYTES + 1])
def test_a_body_that_is_short_or_does_not_fit_is_sent(shared: SharedBodies, nbytes: int) -> None:
    body = os.urandom(nbytes)

    sent, received, _ = _received(pack_with_shared({}, [body], shared.requests), shared.requests)

    assert sent == nbytes
    assert received == body


def test_a_body_that_fills_its_half_leaves_the_other_half_alone(shared: SharedBodies) -> None:
    shared.answers[:4] = b"kept"

    sent, received, _ = _received(pack_with_shared({}, [b"x" * HALF_BYTES], shared.requests), shared.requests)

    assert sent == 0
    assert received == b"x" * HALF_BYTES
    assert bytes(shared.answers[:4]) == b"kept"


def test_without_shared_memory_every_body_is_sent() -> None:
    sent, received, _ = _received(pack_with_shared({}, [b"x" * 100_000], None), None)

    assert sent == 100_000
    assert received == b"x" * 100_000


@pytest.mark.parametrize("nbytes", [0, 4 * HALF_BYTES])
def test_neither_process_can_change_how_much_memory_there_is(shared: SharedBodies, nbytes: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(shared.descriptor, nbytes)
