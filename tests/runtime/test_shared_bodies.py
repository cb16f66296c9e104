"""Bodies of messages between an agent and its executor lie in memory that both see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgpack
import pytest

from edgemesh.runtime.channel import PREFIX, Buffer
from edgemesh.runtime.shared_bodies import AREA_BYTES, SharedBodies, shared_bodies

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no unnamed memory")


@pytest.fixture
def shared() -> Iterator[SharedBodies]:
    memory = shared_bodies()
    assert memory is not None
    yield memory
    memory.close()


@pytest.fixture
def other(shared: SharedBodies) -> Iterator[SharedBodies]:
    """The same memory as the other process maps it."""
    memory = SharedBodies(os.dup(shared.descriptor))
    yield memory
    memory.close()


def _received(buffers: list[Buffer], memory: SharedBodies) -> tuple[int, memoryview, dict[str, Any]]:
    """``(bytes sent as body, body, header)`` as the other end sees them."""
    whole = b"".join(buffers)
    header_length, body_length = PREFIX.unpack_from(whole)
    header = msgpack.unpackb(whole[PREFIX.size : PREFIX.size + header_length])
    sent = memoryview(whole)[PREFIX.size + header_length :]
    assert len(sent) == body_length
    return body_length, memory.body_of(header, sent), header


def test_a_body_that_fits_is_seen_by_the_other_mapping_and_not_sent(
    shared: SharedBodies, other: SharedBodies
) -> None:
    parts = [b"head", memoryview(bytes(range(256)) * 100), b"tail"]

    sent, body, header = _received(shared.with_request({"do": "run"}, parts, ahead=False), other)

    assert sent == 0
    assert body == b"".join(parts)
    assert header["do"] == "run"


@pytest.mark.parametrize("nbytes", [0, 100, AREA_BYTES + 1])
def test_a_body_that_is_short_or_does_not_fit_is_sent(
    shared: SharedBodies, other: SharedBodies, nbytes: int
) -> None:
    body = os.urandom(nbytes)

    for pack in (partial(shared.with_request, ahead=False), shared.with_answer):
        sent, received, _ = _received(pack({}, [body]), other)

        assert sent == nbytes
        assert received == body


def test_an_answer_stays_while_the_next_request_and_its_answer_are_written(
    shared: SharedBodies, other: SharedBodies
) -> None:
    kept: list[tuple[bytes, memoryview]] = []
    for number in range(12):
        body = bytes([number]) * (AREA_BYTES if number % 3 else 20_000 + number)
        small = number % 4 == 3  # travels with its header, and takes no area
        _, answer, _ = _received(other.with_answer({}, [b"small" if small else body]), shared)
        kept.append((b"small" if small else body, answer))
        shared.with_request({}, [b"r" * AREA_BYTES], ahead=bool(number % 2))

        for wanted, seen in kept[-2:]:
            assert seen == wanted
    assert kept[-1][1].readonly


def test_a_request_stays_while_another_goes_ahead_of_it(shared: SharedBodies, other: SharedBodies) -> None:
    kept: list[tuple[bytes, memoryview]] = []
    for number in range(9):
        body = bytes([number]) * (AREA_BYTES - number)
        # Now and then nothing is under way, and the next one begins anew.
        ahead = number % 4 != 0
        _, request, _ = _received(shared.with_request({}, [body], ahead=ahead), other)
        kept = [*kept[-1:], (body, request)] if ahead else [(body, request)]

        for wanted, seen in kept:
            assert seen == wanted


@pytest.mark.parametrize(
    "place", [[-1, 5], [5, 1], [0, 1 << 40], [0], "all", {"a": 1}, [0.5, 1.5], [None, 3]]
)
def test_a_place_that_there_is_not_is_refused(shared: SharedBodies, place: object) -> None:
    with pytest.raises(ValueError, match="no body can lie"):
        shared.body_of({"shared": place}, memoryview(b""))


@pytest.mark.parametrize("nbytes", [0, 5 * AREA_BYTES])
def test_neither_process_can_change_how_much_memory_there_is(shared: SharedBodies, nbytes: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(shared.descriptor, nbytes)
